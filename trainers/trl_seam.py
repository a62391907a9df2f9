"""The seam to TRL: everything this library overrides in `GRPOTrainer`, in one module; no method of its own.

    _generate_and_score_completions   rollouts (`rollout_func`), rewards, advantages by TRL -> `generated`
    _generate                         completions end before stop strings where rewards read them
    _calculate_rewards                (B, F) rewards of guarded functions, NaN = undecided; incomplete rows are left out
    _get_per_token_logps_and_entropies  log-probs by `ixt_rl.kernels`, positions from the mask
    log, checkpoints, sampler         means over ranks and micro-batches; exact resume

tests/contract checks that these methods are still there and still called the way this module relies on.

Shapes: B rows, F reward functions, T tokens, N loss-bearing tokens.
"""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from ixt_rl.conditioning import Batch, row_ids
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.ledger import FLOPS_PER_PARAMETER, Ledger, model_size
from ixt_rl.models import eos_ids
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.checkpoints import REFERENCE
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import add_head_function, padded_positions, plain_model
from ixt_rl.trainers.hooks import check_hooks
from ixt_rl.trainers.resumable import ResumableTrainer
from ixt_rl.trainers.row_attention import attention
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.trainers.shared_prompts import prompts_once, scored_inputs
from ixt_rl.trainers.stops import count_ends, masked_by_reason, shown
from ixt_rl.trainers.weight_files import load_weights, save_weights


