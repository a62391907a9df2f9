"""Judging shards: rows become questions, answers columns; a shard is written when its last answer is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ixt_rl.annotation.folder import Folder
from ixt_rl.annotation.job import Job
from ixt_rl.annotation.pieces import Piece, values
from ixt_rl.annotation.source import Source
from ixt_rl.data.feedback_columns import feedback_columns
from ixt_rl.judging.answer import Answer, Question
from ixt_rl.judging.client import Judge
from ixt_rl.judging.rubric import well_formed
from ixt_rl.types import Feedback

OUTSIDE = "outside the fraction"


@dataclass(eq=False)
class _Open:
    """A shard of which answers are missing."""

    number: int
    piece: Piece
    rows: list[dict[str, Any] | None]
    left: int


class ShardJudge:
    """Judges whole shards; the next one is begun while the last answers of this one are waited for.

    Args:
        job: what is asked.
        source: the rows.
        folder: where shards go.
        judge: asked for every document; its cache makes equal documents one question.
        advanced: called with (documents passed, those of them undecided) as they pass.
    """

    def __init__(self, job: Job, source: Source, folder: Folder, judge: Judge, advanced: Callable[[int, int], None]):
        self.job, self.source, self.folder, self.judge = job, source, folder, judge
        self._advanced = advanced
        self._places: dict[int, tuple[_Open, int]] = {}
        self._types = column_types(job)

    def run(self, numbers: Iterable[int]) -> None:
        """Judges and writes these shards.

        Raises:
            BackendFailed: the judge answers nothing any more; what it answered is in the cache.
        """
        for number, answer in self.judge.stream(self._questions(numbers)):
            shard, row = self._places.pop(number)
            shard.rows[row] = answer_columns(self.job, answer)
            shard.left -= 1
            self._advanced(1, answer.verdict.score is None)
            self._finish(shard)

    def _questions(self, numbers: Iterable[int]) -> Iterator[Question]:
        asked = 0
        for number in numbers:
            start = number * self.job.shard_rows
            piece = self.source.read(start, start + self.job.shard_rows)
            texts = list(question_fields(self.job, piece))
            skipped = [reason_to_skip(self.job, fields) for fields in texts]
            rows = [skipped_columns(self.job, reason) if reason else None for reason in skipped]
            shard = _Open(number, piece, rows, rows.count(None))
            self._advanced(len(rows) - shard.left, 0)
            self._finish(shard)
            for row, fields in enumerate(texts):
                if rows[row] is None:
                    self._places[asked] = shard, row
                    asked += 1
                    yield Question(self.job.rubric, fields)

    def _finish(self, shard: _Open) -> None:
        if shard.left == 0:
            columns = {
                name: pa.array([row[name] for row in shard.rows if row is not None], kind)
                for name, kind in self._types.items()
            }
            self.folder.write_shard(shard.number, shard.piece, columns, self.source.schema)


def question_fields(job: Job, piece: Piece) -> Iterator[dict[str, str]]:
    """The rubric's fields of each row; a field whose column is null is left out."""
    columns = {name: values(piece, column) for name, column in job.fields.items()}
    for row in range(len(piece)):
        fields = {name: column[row] for name, column in columns.items() if column[row] is not None}
        yield {name: well_formed(text if isinstance(text, str) else str(text)) for name, text in fields.items()}


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


def column_types(job: Job) -> dict[str, pa.DataType]:
    """Arrow types of the new columns. Without axes besides the overall one, the scores are a column of nulls."""
    scores = pa.struct([(axis, pa.float64()) for axis in job.axes]) if job.axes else pa.null()
    kinds = {
        "level": pa.int64(), "scores": scores, "critique": pa.string(), "judge": pa.string(), "status": pa.string(),
        "reason": pa.string(), "tokens": pa.int64(),
    }  # fmt: skip
    return {f"{job.prefix}_{name}": kind for name, kind in kinds.items()}
