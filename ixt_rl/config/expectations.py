"""What a run file expects of the finished run, and what papers claim."""

from __future__ import annotations

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import (
    Finite,
    Name,
    NonNegativeInt,
    Strict,
)
from ixt_rl.errors import ConfigError


class ExpectationBlock(Strict):
    """A claim about the finished run, checked and reported plainly: `metric` of `stage` within a bound.

    `minus` names a stage whose value is subtracted, `over` one whose value it is divided by. `at_step` takes the
    evaluation at that step in place of the final value. With several seeds the mean over seeds is checked.
    """

    metric: str
    stage: Name
    minus: Name | None = None
    over: Name | None = None
    at_step: NonNegativeInt | None = None
    at_least: Finite | None = None
    at_most: Finite | None = None

    @model_validator(mode="after")
    def _bounded(self) -> ExpectationBlock:
        if self.at_least is None and self.at_most is None:
            raise ConfigError(
                f"an expectation of {self.metric!r} without a bound",
                reason="there is nothing to check",
                remedy="give at_least, at_most, or both",
            )
        if self.minus is not None and self.over is not None:
            raise ConfigError(
                f"an expectation of {self.metric!r} with minus and over",
                reason="it is a difference or a ratio",
                remedy="give one of them",
            )
        return self


class ClaimBlock(ExpectationBlock):
    """A claim of a paper, set beside what this run measured; it is never a failed expectation."""

    says: str = Field(description="the claim in words, with its figure")
