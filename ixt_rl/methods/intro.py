"""InTRO (arXiv 2511.09865)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from ixt_rl.blocks.keeping import KeepFields
from ixt_rl.blocks.strict import BatchSize, PositiveFloat, Strict
from ixt_rl.errors import ConfigError


class Posterior(Strict):
    """Which model, shown the answer, estimates the posterior."""

    source: Literal["live", "frozen", "ema"] = "live"
    decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="ema only")

    @model_validator(mode="after")
    def _decay(self) -> Posterior:
        if (self.source == "ema") != (self.decay is not None):
            raise ConfigError(
                f"source={self.source} with decay={self.decay}",
                reason="a moving average needs its decay, and nothing else has one",
                remedy="set source: ema with decay: 0.99 (say), or source: live / frozen without decay",
            )
        return self


class IntroSection(KeepFields):
    """InTRO (arXiv 2511.09865); the paper's setting is the default."""

    candidates: BatchSize | Literal["exact"] = Field(5, description="n, the taken token included")
    include_taken: bool = True
    clip: PositiveFloat | None = 200.0
    posterior: Posterior = Posterior()
    importance_ratio: bool = Field(
        False,
        description="weigh tokens by the ratio of the policy to the one that sampled, so that rollouts may serve "
        "several updates; by rollout.correction, or where the engine reads none: token, truncate, cap 2",
    )
