"""SDPO (arXiv 2601.20802): TRL's trainer and loss on this library's rollouts, prompts and rewards.

    loss = mean_z 1/|z| sum_t D(p_t, q_t),   q the same model, or an average of it, that sees more

What the teacher sees is the told prompt, or, as in TRL, a right rollout of the same group, put before the question by a
template. D: `sampled_token` (the reverse KL on the tokens taken), `full_logits` or `topk_logits`.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from transformers import PreTrainedModel

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers.baselines import least_kept
from ixt_rl.trainers.distillation_seam import REFUSED, DistillationSeam, TRLSDPOConfig, TRLSDPOTrainer
from ixt_rl.trainers.refused_options import refuse_options

POLICY_PART: dict[str, str] = {
    **dict.fromkeys(
        ("distillation_weight", "loss_type", "epsilon", "importance_sampling_level", "scale_rewards"),
        "it belongs to the policy-gradient part of TRL's loss, whose baseline counts an undecided reward as 0",
    ),
    "beta": "TRL's SDPO has no reference model: it would do nothing",
}
"""Options that are refused beside `REFUSED`."""

_TOLD = {
    "include_environment_feedback": True,
    "environment_feedback_only_without_solution": False,
    "use_successful_as_teacher": False,
    "reprompt_template": "{feedback}",
    "feedback_template": "{feedback_raw}",
    "diagnostics_warning_interval": 0,
}
"""Options of TRL's by which its teacher's prompt is the privileged text and nothing else."""


@dataclass
class SDPOConfig(TRLSDPOConfig):
    """`trl.experimental.sdpo.SDPOConfig`; options that would do nothing, or count what is undecided as 0, are refused.

    Args:
        sees: what the teacher sees: `told`, the row's told prompt in place of the prompt; or a right `rollout` of the
            group by TRL's templates, where rollouts without one are not trained.
        max_reprompt_len: most tokens of a teacher's prompt, whose beginning is cut; all (TRL's default is 10240): one
            that leaves no room in the model's positions is refused.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    max_prompt_length: int | None = field(default=None)
    max_reprompt_len: int = field(default=sys.maxsize)
    sees: Literal["told", "rollout"] = field(default="told")
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, REFUSED, POLICY_PART)
        if self.epsilon_high != self.epsilon:
            raise ConfigError(f"epsilon_high={self.epsilon_high}", reason=POLICY_PART["epsilon"], remedy="leave it out")
        if self.success_reward_threshold <= 0:
            raise ConfigError(
                f"success_reward_threshold={self.success_reward_threshold:g}",
                reason="TRL counts an undecided reward as 0, which would be a success",
                remedy="give a number above 0",
            )
        if self.sees not in ("told", "rollout"):
            raise ConfigError(f"sees={self.sees!r}", reason="a teacher sees one of two", remedy="told or rollout")
        if self.sees == "told":
            self._tell()
        elif self.include_environment_feedback:
            raise ConfigError(
                "include_environment_feedback=True",
                reason="the only feedback that rows bring is the told prompt",
                remedy="leave it out, or set sees='told'",
            )

    def _tell(self) -> None:
        """Sets the options of `_TOLD`, where they are not given otherwise."""
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name in _TOLD and value not in (option.default, _TOLD[option.name]):
                raise ConfigError(
                    f"{option.name}={value!r} with sees='told'",
                    reason="the teacher sees the told prompt alone",
                    remedy="leave it out, or set sees='rollout'",
                )
            setattr(self, option.name, _TOLD.get(option.name, value))


class SDPOTrainer(DistillationSeam, TRLSDPOTrainer):
    """TRL's SDPO; dataset rows need `prompt`, and where the teacher is told also `told_prompt`."""

    config_class: ClassVar[type] = SDPOConfig
    _tag_names = ["trl", "ixt-rl", "sdpo"]

    def _make(self, model: PreTrainedModel, functions: list[Any], args: Any, **kwargs: Any) -> None:
        right = args.success_reward_threshold  # of sums in float32, and above 0, which undecided ones are to TRL
        args.success_reward_threshold = max(least_kept(right), right / 2)
        TRLSDPOTrainer.__init__(self, model, functions, args, **kwargs)

    def privileged(self, row: dict[str, Any]) -> str | None:
        """The told prompt; of messages the last one's text, the others being the prompt's own. None where the teacher
        sees a rollout, which TRL would call feedback that is ignored.

        Raises:
            DataError: the others differ, where TRL's class would not say them.
        """
        if self.args.sees == "rollout":
            return None
        told, prompt = super().privileged(row), row["prompt"]
        if isinstance(told, str):
            return told
        if list(told[:-1]) != list(prompt[:-1]):
            raise DataError(
                f"told_prompt={told!r:.80} of messages that differ from the prompt's before the last",
                reason="TRL's SDPO tells its teacher by the last message alone",
                remedy="show the answer in the user's message, or train with type: opsd or sdft",
            )
        return str(told[-1]["content"])
