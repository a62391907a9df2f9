"""How many processes train, and how they share the model's memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.strict import Seconds, Strict, Workers
from ixt_rl.errors import ConfigError


class LaunchBlock(Strict):
    """The ranks of a run: processes that train one model together, each on its part of every batch."""

    ranks: Workers = Field(1, description="processes that train, one a GPU; more than one are started by `ixt-rl run`")
    strategy: Literal["ddp", "zero2", "zero3", "fsdp2"] = Field(
        "ddp",
        description="what each rank holds: all (ddp), a part of the optimizer's state and gradients (zero2), or of the "
        "weights too (zero3, fsdp2)",
    )
    offload: bool = Field(
        False, description="keep the optimizer's state (zero3, fsdp2: the weights too) in the host's memory"
    )
    deadline: Seconds = Field(1800.0, description="seconds that a rank waits for the others before the run stops")

    @model_validator(mode="after")
    def _strategy(self, info: ValidationInfo) -> LaunchBlock:
        if self.offload and self.strategy == "ddp":
            raise ConfigError(
                "offload with strategy: ddp",
                reason="every rank of ddp holds and updates the whole model where it trains",
                remedy="set strategy: zero2, zero3 or fsdp2, or leave offload out",
            )
        if self.strategy in ("zero2", "zero3"):
            checks.needs_backend("deepspeed", f"launch.strategy: {self.strategy}", info)
        return self
