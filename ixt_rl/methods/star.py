"""STaR (arXiv 2203.14465): next-token prediction on right rationales that were sampled told the answer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ixt_rl.blocks.keeping import KeepBlock, kept_by
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel


class StarBlock(KeepBlock):
    """STaR; the defaults are told-NLL, which copies the told mode of the initial model."""

    told: Literal["all", "half", "failed"] = Field(
        "all", description="sampled from the told prompt: all rationales, half of each group, or groups that failed"
    )
    sampler: Literal["frozen", "live"] = Field(
        "frozen", description="who samples in training: the model that the stage starts from, or the policy"
    )


class StarStage(OnlineStage):
    """STaR: next-token prediction on right rationales that were sampled told the answer."""

    type: Literal["star"]
    star: StarBlock = StarBlock()
    block: ClassVar[str] = "star"
    weighs_samples: ClassVar[bool] = False

    @property
    def samples_again(self) -> str:
        return super().samples_again or ("star.told: failed" if self.star.told == "failed" else "")

    @property
    def uses_ratio(self) -> bool:
        return False

    @property
    def reusable(self) -> bool:
        return True


def options(stage: StarStage) -> dict[str, Any]:
    """`STaRConfig`'s."""
    return {"told": stage.star.told, "sampler": stage.star.sampler, **kept_by(stage.rewards, stage.star)}


def label(block: Block) -> str:
    own = block.get("star") or {}
    return "told-NLL" if own.get("told", "all") == "all" and own.get("sampler", "frozen") == "frozen" else "STaR"


SPEC = MethodSpec(
    type="star",
    stage=StarStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.star:STaRTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="star",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="STaR's samples",
        caption="Shares of rationales that are kept, of those sampled told the answer and of the others.",
        panels=(
            Panel("share kept", (("rollout/kept_told", "-", "told"), ("rollout/kept_untold", "--", "untold"))),
            Panel("share sampled told", (("rollout/told", "-", ""),)),
        ),
        glossary={
            "rollout/told": "share of rationales that were sampled from the told prompt",
            "rollout/kept_told": "share of those that are kept",
            "rollout/kept_untold": "share of the others that are kept",
        },
    ),
)
