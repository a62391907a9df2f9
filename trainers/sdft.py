"""SDFT (arXiv 2601.19897): TRL's trainer and loss on this library's rollouts and told prompts.

    loss = mean_z 1/|z| sum_t D(p_t, q_t),   q the model, as it was at the start, that sees the told prompt

D: `topk_logits` (over the policy's k likeliest tokens), `full_logits` or `sampled_token`. Rewards are logged alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import PreTrainedModel

from ixt_rl.trainers.distillation_seam import (
    REFUSED,
    DemonstrationTeacherContextBuilder,
    DistillationSeam,
    TRLSDFTConfig,
    TRLSDFTTrainer,
)
from ixt_rl.trainers.refused_options import refuse_options

TOLD_WHOLE: dict[str, str] = {"teacher_prompt_template": "the teacher sees the told prompt as it is"}
"""Options that are refused beside `REFUSED`."""


@dataclass
class SDFTConfig(TRLSDFTConfig):
    """`trl.experimental.sdft.SDFTConfig`; options that would do nothing are refused.

    Args:
        reward_weights: of the rewards that are logged.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    max_prompt_length: int | None = field(default=None)
    reward_weights: list[float] | None = field(default=None)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, REFUSED, TOLD_WHOLE)


class SDFTTrainer(DistillationSeam, TRLSDFTTrainer):
    """TRL's SDFT; dataset rows need `prompt` and `told_prompt`."""

    config_class: ClassVar[type] = SDFTConfig
    _tag_names = ["trl", "ixt-rl", "sdft"]

    def _make(self, model: PreTrainedModel, functions: list[Any], args: Any, **kwargs: Any) -> None:
        TRLSDFTTrainer.__init__(self, model, args, **kwargs)
        self.teacher_context_builder = _ToldWhole(self)


class _ToldWhole(DemonstrationTeacherContextBuilder):
    """The teacher's prompt is the privileged context itself."""

    def _compose_teacher_prompt(self, prompt: Any, privileged_context: Any) -> Any:
        return privileged_context
