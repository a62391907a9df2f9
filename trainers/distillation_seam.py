"""The seam to TRL's self-distillation trainers (`trl.experimental` SDPO and SDFT): all that is overridden in them.

    _tokenize_prompts, _tokenize_prompts_untruncated   ids as everywhere here
    _generate                     completions by the rollout engine, in process, seeded by step
    _calculate_rewards            (B, F) rewards of guarded functions, NaN = undecided
    _prepare_training_batch       told prompts as `privileged_context`; rewards and grades are logged
    _forward_logits               positions from the mask; tokens are counted
    _compute_self_distillation_loss   all ranks take part in what is logged
    _record_reward_diagnostics    nothing: TRL's would count an undecided reward as 0
    log, checkpoints, sampler     see `rollout_state.py`; a teacher that moves is in checkpoints

Loss, teacher and its updates are TRL's. tests/contract checks that these methods are still there and still called the
way this module relies on.

Shapes: B rows, F reward functions, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl.data_utils import is_conversational
from trl.distributed import DistributedBackend
from trl.trainer.utils import selective_log_softmax

from ixt_rl.conditioning import encode_prompt
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.head import statistics_dtype
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.models import eos_ids
from ixt_rl.rollout.asked import check_positions
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import padded_positions
from ixt_rl.trainers.refused_options import OWN_ROLLOUTS
from ixt_rl.trainers.rollout_state import RolloutState
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.trainers.weight_files import load_weights, of_rank, save_weights

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*trl.experimental.*")
    from trl.experimental.sdft import SDFTConfig as TRLSDFTConfig
    from trl.experimental.sdft import SDFTTrainer as TRLSDFTTrainer
    from trl.experimental.sdft.sdft_trainer import DemonstrationTeacherContextBuilder
    from trl.experimental.sdpo import SDPOConfig as TRLSDPOConfig
    from trl.experimental.sdpo import SDPOTrainer as TRLSDPOTrainer
    from trl.experimental.sdpo.loss_utils import compute_divergence

__all__ = [
    "REFUSED",
    "DemonstrationTeacherContextBuilder",
    "DistillationSeam",
    "TRLSDFTConfig",
    "TRLSDFTTrainer",
    "TRLSDPOConfig",
    "TRLSDPOTrainer",
    "compute_divergence",
]

if TYPE_CHECKING:
    from ixt_rl.types import Grade

TEACHER = "teacher.safetensors"
"""File of a checkpoint: a teacher that is an average of the policy."""

REFUSED: dict[str, str] = {
    "use_vllm": OWN_ROLLOUTS,
    "use_teacher_server": "the teacher is scored in process",
    "generation_kwargs": f"{OWN_ROLLOUTS}; it takes temperature, top_p, top_k, min_p and max_completion_length",
    "cache_implementation": OWN_ROLLOUTS,
    "repetition_penalty": "it changes the sampling distribution, and the loss does not know",
    "max_prompt_length": "prompts are as long as the data has them; `EngineRollouts(max_prompt_tokens=...)` cuts",
}
"""Options of TRL's that are refused, with the reasons."""


