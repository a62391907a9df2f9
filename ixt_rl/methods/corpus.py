"""What stages that make rows share: annotate and rewrite. They read no model of the run and make none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.rows import JobRows
from ixt_rl.blocks.strict import NonNegativeFloat, NonNegativeInt, Rows, Strict, Workers
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.methods.spec import MethodReport
from ixt_rl.methods.stage import Stage


class RayWorkersBlock(Strict):
    """Where a job runs with Ray: judges or rewriters side by side, each an actor of its own."""

    workers: Workers = 1
    cpus_per_worker: NonNegativeInt = 1
    gpus_per_worker: NonNegativeInt = 0
    address: str | None = Field(None, description="of a running cluster, or `auto`; default: start Ray here")


class CorpusStage(Stage):
    """Rows in, the same rows with more columns out; a later stage reads them by `from`, with this stage's name."""

    data: JobRows
    fields: dict[str, str] = Field({}, description="field of what is asked: column of the rows; `a.b` is an entry")
    format: Literal["parquet", "jsonl"] = Field("parquet", description="of the files written")
    shard_rows: Rows = Field(10_000, description="rows of each file")
    prices: Annotated[list[NonNegativeFloat], Field(min_length=2, max_length=2)] = Field(
        [0.0, 0.0], description="per million tokens read, written"
    )
    cache: str | None = Field(None, description="file of replies that jobs share; default: in the stage's folder")
    ray: RayWorkersBlock | None = Field(None, description="run the backend in Ray actors; default: in this process")

    @property
    def reads_model(self) -> bool:
        return False

    @model_validator(mode="after")
    def _alone(self, info: ValidationInfo) -> CorpusStage:
        if self.init is not None:
            raise ConfigError(
                f"init={self.init!r} with type: {self.type}",
                reason="it reads rows, and no model of the run",
                remedy="leave init out",
            )
        if self.ray is not None:
            checks.needs_backend("ray", "ray: {...}", info)
        return self

    def needed_fields(self, info: ValidationInfo) -> list[str]:
        """Fields that some row must have a column for; empty where nobody can say yet."""
        return []

    def check_fields(self, known: list[str] | None, whose: str) -> None:
        """Raises ConfigError for a field that there is not; `known`: None where nobody can say yet."""
        for name in self.fields:
            if known is not None and name not in known:
                raise ConfigError(
                    f"fields.{name}",
                    reason=f"{whose} has no field {name!r}",
                    remedy=did_you_mean(name, known) + f"its fields: {', '.join(known)}",
                )


def shown(**words: Any) -> MethodReport:
    """How a report shows such a stage: it is no arm, and has a section of its own."""
    return MethodReport(role="rows", glossary=words)
