"""Judging rows: they become questions of the rubric, and the judge's answers feedback columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ixt_rl.annotation.batch import Asker, Filled
from ixt_rl.annotation.check import compare_again
from ixt_rl.annotation.job import Job
from ixt_rl.annotation.pieces import Piece, texts
from ixt_rl.annotation.source import Source
from ixt_rl.data.feedback_columns import feedback_columns
from ixt_rl.judging.answer import Answer, Question, Tally
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.client import Judge
from ixt_rl.judging.rubric import well_formed
from ixt_rl.types import Feedback

OUTSIDE = "outside the fraction"


class JudgeAsker(Asker):
    """A judge, asked for every document; its cache makes equal documents one question."""

    def __init__(self, job: Job, backend: JudgeBackend, cache: JudgeCache):
        self.job = job
        self._judge = self._new_judge(backend, cache, job.repeats)

    @property
    def tally(self) -> Tally:
        return self._judge.tally

    def questions(self, piece: Piece) -> list[Question | Filled]:
        return [self._question(fields) for fields in texts(piece, self.job.fields)]

    def stream(self, questions: Iterable[Question]) -> Iterator[tuple[int, Filled]]:
        for index, answer in self._judge.stream(questions):
            yield index, Filled(answer_columns(self.job, answer), answer.verdict.score is None)

    def again(self, source: Source, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks once more than before, with another sample number; see `compare_again`."""
        assert self._judge.cache is not None
        judge = self._new_judge(self._judge.backend, self._judge.cache, self.job.repeats + 1)
        judge.tally = self._judge.tally
        return compare_again(self.job, source, judge, rows)

    def _question(self, fields: Mapping[str, str]) -> Question | Filled:
        reason = reason_to_skip(self.job, fields)
        return Filled(skipped_columns(self.job, reason)) if reason else Question(self.job.rubric, fields)

    def _new_judge(self, backend: JudgeBackend, cache: JudgeCache, repeats: int) -> Judge:
        return Judge(backend, self.job.sampling, repeats=repeats, cache=cache, prices=self.job.prices)


def reason_to_skip(job: Job, fields: Mapping[str, str]) -> str:
    """Why a row is not judged; "" if it is."""
    for name in job.rubric.fields:
        if name not in fields:
            return f"no {name}"
    return "" if content_share(fields) < job.fraction else OUTSIDE


def content_share(fields: Mapping[str, str]) -> float:
    """A number from 0 to 1, the same for equal texts, evenly spread over different ones."""
    digest = hashlib.blake2b(repr(sorted(fields.items())).encode(), digest_size=8, person=b"annotate").digest()
    return int.from_bytes(digest, "big") / (1 << 64)


def answer_columns(job: Job, answer: Answer) -> dict[str, Any]:
    """The new columns of a judged row; the tokens are those of its replies, asked for now or before."""
    decided = answer.verdict.score is not None
    row = feedback_columns(
        answer.feedback,
        "judged" if decided else "undecided",
        reason="" if decided else answer.verdict.evidence,
        tokens=answer.prompt_tokens + answer.completion_tokens,
        prefix=job.prefix,
    )
    found = row[f"{job.prefix}_scores"]
    row[f"{job.prefix}_scores"] = {axis: found.get(axis) for axis in job.axes} or None
    for name in ("critique", "reason", "judge"):
        row[f"{job.prefix}_{name}"] = well_formed(row[f"{job.prefix}_{name}"])
    return row


def skipped_columns(job: Job, reason: str) -> dict[str, Any]:
    row = feedback_columns(Feedback(), "skipped", reason=reason, prefix=job.prefix)
    return row | {f"{job.prefix}_scores": None}
