"""GRPO (arXiv 2402.03300), through TRL."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ixt_rl.blocks.strict import NonNegativeFloat, PositiveFloat, Strict
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec


class GrpoBlock(Strict):
    """GRPO (arXiv 2402.03300), through TRL."""

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "grpo"
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    beta: NonNegativeFloat = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"


class GrpoStage(OnlineStage):
    """GRPO: rollouts of a group are weighed by how far their reward is from the group's mean."""

    type: Literal["grpo"]
    grpo: GrpoBlock = GrpoBlock()
    block: ClassVar[str] = "grpo"


def options(stage: GrpoStage) -> dict[str, Any]:
    """`GRPOConfig`'s."""
    return stage.grpo.model_dump()


def label(block: Block) -> str:
    return "GRPO"


SPEC = MethodSpec(
    type="grpo",
    stage=GrpoStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.grpo:GRPOTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="grpo",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        glossary={"frac_reward_zero_std": "share of groups whose rewards are all equal, which teach GRPO nothing"},
    ),
)