class TRLSeam(ResumableTrainer, GRPOTrainer):
    """`trl.GRPOTrainer` with a rollout engine, our log-probs, metrics and checkpoints; see `OnlineTrainer`."""

    args: Any  # the subclass's config; transformers and TRL type these three too widely to use
    model: Any
    processing_class: Any

    def __init__(
        self,
        model: PreTrainedModel | str,
        reward_funcs: Any,
        args: GRPOConfig,
        *,
        rollouts: EngineRollouts | None = None,
        **kwargs: Any,
    ):
        check_hooks(self)
        for name in ("tools", "environment_factory", "rollout_func"):
            if kwargs.get(name) is not None:
                raise ConfigError(
                    f"{type(self).__name__}({name}=...)",
                    reason="rollouts come from the rollout engine, in one turn",
                    remedy=f"leave {name} out, or use trl.GRPOTrainer with ixt_rl.rollout.trl_adapter",
                )
        self.rollouts = rollouts or EngineRollouts()
        rollout_func: Any = self._sampled  # TRL types prompts as text, and takes any callable
        with warnings.catch_warnings():
            # `rollout_func` is marked experimental; tests/contract holds what is relied on here.
            warnings.filterwarnings("ignore", message=".*rollout_func.*")
            super().__init__(model, reward_funcs, args, rollout_func=rollout_func, **kwargs)
        self.eos_token_ids = list(eos_ids(self.model, self.processing_class))
        if self._is_vlm:
            raise ConfigError(
                f"{type(self.model).__name__} with a processor",
                reason="images are not supported",
                remedy="pass the tokenizer of a text model",
            )
        self._sampler: Any = None  # of the training rows; None for an iterable dataset
        self._prompt_ids: list[list[int]] = []  # of the rows of the call to TRL that is under way,
        self._asked_ids: list[list[int]] = []  # what their completions are sampled from,
        self._rewards: Tensor | None = None  # and their (B, F) rewards, undecided NaN
        self._known: tuple[dict[str, list], Tensor] | None = None  # rollouts and rewards that were made before it
        self._part = 0  # tells rollouts of one micro-step apart
        self.ledger = Ledger(model_size(self.model))
        self._sums, self._eval_sums = _no_sums(), _no_sums()
        if args.disable_dropout:
            disable_dropout(self.model)
        base = plain_model(self)
        self._attention = base.config._attn_implementation
        add_head_function(base, self.temperature, float32=args.cast_lm_head_to_fp32)
        if self.ref_model is not None:
            reference = self.accelerator.unwrap_model(self.ref_model)
            add_head_function(reference, self.temperature, float32=args.cast_lm_head_to_fp32)
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)

    # ---------------------------------------------------------------- for subclasses

    def generated(self, rows: list[dict[str, Any]], batch: dict[str, Any], rewards_per_func: Tensor) -> dict[str, Any]:
        """What one generation hands on to `_compute_loss`: TRL's `batch`, and what the subclass adds to it.

        Args:
            rows: this process's dataset rows, one for each completion, in order.
            batch: TRL's dict of padded tensors.
            rewards_per_func: (B, F), NaN where undecided.
        """
        return batch

    def encoded(self, rows: list[dict[str, Any]], column: str = "prompt") -> list[list[int]]:
        """Ids of the rows' prompts: those that a row brings in `<column>_ids`, or made here."""
        limit, options = self.rollouts.max_prompt_tokens, self.args.chat_template_kwargs
        return [row_ids(self.processing_class, row, column, limit, options) for row in rows]

    def asked(self, rows: list[dict[str, Any]], prompt_ids: list[list[int]]) -> list[list[int]]:
        """Ids that the rows' completions are sampled from: their prompts. Trained is what follows the prompt, whatever
        was asked."""
        return prompt_ids

    def track(self, name: str, values: Tensor) -> None:
        """Averages `values` (any shape) into metric `name`, in evaluation `eval_<name>`; the mean is over all elements
        of all micro-batches and ranks since the last log. NaN elements do not count."""
        values = values.detach().double().flatten()
        valid = values[~values.isnan()]
        sums = self._sums if self.model.training else self._eval_sums
        sums[name] += torch.stack([valid.sum(), torch.tensor(float(valid.numel()), device=valid.device)]).cpu()

    # ---------------------------------------------------------------- rollouts and rewards

    def _sampled(self, prompts: list[Any], trainer: Any) -> dict[str, list]:
        """TRL's `rollout_func`: it hands over copies of the prompts, whose ids are known."""
        if self._known is not None:
            return self._known[0]
        found = self.rollouts.of_ids(self._asked_ids, self, self._part)
        for name in ("prompt_ids", "completion_ids"):
            self.ledger.add("rollout", sum(map(len, found[name])))
        return {**found, "prompt_ids": [list(ids) for ids in self._prompt_ids]}

    def _begin(self, rows: list[dict[str, Any]], part: int = 0) -> None:
        self._prompt_ids, self._part = self.encoded(rows), part
        self._asked_ids = self.asked(rows, self._prompt_ids)

    def _end(self) -> Tensor:
        """The (B, F) rewards of the rows that `_begin` was told."""
        rewards, self._rewards, self._prompt_ids, self._asked_ids, self._part = self._rewards, None, [], [], 0
        assert rewards is not None
        return rewards

    def sampled_and_rewarded(
        self, rows: list[dict[str, Any]], part: int
    ) -> tuple[dict[str, list], Tensor, dict[str, list]]:
        """Rollouts by field, (B, F) rewards and what these logged by column, of rows that TRL has not seen yet.

        Args:
            rows: dataset rows, one for each completion; they get what TRL gives them of their rollouts.
            part: see `EngineRollouts.sample`.
        """
        prompts = [row["prompt"] for row in rows]
        self._begin(rows, part)
        prompt_ids, ids, _, completions, logprobs, fields, *_ = self._generate(prompts)
        for name, values in fields.items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        self._pending_extra_logs.clear()
        self._calculate_rewards(rows, prompts, completions, ids)
        rewards = self._end()
        extra = {name: list(values) for name, values in self._pending_extra_logs.items()}
        self._pending_extra_logs.clear()
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": logprobs, **fields}, rewards, extra

    def _generate(self, prompts):
        found = super()._generate(prompts)
        if not self.rollouts.stop:
            return found
        prompt_ids, ids, tool_mask, completions, logprobs, fields, *images = found
        count_ends(self, ids, fields["finish_reason"])
        completions = shown(self.processing_class, completions, ids, self.rollouts.stop)
        return prompt_ids, ids, tool_mask, completions, logprobs, fields, *images

    def _generate_and_score_completions(self, inputs):
        self._begin(inputs)
        batch: dict[str, Any] = {}
        with masked_by_reason(self, inputs, batch):
            batch.update(super()._generate_and_score_completions(inputs))
        return self.generated(inputs, batch, self._end())

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """(B of all ranks, F) rewards; rows with an incomplete total are NaN throughout, which TRL leaves out of
        baselines, advantages and means (it would take a part for the whole)."""
        if self._known is not None:
            gathered = self.accelerator.gather(self._known[1])
        else:
            gathered = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._exclude_infinite(gathered)
        first = self.accelerator.process_index * len(prompts)
        self._rewards = gathered[first : first + len(prompts)].clone()
        gathered[self._incomplete(gathered)] = float("nan")
        return gathered

    def _incomplete(self, rewards_per_func: Tensor) -> Tensor:
        """(B,) bool: rows whose weighted sum lacks a part."""
        weighs = self.reward_weights.to(rewards_per_func.device) != 0
        return rewards_per_func[:, weighs].isnan().any(dim=1)

    def _exclude_infinite(self, rewards_per_func: Tensor) -> None:
        """Infinite rewards become undecided, in place: no mean or deviation of a group with one is a number."""
        infinite = rewards_per_func.isinf()
        if infinite.any():
            names = [self.reward_func_names[place] for place in infinite.any(dim=0).nonzero().flatten().tolist()]
            warnings.warn(
                f"step {self.state.global_step}: {', '.join(names)} gave {int(infinite.sum())} infinite rewards, which "
                "count as undecided. Return a finite number, or None.",
                stacklevel=2,
            )
            rewards_per_func[infinite] = float("nan")

    # ---------------------------------------------------------------- log-probs and logs

    def training_step(self, *args, **kwargs):
        """One micro-batch, forward and backward; on a CPU a prompt is read once for all its completions."""
        with prompts_once(self):
            return super().training_step(*args, **kwargs)

    def _prepare_inputs(self, generation_batch):
        with attention(plain_model(self), self._attention):  # engines in the process sample by the model's own
            return super()._prepare_inputs(generation_batch)

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **multimodal,
    ):
        """(B, logits_to_keep) log-probs of the last tokens, their entropies or None, the auxiliary loss or None.

        As TRL's, with positions from the mask and this library's kernel; 0 where the mask is 0.
        """
        if any(value is not None for value in multimodal.values()):
            raise NotImplementedError("images are not supported")
        plain, own = (self.accelerator.unwrap_model(one) for one in (model, self.model))
        scored = attention_mask.bool()
        scored[:, :-logits_to_keep] = False
        positions = padded_positions(attention_mask)
        self.ledger.add("train" if torch.is_grad_enabled() else "score", int(attention_mask.sum()))
        logps, entropies, aux_losses = [], [], []
        for rows in torch.arange(len(input_ids)).split(batch_size or len(input_ids)):
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
            kept = scored[rows, -logits_to_keep:]
            mask = attention_mask[rows]
            batch = Batch(input_ids[rows], mask, positions[rows], mask, scored[rows], mask - 1)
            with self.accelerator.autocast(), prompts_once(self) if plain is own else nullcontext():
                (logp_N, entropy_N), aux_loss = model(
                    **scored_inputs(batch, plain.config),
                    head_fn=functools.partial(selected_logprobs, tokens=batch.target_ids, entropy=compute_entropy),
                    aux_loss=compute_aux_loss,
                )
            aux_losses.append(aux_loss)
            zeros = torch.zeros(kept.shape, dtype=logp_N.dtype, device=logp_N.device)
            logps.append(zeros.masked_scatter(kept, logp_N))
            if compute_entropy:
                entropies.append(zeros.masked_scatter(kept, entropy_N))
        entropy = torch.cat(entropies) if compute_entropy else None
        return torch.cat(logps), entropy, torch.stack(aux_losses).mean() if compute_aux_loss else None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        training = self.model.training
        sums = self._sums if training else self._eval_sums
        if sums:
            names = sorted(sums)
            local = torch.stack([sums[name] for name in names]).to(self.accelerator.device, torch.float32)
            reduced = self.accelerator.reduce(local, "sum").tolist()
            if any(count for _, count in reduced):  # else nothing happened since the last log, as at the end
                table = self._metrics["train" if training else "eval"]
                for name, (total, count) in zip(names, reduced, strict=True):
                    table[name].append(total / count if count else float("nan"))
            for name in names:
                sums[name].zero_()  # names stay, so that every rank reduces the same list
        if training and sums:
            for phase in FLOPS_PER_PARAMETER:
                flops = torch.tensor(self.ledger.flops(phase), dtype=torch.float64, device=self.accelerator.device)
                logs[f"flops/{phase}"] = self.accelerator.reduce(flops, "sum").item()
        super().log(logs, start_time)

    # ---------------------------------------------------------------- checkpoints

    def own_state(self) -> dict[str, Any]:
        window = self._generation_span()
        buffered = self._buffered_inputs if self._step % window else None  # else the next micro-batch samples anew
        return {
            **super().own_state(),
            "micro_step": self._step,
            "window": self._window(),
            "buffered": buffered,
            "sums": {name: sums.clone() for name, sums in self._sums.items()},
            "rollouts": self.rollouts.state_dict(self),
            "rewards": {name: reward.state_dict() for name, reward in self._counting_rewards()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if state["buffered"] is not None and state["window"] != self._window():
            raise ConfigError(
                f"a checkpoint amid a window of {state['window']}, resumed with {self._window()}",
                reason="its rollouts are cut into the micro-batches of that window",
                remedy="resume with the options of the run that wrote it",
            )
        self._step = state["micro_step"]
        self._buffered_inputs = _to(state["buffered"], self.accelerator.device)
        self._sums.update(state["sums"])
        self.rollouts.load_state_dict(state["rollouts"], self)
        for name, reward in self._counting_rewards():
            if name in state["rewards"]:
                reward.load_state_dict(state["rewards"][name])

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.args.sync_ref_model and self.accelerator.is_main_process:
            save_weights(self._reference_weights(), folder / REFERENCE)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        if self.args.sync_ref_model:
            load_weights(self._reference_weights(), folder / REFERENCE)

    def _counting_rewards(self) -> list[tuple[str, Any]]:
        """Reward functions that count, as a `GuardedReward` does; a model that rewards has weights, and does not."""
        named = zip(self.reward_func_names, self.reward_funcs, strict=True)
        return [(n, f) for n, f in named if hasattr(f, "state_dict") and not isinstance(f, torch.nn.Module)]

    def _reference_weights(self) -> dict[str, Tensor]:
        return dict(self.accelerator.unwrap_model(self.ref_model).named_parameters())

    def _get_train_sampler(self, dataset=None):
        self._sampler = super()._get_train_sampler(dataset)
        return self._sampler

    def _skip_epochs(self, epochs: int) -> None:
        if self._sampler is not None and self._sampler.shuffle:
            for _ in range(epochs):  # it draws each pass's order from one generator
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)

    def _window(self) -> dict[str, int]:
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_iterations")
        return {name: getattr(self.args, name) for name in names}

    def _generation_span(self) -> int:
        return self.args.steps_per_generation * self.args.num_iterations


def _no_sums() -> dict[str, Tensor]:
    return defaultdict(lambda: torch.zeros(2, dtype=torch.float64))


def _to(value: Any, device: torch.device) -> Any:
    """Tensors within lists and dicts on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_to(one, device) for one in value]
    return {key: _to(one, device) for key, one in value.items()} if isinstance(value, dict) else value
