"""RLCSD (arXiv 2606.11709): advantages moved by the contrast of a right answer told with a wrong one."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from ixt_rl.blocks.strict import NonNegativeFloat, PositiveFloat
from ixt_rl.blocks.told import PosteriorBlock, ToldBlock, tells, told_options
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.rlsd import FACTOR_ON_TAKEN
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel
from ixt_rl.methods.style import STYLE, STYLE_WORDS


class RlcsdBlock(ToldBlock):
    """RLCSD (arXiv 2606.11709); numbers and the posterior are those of the authors' runs."""

    posterior: PosteriorBlock = PosteriorBlock(source="lagged", every=10)
    tau: PositiveFloat = 0.02
    strength: PositiveFloat = 0.5
    threshold: NonNegativeFloat = 0.02
    eta: NonNegativeFloat = 1.0
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    scale_rewards: Literal["group", "batch", "none"] = "group"

    @property
    def tells_wrong(self) -> bool:
        return True

    @model_validator(mode="after")
    def _moves(self) -> RlcsdBlock:
        if self.strength <= self.threshold:
            raise ConfigError(
                f"strength={self.strength:g} with threshold={self.threshold:g}",
                reason="no move would be above the threshold, and the method would be GRPO",
                remedy="set strength above threshold",
            )
        return self


class RlcsdStage(OnlineStage):
    """RLCSD: GRPO whose advantage moves, token by token, where right and wrong answers told differ."""

    type: Literal["rlcsd"]
    rlcsd: RlcsdBlock = RlcsdBlock()
    block: ClassVar[str] = "rlcsd"

    @property
    def tells(self) -> tuple[Literal["wrong", "random", "form"], ...]:
        return tells(self.rlcsd)


def options(stage: RlcsdStage) -> dict[str, Any]:
    """`RLCSDConfig`'s."""
    posterior = {"posterior_every": None, **told_options(stage.rlcsd)}  # the config's own default is lagged
    return {**stage.rlcsd.model_dump(exclude={"posterior"}), **posterior}


def label(block: Block) -> str:
    return "RLCSD"


SPEC = MethodSpec(
    type="rlcsd",
    stage=RlcsdStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.rlcsd:RLCSDTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="rlcsd",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="RLCSD's factor",
        caption="By how much the contrast changes the advantage of a token; dotted: 1, where it is GRPO's.",
        panels=(FACTOR_ON_TAKEN, Panel("share of tokens moved", (("factor/moved", "-", ""),)), STYLE),
        glossary={
            **STYLE_WORDS,
            "factor/moved": "share of trained tokens whose advantage the contrast of told answers moves",
        },
    ),
)
