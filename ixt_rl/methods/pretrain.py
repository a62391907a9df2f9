"""Pretraining on a world's pairs: the base that runs share."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import WorldData
from ixt_rl.blocks.optim import Optim
from ixt_rl.blocks.strict import (
    BatchSize,
    Seed,
    Steps,
)
from ixt_rl.methods.stage import Stage


class PretrainStage(Stage):
    """Next-token prediction on the prompts and rationales of the addition world; the base is shared by all runs."""

    type: Literal["pretrain"]
    data: WorldData
    steps: Steps
    batch_size: BatchSize = 64
    optim: Optim
    seed: Seed = 0

    @model_validator(mode="after")
    def _rows(self) -> PretrainStage:
        checks.needs_rows(self.steps * self.batch_size, f"steps={self.steps} with batch_size={self.batch_size}")
        return self
