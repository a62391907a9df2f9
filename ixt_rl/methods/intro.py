"""InTRO (arXiv 2511.09865): token-level weights from the model's own answer-conditioned posterior."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.keeping import KeepBlock, kept_by
from ixt_rl.blocks.strict import BatchSize, PositiveFloat
from ixt_rl.blocks.told import ContrastBlock, tells, told_options
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel
from ixt_rl.methods.style import STYLE, STYLE_WORDS


class IntroBlock(KeepBlock, ContrastBlock):
    """InTRO (arXiv 2511.09865); the paper's setting is the default."""

    candidates: BatchSize | Literal["exact"] = Field(5, description="n, the taken token included")
    include_taken: bool = True
    clip: PositiveFloat | None = 200.0
    sign: Literal["advantage"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="advantage: all rollouts are trained, each weighed by its group's advantage, and the factor is "
        "inverted where that is negative: the told model sets the size, never the sign",
    )
    importance_ratio: bool = Field(
        False,
        description="weigh tokens by the ratio of the policy to the one that sampled, so that rollouts may serve "
        "several updates; by engine.correction, or where the engine reads none: token, truncate, cap 2",
    )

    @model_validator(mode="after")
    def _kept_or_signed(self) -> IntroBlock:
        if self.sign is not None and (self.keep is not None or self.keep_reward != 1.0):
            raise ConfigError(
                f"sign: {self.sign} with keep or keep_reward",
                reason="nothing is kept or dropped then: rollouts count by the weighted sums of their rewards",
                remedy="leave keep and keep_reward out, and set weights of rewards",
            )
        return self


class IntroStage(OnlineStage):
    """InTRO: kept rationales are trained token by token, on n candidates weighed by the answer-told posterior."""

    type: Literal["intro"]
    intro: IntroBlock = IntroBlock()
    block: ClassVar[str] = "intro"

    @property
    def weighs_by_ratio(self) -> bool:
        return self.intro.importance_ratio

    @property
    def kept_by(self) -> KeepBlock | None:
        return None if self.intro.sign is not None else super().kept_by

    @property
    def tells(self) -> tuple[Literal["wrong", "random", "form"], ...]:
        return tells(self.intro)


def options(stage: IntroStage) -> dict[str, Any]:
    """`InTROConfig`'s."""
    intro = stage.intro
    found = intro.model_dump(include={"candidates", "include_taken", "clip", "importance_ratio", "sign"})
    return {**found, **told_options(intro), **kept_by(stage.rewards, intro)}


def label(block: Block) -> str | None:
    intro = block.get("intro") or {}
    candidates = intro.get("candidates")
    if candidates is None:
        return None
    words = ["InTRO", "exact" if candidates == "exact" else f"n={candidates}"]
    return " ".join([*words, *(name for name in ("contrast", "sign") if intro.get(name))])


SPEC = MethodSpec(
    type="intro",
    stage=IntroStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.intro:InTROTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="intro",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="InTRO's factor",
        caption="The factor q/p of InTRO in training; dotted: 1, where it changes nothing.",
        panels=(
            Panel("mean factor", (("factor/taken", "-", "taken"), ("factor/sampled", "--", "candidates")), 1.0),
            Panel(
                "factor on taken tokens",
                (("factor/taken_right", "-", "right"), ("factor/taken_wrong", "--", "wrong")),
                1.0,
            ),
            Panel("share of factors clipped", (("factor/clipped", "-", ""),)),
            STYLE,
            Panel("KL of policy and posterior (nats)", (("factor/kl", "-", ""),)),
        ),
        glossary={
            "factor/taken": "InTRO's factor, posterior over policy probability, on the tokens that were sampled; "
            "of RLSD and RLCSD, what multiplies a token's advantage",
            "factor/sampled": "the same on candidates drawn from the policy; its expectation is 1, so it tests itself "
            "(not with `contrast` or `sign`)",
            "factor/taken_right": "factor on tokens of steps that are right",
            "factor/taken_wrong": "factor on tokens of steps that are wrong: below 1 where the posterior doubts them",
            "factor/clipped": "share of factors cut at the clip value",
            **STYLE_WORDS,
            "factor/kl": "KL divergence of the policy from the posterior at each token, in nats",
        },
    ),
)
