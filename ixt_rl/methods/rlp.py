"""RLP (arXiv 2510.01265): thoughts are rewarded for what they tell of the text that follows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ixt_rl.blocks.strict import PositiveFloat
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.self_reward import SelfRewardBlock, SelfRewardStage, target_option
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel


class RlpBlock(SelfRewardBlock):
    """RLP (arXiv 2510.01265)."""

    decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.999, description="of the moving average that predicts without the thought, per update"
    )
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None


class RlpStage(SelfRewardStage):
    """RLP: thoughts are rewarded for how much likelier they make what follows, against an average without them."""

    type: Literal["rlp"]
    rlp: RlpBlock = RlpBlock()
    block: ClassVar[str] = "rlp"

    @property
    def averages(self) -> str:
        return "type: rlp"


def options(stage: RlpStage) -> dict[str, Any]:
    """`RLPConfig`'s."""
    return {**target_option(stage), **stage.rlp.model_dump(include={"decay", "epsilon", "epsilon_high"})}


def label(block: Block) -> str:
    return "RLP"


SPEC = MethodSpec(
    type="rlp",
    stage=RlpStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.rlp:RLPTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="rlp",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="RLP's reward",
        caption="How many nats a thought tells of the text that follows; dotted: 0, a thought that tells nothing.",
        panels=(Panel("told by a thought (nats)", (("self_reward", "-", ""),), 0.0),),
        glossary={
            "self_reward": "log-prob of the text that follows after a thought, less the average's without it",
            "rlp/untold": "log-prob of the text that follows, by the moving average, without a thought",
        },
    ),
)
