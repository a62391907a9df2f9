"""SDPO (arXiv 2601.20802) and SDFT (arXiv 2601.19897), by TRL's experimental trainers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.checks import check_shown
from ixt_rl.blocks.distilling import DistillBlock, Mode, TeacherBlock
from ixt_rl.blocks.strict import PositiveFloat
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel


class SdftBlock(DistillBlock):
    """SDFT (arXiv 2601.19897), as TRL has it."""

    teacher: TeacherBlock = TeacherBlock(source="frozen")
    mode: Mode = "topk_logits"


class SdpoBlock(DistillBlock):
    """SDPO (arXiv 2601.20802), as TRL has it, without its policy-gradient part."""

    teacher: TeacherBlock = TeacherBlock(source="ema")
    mode: Mode = "sampled_token"
    sees: Literal["told", "rollout"] = Field(
        "told", description="what the teacher sees: the told prompt, or a right rollout of the group (TRL's default)"
    )
    right_from: PositiveFloat = Field(1.0, description="weighted sum of rewards from which a rollout is right")
    reprompt: str = Field(
        "{prompt}{solution}\n\nCorrectly solve the original question.\n",
        description="sees: rollout only; the teacher's prompt, of {prompt} and {solution}",
    )
    solution: str = Field(
        "\nCorrect solution:\n\n{successful_previous_attempt}\n\n",
        description="sees: rollout only; how it shows the right rollout, {successful_previous_attempt}",
    )

    @model_validator(mode="after")
    def _shows(self) -> SdpoBlock:
        for key, fields in (("reprompt", {"prompt", "solution"}), ("solution", {"successful_previous_attempt"})):
            reason = "the teacher is shown the question with a right rollout, and nothing else"
            check_shown(key, getattr(self, key), fields, reason)
        return self


class DistilledStage(OnlineStage):
    """What stages that a self-distillation trainer of TRL's trains have in common."""

    in_process_only: ClassVar[str] = "TRL's self-distillation classes know no engine's log-probs"

    @property
    def uses_ratio(self) -> bool:
        return self.own.mode == "sampled_token" or self.reuses_rollouts

    @property
    def reads_rewards(self) -> bool:
        return False

    @property
    def surprises(self) -> list[str]:
        return [f"stages.{self.name}.rewards: {self.type} trains every rollout whatever its reward: logged, no more"]

    @model_validator(mode="after")
    def _of_trl(self) -> DistilledStage:
        if self.dynamic_sampling is not None:
            raise ConfigError(
                f"dynamic_sampling with type: {self.type}",
                reason="TRL's class trains on every group that it samples",
                remedy="leave it out",
            )
        if self.sampling.stop:
            raise ConfigError(
                f"sampling.stop={self.sampling.stop} with type: {self.type}",
                reason="TRL's class shows rewards the whole text of a completion",
                remedy="leave it out: completions end with the end-of-turn token",
            )
        if self.lora is not None and self.own.teacher.source == "ema":
            raise ConfigError(
                f"{self.block}.teacher.source=ema with lora",
                reason="TRL keeps the average of adapters where no checkpoint sees it",
                remedy="use source: frozen (the model without its adapters) or live",
            )
        return self


class SdftStage(DistilledStage):
    """SDFT: TRL's trainer; the told model, frozen, is distilled into the untold one over its likeliest tokens."""

    type: Literal["sdft"]
    sdft: SdftBlock = SdftBlock()
    block: ClassVar[str] = "sdft"


class SdpoStage(DistilledStage):
    """SDPO: TRL's trainer; an average of the model that is told, or sees a right rollout, is distilled into it."""

    type: Literal["sdpo"]
    sdpo: SdpoBlock = SdpoBlock()
    block: ClassVar[str] = "sdpo"

    @property
    def reads_rewards(self) -> bool:
        return self.sdpo.sees == "rollout"

    @property
    def surprises(self) -> list[str]:
        return [] if self.reads_rewards else super().surprises


def sdft_options(stage: SdftStage) -> dict[str, Any]:
    """`SDFTConfig`'s."""
    return stage.sdft.trl_options


def sdpo_options(stage: SdpoStage) -> dict[str, Any]:
    """`SDPOConfig`'s."""
    own = stage.sdpo
    found = {**own.trl_options, "sees": own.sees, "success_reward_threshold": own.right_from}
    shown = {"reprompt_template": own.reprompt, "solution_template": own.solution}
    return found | (shown if own.sees == "rollout" else {})


def _label_sdft(block: Block) -> str:
    return "SDFT"


def _label_sdpo(block: Block) -> str:
    return "SDPO" if (block.get("sdpo") or {}).get("sees") == "rollout" else "SDPO, told"


_PANELS = (Panel("divergence from the teacher (nats)", (("self_distillation/distillation_loss", "-", ""),)),)
_GLOSSARY = {
    "self_distillation/distillation_loss": "what TRL's trainer makes small: the divergence of policy and teacher, mean "
    "over trained tokens (sampled_token: its surrogate, whose value says little)",
    "self_distillation/reprompt_sample_fraction": "share of rollouts whose teacher sees more than the prompt",
}

SDFT = MethodSpec(
    type="sdft",
    stage=SdftStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.sdft:SDFTTrainer",
    options=sdft_options,
    needs=frozenset({"engine"}),
    block="sdft",
    report=MethodReport(
        label=_label_sdft, learns_from="rollouts", title="SDFT's teacher", panels=_PANELS, glossary=_GLOSSARY
    ),
)

SDPO = MethodSpec(
    type="sdpo",
    stage=SdpoStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.sdpo:SDPOTrainer",
    options=sdpo_options,
    needs=frozenset({"engine"}),
    block="sdpo",
    report=MethodReport(
        label=_label_sdpo, learns_from="rollouts", title="SDPO's teacher", panels=_PANELS, glossary=_GLOSSARY
    ),
)
