"""LaTRO (arXiv 2411.04282): rewarded by the model's own log-prob of the answer after the rationale."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ixt_rl.blocks.strict import NonNegativeFloat
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.self_reward import SelfRewardBlock, SelfRewardStage, target_option
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel


class LatroBlock(SelfRewardBlock):
    """LaTRO (arXiv 2411.04282)."""

    kl: NonNegativeFloat = Field(0.05, description="penalty for moving away from the initial model; 0: none")


class LatroStage(SelfRewardStage):
    """LaTRO: rationales are rewarded by the model's own log-prob of the answer after them; no verifier."""

    type: Literal["latro"]
    latro: LatroBlock = LatroBlock()
    block: ClassVar[str] = "latro"

    @property
    def weighs_by_ratio(self) -> bool:
        return False


def options(stage: LatroStage) -> dict[str, Any]:
    """`LaTROConfig`'s."""
    return {**target_option(stage), "kl": stage.latro.kl}


def label(block: Block) -> str:
    return "LaTRO"


SPEC = MethodSpec(
    type="latro",
    stage=LatroStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.latro:LaTROTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="latro",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="LaTRO's reward",
        caption="The model's own log-prob of the answer after its rationales, and how far it has moved.",
        panels=(
            Panel("log-prob of the answer (nats)", (("latro/score", "-", ""),)),
            Panel("KL to the initial model, per rationale (nats)", (("latro/kl", "-", ""),)),
        ),
        glossary={
            "self_reward": "the model's own reward of a rationale",
            "latro/score": "log-prob of the answer after a rationale, summed over its tokens",
            "latro/kl": "log p(z | x) less the initial model's, of sampled rationales",
        },
    ),
)
