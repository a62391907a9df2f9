"""RLOO (arXiv 2402.14740): REINFORCE with a leave-one-out baseline."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ixt_rl.blocks.strict import PositiveFloat, Strict
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec


class RlooBlock(Strict):
    """RLOO (arXiv 2402.14740); bounds of the ratio of a whole rationale, where rollouts serve several updates."""

    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None


class RlooStage(OnlineStage):
    """RLOO: a rollout is weighed by how far its reward is from the mean of the others in its group."""

    type: Literal["rloo"]
    rloo: RlooBlock = RlooBlock()
    block: ClassVar[str] = "rloo"


def options(stage: RlooStage) -> dict[str, Any]:
    """`RLOOConfig`'s."""
    return stage.rloo.model_dump()


def label(block: Block) -> str:
    return "RLOO"


SPEC = MethodSpec(
    type="rloo",
    stage=RlooStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.rloo:RLOOTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="rloo",
    report=MethodReport(label=label, learns_from="rollouts"),
)
