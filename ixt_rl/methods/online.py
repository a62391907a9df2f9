"""Online training on the policy's own rollouts: what InTRO, GRPO and RAFT share."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import Data, FileData, PrefixData, WorldData
from ixt_rl.blocks.keeping import check_keep
from ixt_rl.blocks.model import Lora
from ixt_rl.blocks.optim import Optim
from ixt_rl.blocks.rewards import Reward, RewardErrors
from ixt_rl.blocks.sampling import Evaluation, RolloutSection
from ixt_rl.blocks.strict import (
    BatchSize,
    PositiveInt,
    Steps,
)
from ixt_rl.blocks.template import Template, TemplateName, check_template_columns
from ixt_rl.errors import ConfigError
from ixt_rl.methods.grpo import GrpoSection
from ixt_rl.methods.intro import IntroSection
from ixt_rl.methods.measured import check_held_out
from ixt_rl.methods.raft import RaftSection
from ixt_rl.methods.stage import Stage


class OnlineStage(Stage):
    """Online training on the policy's own rollouts; `type` alone chooses the method."""

    type: Literal["intro", "grpo", "raft"]
    data: Data
    template: TemplateName | Template | None = Field(
        None, description="a named template or an inline one; default: the world's, or `math`"
    )
    steps: Steps
    rollouts_per_step: BatchSize = Field(description="completions sampled before each update")
    group_size: Annotated[int, Field(ge=2, le=10**6)] = Field(4, description="G, completions of one prompt")
    micro_batch_size: BatchSize | None = Field(None, description="rows in one forward pass; default: all")
    steps_per_generation: BatchSize = Field(
        1, description="updates whose rollouts are sampled together, before the first"
    )
    num_iterations: BatchSize = Field(1, description="times that each rollout is trained on")
    rollout: RolloutSection
    optim: Optim
    rewards: Annotated[list[Reward], Field(min_length=1)]
    reward_errors: RewardErrors = RewardErrors()
    evaluation: Evaluation | None = Field(
        Evaluation(), description="null: none; default: null where the data sets no rows aside (data.eval_rows)"
    )
    intro: IntroSection = IntroSection()
    raft: RaftSection = RaftSection()
    grpo: GrpoSection = GrpoSection()
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_rows_no_evaluation(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "evaluation" in value or not isinstance(value.get("data"), dict):
            return value
        data = value["data"]
        kind = PrefixData if "suffix_tokens" in data else FileData
        held_out = "world" in data or data.get("eval_rows", kind.model_fields["eval_rows"].default)
        return value if held_out else {**value, "evaluation": None}

    @property
    def unread_sections(self) -> list[str]:
        """Blocks of the methods that `type` did not choose."""
        return [method for method in ("intro", "grpo", "raft") if method != self.type]

    @property
    def reuses_rollouts(self) -> bool:
        """Whether rollouts serve updates after the policy has moved."""
        return self.steps_per_generation * self.num_iterations > 1

    def rollouts_until(self, step: int) -> int:
        """Completions sampled by the end of an update."""
        generations = math.ceil(step / (self.steps_per_generation * self.num_iterations))
        return generations * self.steps_per_generation * self.rollouts_per_step

    @property
    def uses_ratio(self) -> bool:
        """Whether the loss forms a ratio of two probabilities of one token."""
        return self.type in ("intro", "grpo") or self.raft.importance_ratio

    @model_validator(mode="after")
    def _batch(self) -> OnlineStage:
        for key, divisor in (
            ("group_size", self.group_size),
            ("micro_batch_size", self.micro_batch_size or 1),
        ):
            if self.rollouts_per_step % divisor:
                raise ConfigError(
                    f"rollouts_per_step={self.rollouts_per_step} with {key}={divisor}",
                    reason="a step's rollouts are whole groups, computed in whole micro-batches",
                    remedy=f"make rollouts_per_step a multiple of {divisor}",
                )
        if isinstance(self.data, WorldData):
            checks.needs_rows(
                self.rollouts_until(self.steps) // self.group_size,
                f"steps={self.steps} with rollouts_per_step={self.rollouts_per_step}, group_size={self.group_size}",
            )
        return self

    @model_validator(mode="after")
    def _reuse(self) -> OnlineStage:
        weighed = {"intro": self.intro.importance_ratio, "raft": self.raft.importance_ratio, "grpo": True}[self.type]
        if self.reuses_rollouts and not weighed:
            raise ConfigError(
                f"steps_per_generation={self.steps_per_generation}, num_iterations={self.num_iterations} "
                f"without {self.type}.importance_ratio",
                reason="rollouts would be reused after the policy has moved, uncorrected",
                remedy=f"set {self.type}.importance_ratio: true, or use each rollout for one update",
            )
        return self

    @model_validator(mode="after")
    def _truncated_ratio(self) -> OnlineStage:
        if self.uses_ratio and (self.rollout.top_p < 1 or self.rollout.top_k > 0):
            raise ConfigError(
                f"rollout.top_p={self.rollout.top_p}, rollout.top_k={self.rollout.top_k} with type: {self.type}",
                reason="truncated sampling renormalises over the tokens it keeps, the loss does not: "
                "every ratio would be biased",
                remedy="train with top_p: 1.0 and top_k: 0 (evaluation.top_p may be lower), "
                "or use type: raft without importance_ratio",
            )
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> OnlineStage:
        for reward in self.rewards:
            if reward.type == "world" and not isinstance(self.data, WorldData):
                raise ConfigError(
                    "a `world` reward on file data",
                    reason="a file has no verifier of its own",
                    remedy="use {type: math}, or your own with {type: python, path: FILE.py:FUNCTION}",
                )
            if reward.type == "length" and reward.hard <= reward.soft:
                raise ConfigError(
                    f"length reward with soft={reward.soft}, hard={reward.hard}",
                    reason="the penalty grows from soft to hard",
                    remedy="make hard larger than soft",
                )
        check_keep(self)
        check_template_columns(self.template, self.data)
        if self.evaluation is not None:
            check_held_out(self.data)
        return self
