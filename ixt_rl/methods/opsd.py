"""OPSD (arXiv 2601.18734): the told model is distilled into the untold one, on the untold one's own rollouts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.told import PosteriorBlock, ToldBlock, told_options
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel

_BETA = 0.5


class OpsdBlock(ToldBlock):
    """OPSD (arXiv 2601.18734); the defaults are those of its authors' scripts."""

    divergence: Literal["jsd", "forward_kl", "reverse_kl"] = Field(
        "jsd", description="of policy p and teacher q at every position, over the whole vocabulary"
    )
    beta: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description=f"jsd only: the teacher's share in the mixture beta q + (1 - beta) p; default: {_BETA}"
    )
    posterior: PosteriorBlock = Field(
        PosteriorBlock(source="frozen"), description="the teacher: which model is told the answer"
    )

    @model_validator(mode="after")
    def _beta(self) -> OpsdBlock:
        if self.beta is not None and self.divergence != "jsd":
            raise ConfigError(
                f"beta={self.beta} with divergence: {self.divergence}",
                reason="only jsd compares with a mixture",
                remedy="leave beta out, or set divergence: jsd",
            )
        return self


class OpsdStage(OnlineStage):
    """OPSD: the divergence from the answer-told teacher is trained away, token by token, on all rollouts."""

    type: Literal["opsd"]
    opsd: OpsdBlock = OpsdBlock()
    block: ClassVar[str] = "opsd"
    weighs_samples: ClassVar[bool] = False

    @property
    def weighs_by_ratio(self) -> bool:
        return False

    @property
    def uses_ratio(self) -> bool:
        return False

    @property
    def reads_rewards(self) -> bool:
        return False

    @property
    def surprises(self) -> list[str]:
        return [f"stages.{self.name}.rewards: opsd trains every rollout whatever its reward: logged, no more"]

    @model_validator(mode="after")
    def _nothing_is_dropped(self) -> OpsdStage:
        if self.dynamic_sampling is not None:
            raise ConfigError(
                "dynamic_sampling with type: opsd",
                reason="every rollout is trained, so that no group would ever be drawn again",
                remedy="leave it out",
            )
        return self


def options(stage: OpsdStage) -> dict[str, Any]:
    """`OPSDConfig`'s."""
    own = stage.opsd
    return {
        "divergence": own.divergence,
        "jsd_beta": _BETA if own.beta is None else own.beta,
        **told_options(own),
    }


def label(block: Block) -> str:
    divergence = (block.get("opsd") or {}).get("divergence", "jsd")
    return {"forward_kl": "OPSD KL(q‖p)", "reverse_kl": "OPSD KL(p‖q)"}.get(divergence, "OPSD")


SPEC = MethodSpec(
    type="opsd",
    stage=OpsdStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.opsd:OPSDTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="opsd",
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        title="OPSD's teacher",
        caption="How far the told teacher is from the policy in OPSD's training.",
        panels=(
            Panel("divergence of policy and teacher (nats)", (("teacher/divergence", "-", ""),)),
            Panel(
                "log q/p of taken tokens",
                (("teacher/log_ratio_right", "-", "right"), ("teacher/log_ratio_wrong", "--", "wrong")),
                0.0,
            ),
        ),
        glossary={
            "teacher/divergence": "OPSD's divergence of policy and told teacher, mean over trained tokens, in nats",
            "teacher/log_ratio": "log-probability of the taken token by the teacher less that by the policy",
            "teacher/log_ratio_right": "the same on tokens of right steps",
            "teacher/log_ratio_wrong": "the same on tokens of wrong steps: below 0 where the teacher doubts them",
        },
    ),
)
