"""Which of a stage's evaluations decides what it hands on, and when it stops early."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import PositiveInt, Strict
from ixt_rl.errors import ConfigError


class KeepBestBlock(Strict):
    """The model of the best evaluation is handed on, not the last one; of equal ones, the first."""

    metric: Annotated[str, Field(min_length=1)] = Field(
        description="of the stage's evaluations, as metrics.jsonl calls it: greedy/checked, heldout/loss"
    )
    mode: Literal["max", "min"] = Field(description="whether more or less is better")


class EarlyStoppingBlock(Strict):
    """Ends a stage once `keep_best` has seen nothing better for a while."""

    patience: PositiveInt = Field(description="evaluations in a row that are no better than the best before")


class BestBlock(Strict):
    """What stages with evaluations have."""

    keep_best: KeepBestBlock | None = Field(
        None, description="hand on the model of the best evaluation; each then measures all that the last one would"
    )
    early_stopping: EarlyStoppingBlock | None = None

    @model_validator(mode="after")
    def _measured(self) -> Self:
        evaluation: Any = getattr(self, "evaluation", None)
        if self.keep_best is not None and evaluation is None:
            raise ConfigError(
                f"keep_best.metric={self.keep_best.metric} without evaluation",
                reason="nothing is measured in the stage",
                remedy="give the stage an evaluation (on files: data.eval_rows), or leave keep_best out",
            )
        if self.early_stopping is not None and self.keep_best is None:
            raise ConfigError(
                f"early_stopping.patience={self.early_stopping.patience} without keep_best",
                reason="keep_best says which metric has to get better, and whose model is then handed on",
                remedy="give keep_best: {metric: ..., mode: max}, or leave early_stopping out",
            )
        return self
