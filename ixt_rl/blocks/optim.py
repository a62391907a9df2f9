"""The optimizer and its schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from ixt_rl.blocks.strict import NonNegativeFloat, NonNegativeInt, PositiveFloat, Share, Strict
from ixt_rl.errors import ConfigError


class OptimBlock(Strict):
    """The optimizer and its schedule."""

    name: Literal["adamw", "adafactor", "sgd", "adagrad", "rmsprop"] = Field(
        "adamw", description="as transformers and torch have them; sgd is without momentum, adafactor takes lr as it is"
    )
    lr: PositiveFloat
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.95], description="adamw only"
    )
    weight_decay: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    min_lr_ratio: Share = Field(0.0, description="cosine only: where it ends, as a share of lr")
    max_grad_norm: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _betas(self) -> OptimBlock:
        if self.name != "adamw" and self.betas != type(self).model_fields["betas"].default:
            raise ConfigError(
                f"betas={self.betas} with name={self.name}",
                reason="of these optimizers only adamw has betas",
                remedy="leave betas out, or set name: adamw",
            )
        return self

    @model_validator(mode="after")
    def _min_ratio(self) -> OptimBlock:
        if self.min_lr_ratio and self.schedule != "cosine":
            raise ConfigError(
                f"min_lr_ratio={self.min_lr_ratio} with schedule={self.schedule}",
                reason="only the cosine schedule has a floor",
                remedy="set schedule: cosine, or leave min_lr_ratio out",
            )
        return self
