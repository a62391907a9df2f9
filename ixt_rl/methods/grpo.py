"""GRPO (arXiv 2402.03300), through TRL; Dr.GRPO, DAPO and GSPO are settings of it."""

from __future__ import annotations

import operator
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import NonNegativeFloat, PositiveFloat, Strict
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec

PRESETS: dict[str, dict[str, Any]] = {
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
}
"""What papers set, as far as it is the loss's: arXiv 2503.20783, 2503.14476, 2507.18071."""

_LABELS = {"dr_grpo": "Dr.GRPO", "dapo": "DAPO", "gspo": "GSPO"}
_OF_SEQUENCES = ("grpo", "sapo", "luspo")
"""Loss types that take a mean over rationales, which a ratio of whole rationales goes with."""


class GrpoBlock(Strict):
    """GRPO (arXiv 2402.03300), through TRL."""

    preset: Literal["dr_grpo", "dapo", "gspo"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="a paper's settings, for the keys that are not given: Dr.GRPO, DAPO (dynamic_sampling and a "
        "`length` reward are keys of their own) or GSPO",
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"] = "grpo"
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = Field(None, description="default: epsilon; of cispo the bound itself")
    beta: NonNegativeFloat = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token",
        exclude_if=lambda value: value == "token",
        description="whose ratio counts: each token's, or the geometric mean over a rationale (GSPO)",
    )
    mask_truncated_completions: bool = Field(
        False,
        exclude_if=operator.not_,
        description="rationales that the length limit cut are not trained; their rewards stay in the baseline",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_paper(cls, value: Any) -> Any:
        return {**PRESETS.get(str(value.get("preset")), {}), **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _means_what_it_says(self) -> GrpoBlock:
        if self.loss_type == "cispo" and (self.epsilon_high or self.epsilon) < 1:
            raise ConfigError(
                f"epsilon_high={self.epsilon_high or self.epsilon} with loss_type: cispo",
                reason="there it is the largest ratio itself, which is 1 on rollouts of the current policy",
                remedy="set epsilon_high: 5.0 (say)",
            )
        level = self.importance_sampling_level
        wanted = {"luspo": "sequence"}.get(self.loss_type) or (
            "token" if self.loss_type not in _OF_SEQUENCES else level
        )
        if level != wanted:
            raise ConfigError(
                f"importance_sampling_level: {level} with loss_type: {self.loss_type}",
                reason="a rationale would count by its length"
                if wanted == "token"
                else "it is a loss of whole rationales, and the ratio of a token is another method's",
                remedy=f"set importance_sampling_level: {wanted}"
                + (", or loss_type: grpo as GSPO has it" if wanted == "token" else ""),
            )
        return self


class GrpoStage(OnlineStage):
    """GRPO: rollouts of a group are weighed by how far their reward is from the group's mean."""

    type: Literal["grpo"]
    grpo: GrpoBlock = GrpoBlock()
    block: ClassVar[str] = "grpo"

    @property
    def surprises(self) -> list[str]:
        found, preset = super().surprises, self.grpo.preset
        missing = [] if self.dynamic_sampling is not None else ["dynamic_sampling: {}"]
        missing += [] if any(reward.type == "length" for reward in self.rewards) else ["a reward of type length"]
        if preset == "dapo" and missing:
            found.append(f"stages.{self.name}.grpo.preset: DAPO also has {' and '.join(missing)}")
        if preset == "gspo" and not self.reuses_rollouts:
            found.append(
                f"stages.{self.name}.grpo.preset: each rollout serves one update, where ratios are 1 and GSPO is GRPO; "
                "it differs with steps_per_generation or num_iterations above 1"
            )
        return found


def options(stage: GrpoStage) -> dict[str, Any]:
    """`GRPOConfig`'s."""
    return stage.grpo.model_dump(exclude={"preset"})


def label(block: Block) -> str:
    return _LABELS.get(str((block.get("grpo") or {}).get("preset")), "GRPO")


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
