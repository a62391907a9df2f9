"""What an annotation job is: its settings, and which of them decide what the rows say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ixt_rl.annotation.judges import JudgeSpec
from ixt_rl.config.problems import did_you_mean
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.rubric import OVERALL, VERDICT, Rubric
from ixt_rl.types import Feedback, SamplingParams

Format = Literal["parquet", "jsonl"]

COLUMNS = ("level", "scores", "critique", "judge", "status", "reason", "tokens")
"""What `feedback_columns` gives, after the prefix."""


@dataclass(frozen=True)
class Job:
    """Everything that the rows of an annotation depend on, and what its judge costs. It can be pickled.

    Args:
        rubric: what is asked.
        fields: field of the rubric -> column of the rows; `a.b` is the entry `b` of column `a`.
        judge: who is asked.
        sampling: how its answers are sampled.
        repeats: votes on every document.
        fraction: share of the documents that are judged, chosen by the hash of their texts: the documents of a smaller
            share are among those of a larger one.
        prefix: start of the new columns' names.
        format: of the files written.
        shard_rows: rows of each file but the last.
        prices: per million prompt and per million completion tokens.
        cache: file of the judge's replies; None keeps it in the folder of the output.

    Raises:
        ConfigError: a value that cannot work.
    """

    rubric: Rubric
    fields: Mapping[str, str]
    judge: JudgeSpec
    sampling: SamplingParams
    repeats: int = 1
    fraction: float = 1.0
    prefix: str = "feedback"
    format: Format = "parquet"
    shard_rows: int = 10_000
    prices: tuple[float, float] = (0.0, 0.0)
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, value, right, remedy in (
            ("fraction", self.fraction, 0 < self.fraction <= 1, "a share of the documents, above 0 and up to 1"),
            ("repeats", self.repeats, self.repeats >= 1, "ask at least once"),
            ("shard_rows", self.shard_rows, self.shard_rows >= 1, "at least one row a file"),
            ("prefix", self.prefix, self.prefix.isidentifier(), "letters, digits and _, like `feedback`"),
            ("max_new_tokens", self.sampling.max_new_tokens, self.sampling.max_new_tokens >= 1, "at least one token"),
            ("temperature", self.sampling.temperature, 0 <= self.sampling.temperature <= 2, "from 0 (greedy) to 2"),
        ):
            if not right:
                raise ConfigError(f"{name}={value!r}", reason="this cannot work", remedy=remedy)
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
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are added."""
        return tuple(f"{self.prefix}_{name}" for name in COLUMNS)

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """What the rows depend on, as JSON; `source` is the identity of the rows read.

        How fast, where and at which price is not in it: a job may go on with other engines.
        """
        return {
            "input": dict(source),
            "judge": self.judge.identity(),
            "rubric": self.rubric.model_dump(mode="json"),
            "fields": dict(self.fields),
            "sampling": asdict(self.sampling),
            "repeats": self.repeats,
            "fraction": self.fraction,
            "prefix": self.prefix,
            "format": self.format,
            "shard_rows": self.shard_rows,
        }


def map_fields(rubric: Rubric, given: Mapping[str, str], columns: tuple[str, ...]) -> dict[str, str]:
    """Field of the rubric -> column: what was given, else the column of the field's own name.

    Raises:
        DataError: a field that the rubric does not have, or needs and no column is for; or a column that is not there.
    """
    known = [*rubric.fields, *rubric.optional]
    for name in given:
        if name not in known:
            raise DataError(
                f"--field {name}=...",
                reason=f"rubric {rubric.name} has no field {name!r}",
                remedy=f"{did_you_mean(name, known)}its fields: {', '.join(known)}",
            )
    mapped = {}
    for name in known:
        column = given.get(name, name)
        if column.partition(".")[0] in columns or column in columns:
            mapped[name] = column
        elif name in given or name in rubric.fields:
            raise DataError(
                f"no column {column!r} for the field `{name}` of rubric {rubric.name}",
                reason=f"the columns are {', '.join(columns)}",
                remedy=f"{did_you_mean(column, list(columns))}name it with --field {name}=COLUMN",
            )
    return mapped