class DistillationSeam(RolloutState):
    """Mixin before `SDPOTrainer` or `SDFTTrainer` of TRL's; rows need `prompt` and `told_prompt`.

    Args:
        model: a causal language model. A teacher that is no `live` one is read from its folder, as TRL does.
        reward_funcs: functions with TRL's reward signature; None says undecided.
        args: the trainer's config.
        rollouts: samples completions, in process; default: the model itself.
        correction, dynamic_sampling: must be None and 0.
        grader, sources: as in `OnlineTrainer`.
        other arguments: as TRL's.

    Raises:
        ConfigError: an engine outside the process, stop strings, or an averaged teacher with LoRA.
    """

    grader: Callable[[dict[str, Any], Sequence[int]], Grade] | None
    teacher_model: Any
    temperature: float
    eos_token_ids: Any
    model_kwarg_keys: Any
    checks: ClassVar[tuple[str, ...]] = ("engine", "ends")
    """Self-checks that apply: the head is the model's own, rows are padded, and there is no factor."""

    drawn_again = 0

    def __init__(
        self,
        model: PreTrainedModel,
        reward_funcs: Any,
        args: Any,
        *,
        rollouts: EngineRollouts | None = None,
        grader: Callable[[dict[str, Any], Sequence[int]], Grade] | None = None,
        sources: Sequence[str] = (),
        correction: None = None,
        dynamic_sampling: int = 0,
        **kwargs: Any,
    ):
        self.rollouts = rollouts or EngineRollouts()
        self._refuse(args, correction, dynamic_sampling, kwargs.get("peft_config"), getattr(model, "dtype", None))
        self.grader, self.sources = grader, tuple(sources)
        self._rewards: Tensor | None = None  # (B, F) of the batch under way, undecided NaN
        self._phase = "posterior"  # what a pass without gradient is counted as
        functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        self._make(model, functions, args, **kwargs)
        self.reward_funcs = functions
        self.reward_func_names = [function.__name__ for function in functions]
        self.reward_weights = torch.tensor(args.reward_weights or [1.0] * len(functions), dtype=torch.float32)
        self.eos_token_ids = list(eos_ids(self.model, self.processing_class))
        self._dist = DistributedBackend(self.accelerator)
        self.ledger = Ledger(model_size(self.model))
        if args.disable_dropout:  # TRL's does not see attention's own
            disable_dropout(self.model)
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)
        if args.distillation_topk is not None:  # torch refuses to look for more than there are
            args.distillation_topk = min(args.distillation_topk, self.model.config.get_text_config().vocab_size)

    def _make(self, model: PreTrainedModel, functions: list[Any], args: Any, **kwargs: Any) -> None:
        """Calls TRL's `__init__`."""
        raise NotImplementedError

    def privileged(self, row: dict[str, Any]) -> Any:
        """What TRL's teacher is told of a row: its `told_prompt`, as text or messages."""
        if not row.get("told_prompt"):
            raise DataError(
                f"told_prompt={row.get('told_prompt')!r} of the prompt {row['prompt']!r:.80}",
                reason="the teacher is the model that is told the answer",
                remedy="add the column (ixt_rl.conditioning.PromptTemplate renders it), or leave the row out",
            )
        return row["told_prompt"]

    def _refuse(self, args: Any, correction: Any, dynamic_sampling: int, peft_config: Any, dtype: Any) -> None:
        name = type(self).__name__
        if dynamic_sampling:
            raise ConfigError(
                f"{name} with dynamic_sampling={dynamic_sampling}",
                reason="TRL's class trains on every group that it samples",
                remedy="leave it out",
            )
        if not self.rollouts.in_process or correction is not None or self.rollouts.stop:
            raise ConfigError(
                f"{name} with an engine outside the process, importance correction or stop strings",
                reason="TRL's class knows neither an engine's log-probs nor where a text ends before its ids",
                remedy="sample in process (engine.type: transformers), and leave stop out",
            )
        if args.teacher_model_kind == "ema" and peft_config is not None:
            raise ConfigError(
                f"{name} with teacher_model_kind='ema' and LoRA",
                reason="TRL keeps the average of adapters where no checkpoint sees it",
                remedy="use 'base' (the model without its adapters) or 'live'",
            )
        if args.teacher_model_kind == "ema" and dtype in (torch.bfloat16, torch.float16):
            raise ConfigError(
                f"{name} with teacher_model_kind='ema' and weights in {dtype}",
                reason="TRL keeps the average in the model's own dtype, where a step of it is rounded away",
                remedy="load the model in float32 (bf16=True computes in bfloat16 still), or use 'base' or 'live'",
            )

    # ---------------------------------------------------------------- rollouts and rewards

    def _tokenize_prompts(self, prompts: list[Any]) -> list[list[int]]:
        limit, options = self.rollouts.max_prompt_tokens, self.args.chat_template_kwargs
        ids = [list(encode_prompt(self.processing_class, prompt, limit, options)) for prompt in prompts]
        check_positions(ids, self, "a prompt, or a teacher's prompt,")
        return ids

    def _tokenize_prompts_untruncated(self, prompts: list[Any]) -> list[list[int]]:
        return self._tokenize_prompts(prompts)

    def _generate(self, prompt_ids: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
        sampled = self.rollouts.of_ids(prompt_ids, self)
        prompts, completions = sampled["prompt_ids"], sampled["completion_ids"]
        self.ledger.add("rollout", sum(map(len, prompts)) + sum(map(len, completions)))
        return prompts, completions

    def _prepare_training_batch(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [{**row, "privileged_context": self.privileged(row)} for row in inputs]
        self._rewards = None
        batch = super()._prepare_training_batch(rows)  # type: ignore[misc]
        completions = self._get_completion_ids_list(batch)  # type: ignore[attr-defined]
        if self._rewards is None:  # TRL's class asks for none
            self._calculate_rewards(rows, [row["prompt"] for row in rows], self._texts(rows, completions), completions)
        self._observe(rows, completions)
        return batch

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list) -> Tensor:
        """(B of all ranks, F); rows with an incomplete total are NaN throughout, whose sum TRL makes 0: it would take a
        part for the whole, and show a rollout that is undecided as a right one."""
        columns = {
            name: [row[name] for row in inputs]
            for name in inputs[0]
            if name not in ("prompt", "completion", "completion_ids", "privileged_context")
        }
        given = {**columns, "completion_ids": completion_ids_list, "trainer_state": self.state}
        values = [function(prompts=prompts, completions=completions, **given) for function in self.reward_funcs]
        by_row = [[math.nan if one is None else float(one) for one in row] for row in zip(*values, strict=True)]
        found = torch.tensor(by_row, dtype=torch.float32, device=self.accelerator.device)
        self._exclude_infinite(found)
        self._rewards = found
        return self.accelerator.gather(found.masked_fill(self._incomplete(found)[:, None], math.nan))

    def _record_reward_diagnostics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _observe(self, rows: list[dict[str, Any]], completions: list[list[int]]) -> None:
        """Logs rewards and grades of a generation."""
        rewards = self._rewards
        assert rewards is not None
        incomplete = self._incomplete(rewards)
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1).masked_fill(incomplete, math.nan)
        self.track("reward", total)
        self.track("rollout/undecided", incomplete.float())
        for name, values in zip(self.reward_func_names, rewards.T, strict=True):
            self.track(f"rewards/{name}/mean", values)
        for source in self.sources:
            of = torch.tensor([row["source"] == source for row in rows], device=total.device)
            self.track(f"source/{source}/reward", total[of])
        if self.grader is not None:
            self.track_grades([self.grader(row, ids) for row, ids in zip(rows, completions, strict=True)])

    def _texts(self, rows: list[dict[str, Any]], completions: list[list[int]]) -> list[Any]:
        """The completions as rewards read them: texts, or messages where prompts are."""
        texts = self.processing_class.batch_decode(completions, skip_special_tokens=True)
        if is_conversational({"prompt": rows[0]["prompt"]}):
            return [[{"role": "assistant", "content": text}] for text in texts]
        return list(texts)

    # ---------------------------------------------------------------- passes

    def _compute_self_distillation_loss(self, model: Any, inputs: Any, distillation_logits: Any) -> Tensor:
        """TRL's. A rank whose rows train nothing takes part in the mean that is logged: the others wait for it."""
        if distillation_logits.loss_mask.any():
            return super()._compute_self_distillation_loss(model, inputs, distillation_logits)  # type: ignore[misc]
        logits = distillation_logits.student_logits
        mean = self.accelerator.gather(logits.new_zeros(())).mean().item()
        self._log_self_distillation_metric("train" if model.training else "eval", mean)  # type: ignore[attr-defined]
        return logits.sum() * 0.0

    def _forward_logits(self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int) -> Tensor:
        """(B, logits_to_keep, V) tempered logits of the last tokens. As TRL's, with positions from the mask: padding
        on the left moves nothing, also where positions are absolute. In float32: of a model in 16 bits too, log-probs,
        divergences and their sums are formed in it."""
        phase = "train" if torch.is_grad_enabled() else self._phase
        self.ledger.add(phase, int(attention_mask.sum()))
        keep = {"logits_to_keep": logits_to_keep + 1} if "logits_to_keep" in self.model_kwarg_keys else {}
        positions = padded_positions(attention_mask)
        logits = model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False, **keep
        ).logits
        logits = logits[:, :-1][:, -logits_to_keep:]
        return logits.to(statistics_dtype(logits.dtype)) / self.temperature

    def _compute_rollout_logps(self, *args: Any, **tensors: Any) -> Any:
        self._phase = "score"
        try:
            return super()._compute_rollout_logps(*args, **tensors)  # type: ignore[misc]
        finally:
            self._phase = "posterior"

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int
    ) -> tuple[Tensor, None, None]:
        """(B, logits_to_keep) log-probs, which the check of the engine asks for."""
        logits = self._forward_logits(model, input_ids, attention_mask, logits_to_keep)
        return selective_log_softmax(logits, input_ids[:, -logits_to_keep:]), None, None

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.args.teacher_model_kind == "ema":
            save_weights(self._teacher_weights(), of_rank(folder / TEACHER, self.args.process_index))

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        if self.args.teacher_model_kind == "ema":
            load_weights(self._teacher_weights(), of_rank(folder / TEACHER, self.args.process_index))

    def _teacher_weights(self) -> dict[str, Tensor]:
        return dict(self.accelerator.unwrap_model(self.teacher_model).named_parameters())
