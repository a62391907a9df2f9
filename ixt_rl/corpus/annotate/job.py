"""What an annotation job is: its settings, and which of them decide what the rows say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import pyarrow as pa

from ixt_rl.corpus.job import Answered, Asker, BatchJob, map_fields, require_sampling, require_values
from ixt_rl.corpus.row_group import Piece, texts
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.data.feedback_columns import feedback_columns
from ixt_rl.errors import ConfigError
from ixt_rl.judging.answer import Answer, Question, Tally, combine
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.client import Judge
from ixt_rl.judging.opening import JudgeSpec, OpenJudge, open_judge
from ixt_rl.judging.rubric import OVERALL, VERDICT, Rubric, well_formed
from ixt_rl.types import Feedback, SamplingParams


@dataclass(frozen=True)
class AnnotationJob(BatchJob):
    """Everything that the rows of an annotation depend on, and what its judge costs; see `BatchJob` for the rest.

    Args:
        rubric: what is asked.
        fields: field of the rubric -> column of the rows; `a.b` is the entry `b` of column `a`.
        judge: who is asked.
        sampling: how its answers are sampled.
        repeats: votes on every document.
        fraction: share of the documents that are judged, chosen by the hash of their texts: the documents of a smaller
            share are among those of a larger one.
        prefix: start of the new columns' names.

    Raises:
        ConfigError: a value that cannot work.
    """

    report: ClassVar[str] = "annotation"
    asks: ClassVar[str] = "judge"
    phase: ClassVar[str] = "judging"
    doing: ClassVar[str] = "annotating"
    renaming: ClassVar[str] = "give the new ones another name with --prefix"

    rubric: Rubric
    fields: Mapping[str, str]
    judge: JudgeSpec
    sampling: SamplingParams
    repeats: int = 1
    fraction: float = 1.0
    prefix: str = "feedback"

    def __post_init__(self) -> None:
        require_values(
            ("fraction", self.fraction, 0 < self.fraction <= 1, "a share of the documents, above 0 and up to 1"),
            ("repeats", self.repeats, self.repeats >= 1, "ask at least once"),
            ("prefix", self.prefix, self.prefix.isidentifier(), "letters, digits and _, like `feedback`"),
        )
        require_sampling(self.sampling)
        super().__post_init__()
        try:
            Feedback(scores=dict.fromkeys(self.axes, 1.0))
        except ValueError as error:
            raise ConfigError(
                f"rubric {self.rubric.name}", reason=str(error), remedy="rename the axis in the rubric"
            ) from None

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes in the column of scores: all but the overall one, which is the level."""
        return tuple(name for name in self.rubric.axes if name not in (OVERALL, VERDICT))

    @property
    def backend(self) -> JudgeSpec:
        return self.judge

    @property
    def longest_reply(self) -> int:
        return self.sampling.max_new_tokens

    @property
    def reason(self) -> str:
        return f"{self.prefix}_reason"

    @property
    def by(self) -> str:
        return f"{self.prefix}_judge"

    @property
    def required(self) -> tuple[str, ...]:
        return self.rubric.fields

    @property
    def wanted(self) -> dict[str, str]:
        return {name: self.fields.get(name, name) for name in (*self.rubric.fields, *self.rubric.optional)}

    @property
    def mapped(self) -> Mapping[str, str]:
        return self.fields

    @property
    def types(self) -> dict[str, pa.DataType]:
        """See `BatchJob`. Without axes besides the overall one, the scores are a column of nulls."""
        scores = pa.struct([(axis, pa.float64()) for axis in self.axes]) if self.axes else pa.null()
        kinds = {
            "level": pa.int64(), "scores": scores, "critique": pa.string(), "judge": pa.string(),
            "status": pa.string(), "reason": pa.string(), "tokens": pa.int64(),
        }  # fmt: skip
        if self.rubric.pair:
            second = {f"{self.second}_{name}": kinds[name] for name in _OF_SECOND}
            kinds |= {"verdict": pa.string(), "consistent": pa.bool_(), **second}
        return {f"{self.prefix}_{name}": kind for name, kind in kinds.items()}

    @property
    def second(self) -> str:
        """The field of a pair whose feedback is the mirror image of the row's."""
        assert self.rubric.pair
        return self.rubric.pair[1]

    def check(self) -> None:
        self.judge.check(self.sampling)

    def with_columns(self, columns: tuple[str, ...]) -> Self:
        rubric = self.rubric
        found = map_fields(f"rubric {rubric.name}", rubric.fields, rubric.optional, self.fields, columns)
        return replace(self, fields=found)

    def check_rows(self, source: CorpusRows) -> None:
        """Any text can be judged."""

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "input": dict(source),
            "judge": self.judge.identity(),
            "rubric": self.rubric.model_dump(mode="json"),
            "fields": dict(self.fields),
            "sampling": self.sampling.settings(),
            "repeats": self.repeats,
            "fraction": self.fraction,
            "prefix": self.prefix,
            "format": self.format,
            "shard_rows": self.shard_rows,
            # rows of pairs had no verdict once: a folder of such rows is not gone on with
            **({"verdicts": self.second} if self.rubric.pair else {}),
        }

    def start(self) -> OpenJudge:
        return open_judge(self.judge, self.sampling)

    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> JudgeAsker:
        return JudgeAsker(self, backend, cache)


