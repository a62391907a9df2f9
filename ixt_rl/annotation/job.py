"""What an annotation job is: its settings, and which of them decide what the rows say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa

from ixt_rl.annotation.batch import BatchJob, map_fields, require_sampling, require_values
from ixt_rl.annotation.judges import JudgeSpec, OpenJudge, open_judge
from ixt_rl.annotation.source import Source
from ixt_rl.errors import ConfigError
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.rubric import OVERALL, VERDICT, Rubric
from ixt_rl.types import Feedback, SamplingParams

if TYPE_CHECKING:
    from ixt_rl.annotation.shards import JudgeAsker


@dataclass(frozen=True)
class Job(BatchJob):
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
    def reason(self) -> str:
        return f"{self.prefix}_reason"

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
        return {f"{self.prefix}_{name}": kind for name, kind in kinds.items()}

    def check(self) -> None:
        self.judge.check(self.sampling)

    def with_columns(self, columns: tuple[str, ...]) -> Self:
        rubric = self.rubric
        found = map_fields(f"rubric {rubric.name}", rubric.fields, rubric.optional, self.fields, columns)
        return replace(self, fields=found)

    def check_rows(self, source: Source) -> None:
        """Any text can be judged."""

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
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

    def start(self) -> OpenJudge:
        return open_judge(self.judge, self.sampling)

    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> JudgeAsker:
        from ixt_rl.annotation.shards import JudgeAsker

        return JudgeAsker(self, backend, cache)
