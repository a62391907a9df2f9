"""What methods share that score rationales with a model that is told something: which model, and told what beside it.

Imports no torch.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import PositiveInt, Strict
from ixt_rl.errors import ConfigError

_NEEDS = {"ema": "decay", "lagged": "every"}


class PosteriorBlock(Strict):
    """Which model, shown the answer, estimates the posterior."""

    source: Literal["live", "frozen", "ema", "lagged"] = "live"
    decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="ema only: per update")
    every: PositiveInt | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="lagged only: after so many updates the copy takes over the policy's weights",
    )

    @model_validator(mode="after")
    def _fits(self) -> PosteriorBlock:
        for source, key in _NEEDS.items():
            if (self.source == source) != (getattr(self, key) is not None):
                raise ConfigError(
                    f"source={self.source} with {key}={getattr(self, key)}",
                    reason="a moving average needs its decay, and nothing else has one"
                    if source == "ema"
                    else "a copy that lags behind needs how many updates, and nothing else does",
                    remedy=f"set source: {source} with {key}: {'0.99' if source == 'ema' else '10'} (say), or another "
                    f"source without {key}",
                )
        return self


class ToldBlock(Strict):
    """A method with a told pass: the rationales that are trained once more, without gradient, by the told model."""

    posterior: PosteriorBlock = PosteriorBlock()

    @property
    def tells_wrong(self) -> bool:
        """Whether there is a second such pass, told a wrong answer."""
        return False


class ContrastBlock(ToldBlock):
    """A told pass whose factor may be one of a right against a wrong answer."""

    contrast: bool = Field(
        False,
        exclude_if=operator.not_,
        description="the model told a wrong answer takes the policy's place in the denominator of the factor: what "
        "any answer would change cancels",
    )

    @property
    def tells_wrong(self) -> bool:
        return self.contrast


def told_options(block: ToldBlock) -> dict[str, Any]:
    """The options of `ixt_rl.trainers.told.ToldOptions`, and `contrast`; those that change nothing are left out."""
    found: dict[str, Any] = {"posterior": block.posterior.source, "posterior_decay": block.posterior.decay}
    if block.posterior.every is not None:
        found["posterior_every"] = block.posterior.every
    if isinstance(block, ContrastBlock) and block.contrast:
        found["contrast"] = True
    return found


def tells(block: ToldBlock) -> tuple[Literal["wrong"], ...]:
    """What the rows of a stage with this block are told beside their answer; see `OnlineStage.tells`."""
    return ("wrong",) if block.tells_wrong else ()
