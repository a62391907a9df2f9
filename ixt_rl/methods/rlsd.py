"""RLSD (arXiv 2604.03128): the told model sets the size of each token's credit, the reward its sign."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ixt_rl.blocks.strict import PositiveFloat, Share
from ixt_rl.blocks.told import ContrastBlock, PosteriorBlock, tells, told_options
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel
from ixt_rl.methods.style import STYLE, STYLE_WORDS


class RlsdBlock(ContrastBlock):
    """RLSD (arXiv 2604.03128); the paper's equation is the default."""

    posterior: PosteriorBlock = PosteriorBlock(source="frozen")
    factor_epsilon: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="the factor of a token lies between 1 less this and 1 more than this"
    )
    mix: Share = Field(1.0, description="1: the factor as it is, 0: none (GRPO); the authors' code has 0.5")
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    scale_rewards: Literal["group", "batch", "none"] = "group"


class RlsdStage(OnlineStage):
    """RLSD: GRPO whose advantage is spread over a rollout's tokens by what the told model makes of them."""

    type: Literal["rlsd"]
    rlsd: RlsdBlock = RlsdBlock()
    block: ClassVar[str] = "rlsd"

    @property
    def tells(self) -> tuple[Literal["wrong", "random", "form"], ...]:
        return tells(self.rlsd)


def options(stage: RlsdStage) -> dict[str, Any]:
    """`RLSDConfig`'s."""
    return {**stage.rlsd.model_dump(exclude={"posterior", "contrast"}), **told_options(stage.rlsd)}


def label(block: Block) -> str:
    return "RLSD contrast" if (block.get("rlsd") or {}).get("contrast") else "RLSD"


FACTOR_ON_TAKEN = Panel(
    "factor on taken tokens",
    (("factor/taken", "-", "all"), ("factor/taken_right", "--", "right"), ("factor/taken_wrong", ":", "wrong")),
    1.0,
)

SPEC = MethodSpec(
    type="rlsd",
    stage=RlsdStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.rlsd:RLSDTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="rlsd",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="RLSD's factor",
        caption="What multiplies the advantage of a token in training; dotted: 1, where it is GRPO's.",
        panels=(FACTOR_ON_TAKEN, Panel("share of factors clipped", (("factor/clipped", "-", ""),)), STYLE),
        glossary=STYLE_WORDS,
    ),
)
