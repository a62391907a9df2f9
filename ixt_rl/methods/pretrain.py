"""Plain next-token prediction: on an addition world's pairs, which makes the base that runs share, or on documents.

One name for two shapes: which one a stage is, its data's world says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import ADDITIONS, WorldDataBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.blocks.strict import (
    BatchSize,
    Seed,
    Steps,
)
from ixt_rl.errors import ConfigError
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.runners import DOCUMENTS
from ixt_rl.methods.spec import MethodReport, MethodSpec
from ixt_rl.methods.stage import Stage


class PretrainStage(Stage):
    """Next-token prediction on the prompts and rationales of an addition world; the base is shared by all runs."""

    type: Literal["pretrain"]
    data: WorldDataBlock
    steps: Steps
    batch_size: BatchSize = 64
    optim: OptimBlock
    seed: Seed = 0

    @model_validator(mode="after")
    def _rows(self) -> PretrainStage:
        checks.needs_rows(self.steps * self.batch_size, f"steps={self.steps} with batch_size={self.batch_size}")
        return self


class DocumentPretrainStage(DocumentStage):
    """Plain next-token prediction on documents, from scratch or from a checkpoint."""

    type: Literal["pretrain"]

    def check_kind(self) -> None:
        if self.feedback.template is not None:
            raise ConfigError(
                "feedback.template with type: pretrain",
                reason="plain pretraining shows no feedback",
                remedy="set type: ixt, or leave feedback out",
            )


def on_pairs(read: Callable[[str], Any]) -> bool:
    """Whether a stage's data are an addition world's pairs."""
    data = read("data")
    return (data.get("world") if isinstance(data, dict) else getattr(data, "world", None)) in ADDITIONS


PAIRS = MethodSpec(
    type="pretrain",
    stage=PretrainStage,
    runner="ixt_rl.run.stages.pretrain:run",
    trainer="ixt_rl.trainers.pretrain:PretrainTrainer",
    seeded=False,
    shared=True,
    takes=on_pairs,
    report=MethodReport(role="base"),
)

DOCUMENTS_SPEC = MethodSpec(
    type="pretrain",
    stage=DocumentPretrainStage,
    runner=DOCUMENTS,
    trainer="ixt_rl.trainers.ixt:IXTTrainer",
    report=MethodReport(learns_from="documents", role="base"),
)