_OF_SECOND = ("level", "critique", "judge")
"""What the other answer of a pair has of its own: what training reads."""

OUTSIDE = "outside the fraction"


class JudgeAsker(Asker):
    """A judge, asked for every document; its cache makes equal documents one question."""

    def __init__(self, job: AnnotationJob, backend: JudgeBackend, cache: JudgeCache):
        self.job = job
        self._judge = self._new_judge(backend, cache, job.repeats)

    @property
    def tally(self) -> Tally:
        return self._judge.tally

    def questions(self, piece: Piece) -> list[Question | Answered]:
        return [self._question(fields) for fields in texts(piece, self.job.fields)]

    def stream(self, questions: Iterable[Question]) -> Iterator[tuple[int, Answered]]:
        for index, answer in self._judge.stream(questions):
            yield index, Answered(answer_columns(self.job, answer), answer.verdict.score is None)

    def replies(self, question: Question) -> int:
        return self.job.repeats * (2 if question.rubric.pair else 1)

    def again(self, source: CorpusRows, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks once more than before, with another sample number; see `compare_again`."""
        assert self._judge.cache is not None
        judge = self._new_judge(self._judge.backend, self._judge.cache, self.job.repeats + 1)
        judge.tally = self._judge.tally
        return compare_again(self.job, source, judge, rows)

    def _question(self, fields: Mapping[str, str]) -> Question | Answered:
        reason = reason_to_skip(self.job, fields)
        return Answered(skipped_columns(self.job, reason)) if reason else Question(self.job.rubric, fields)

    def _new_judge(self, backend: JudgeBackend, cache: JudgeCache, repeats: int) -> Judge:
        return Judge(backend, self.job.sampling, repeats=repeats, cache=cache, prices=self.job.prices)


def reason_to_skip(job: AnnotationJob, fields: Mapping[str, str]) -> str:
    """Why a row is not judged; "" if it is."""
    for name in job.rubric.fields:
        if name not in fields:
            return f"no {name}"
    return "" if content_share(fields) < job.fraction else OUTSIDE


def content_share(fields: Mapping[str, str]) -> float:
    """A number from 0 to 1, the same for equal texts, evenly spread over different ones."""
    digest = hashlib.blake2b(repr(sorted(fields.items())).encode(), digest_size=8, person=b"annotate").digest()
    return int.from_bytes(digest, "big") / (1 << 64)


def answer_columns(job: AnnotationJob, answer: Answer) -> dict[str, Any]:
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
    return row | (_pair_columns(job, answer, row) if job.rubric.pair else {})


def skipped_columns(job: AnnotationJob, reason: str) -> dict[str, Any]:
    row = feedback_columns(Feedback(), "skipped", reason=reason, prefix=job.prefix)
    missing = dict.fromkeys(name for name in job.types if name not in row)
    return row | missing | {f"{job.prefix}_scores": None}


def _pair_columns(job: AnnotationJob, answer: Answer, row: Mapping[str, Any]) -> dict[str, Any]:
    """Which of a pair is better, whether both orders say so, and the feedback of the second one.

    The row's own level is that of the first: 5 if it is better, 3 for a tie, 1 if the second is. So the second has 6
    less that.
    """
    found = {name: row[f"{job.prefix}_{name}"] for name in _OF_SECOND}
    if found["level"] is not None:
        found["level"] = 6 - found["level"]
    columns = {f"{job.second}_{name}": value for name, value in found.items()}
    columns |= {
        "verdict": None if answer.verdict.score is None else answer.verdict.label,
        "consistent": answer.consistent,
    }
    return {f"{job.prefix}_{name}": value for name, value in columns.items()}


def compare_again(job: AnnotationJob, source: CorpusRows, judge: Judge, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What the votes so far say of each row, and what one more says.

    Args:
        job: what was asked.
        source: the rows.
        judge: with one repeat more than the job has; the votes so far come out of its cache.
        rows: numbers of judged rows.

    Returns:
        for each row, `first` and `again` as {"level": ..., axis: ...} with None for undecided, and `consistent`: for
        pairs, whether both orders gave the same label, all votes counted.
    """
    questions = []
    for row in rows:
        (fields,) = texts(source.read(row, row + 1), job.fields)
        questions.append(Question(job.rubric, fields))
    found = []
    for answer in judge.ask(questions):
        old, new = _split(answer, job)
        found.append({"first": _values(old), "again": _values(new), "consistent": answer.consistent})
    return found


def _split(answer: Answer, job: AnnotationJob) -> tuple[Answer, Answer]:
    """The answer of the votes so far, and that of the further one in each order."""
    old, new = [], []
    for swapped in (False, True):
        votes = [vote for vote in answer.votes if vote.swapped is swapped]
        old += votes[: job.repeats]
        new += votes[job.repeats :]
    return combine(job.rubric, old, answer.judge), combine(job.rubric, new, answer.judge)


def _values(answer: Answer) -> dict[str, float | None]:
    return {"level": answer.level} | {
        name: answer.scores.get(name) for name in answer.axes if name not in ("overall", "verdict")
    }
