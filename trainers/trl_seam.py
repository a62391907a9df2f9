"""The seam to TRL: everything this library overrides in `GRPOTrainer`; no method of its own.

    _generate_and_score_completions   rollouts (`rollout_func`), rewards, advantages by TRL -> `generated`
    _generate                         completions end before stop strings where rewards read them
    _calculate_rewards                (B, F) rewards of guarded functions, NaN = undecided; incomplete rows are left out
    _get_per_token_logps_and_entropies  log-probs by `ixt_rl.kernels`, positions from the mask
    log, checkpoints, sampler         means over ranks and micro-batches; exact resume (`rollout_state.py`)

tests/contract checks that these methods are still there and still called the way this module relies on.

Shapes: B rows, F reward functions, T tokens, N loss-bearing tokens.
"""

from __future__ import annotations

import functools
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from ixt_rl.conditioning import Batch
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.models import eos_ids
from ixt_rl.quiet import quiet_undecided
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.checkpoints import REFERENCE
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import add_head_function, padded_positions, plain_model
from ixt_rl.trainers.hooks import check_hooks
from ixt_rl.trainers.rollout_state import RolloutState
from ixt_rl.trainers.row_attention import attention
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.trainers.shared_prompts import prompts_once, scored_inputs
from ixt_rl.trainers.stops import count_ends, masked_by_reason, shown
from ixt_rl.trainers.weight_files import load_weights, of_rank, save_weights

quiet_undecided()


class TRLSeam(RolloutState, GRPOTrainer):
    """`trl.GRPOTrainer` with a rollout engine, our log-probs, metrics and checkpoints; see `OnlineTrainer`."""

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
        self._prompt_ids: list[list[int]] = []  # of the rows of the call to TRL that is under way,
        self._asked_ids: list[list[int]] = []  # what their completions are sampled from,
        self._rewards: Tensor | None = None  # and their (B, F) rewards, undecided NaN;
        self._rewards_of_all: Tensor | None = None  # those of all ranks, as TRL has them
        self._known: tuple[dict[str, list], Tensor] | None = None  # rollouts and rewards that were made before it
        self._part = 0  # tells rollouts of one micro-step apart
        self.ledger = Ledger(model_size(self.model))
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

    def asked(self, rows: list[dict[str, Any]], prompt_ids: list[list[int]]) -> list[list[int]]:
        """Ids that the rows' completions are sampled from: their prompts. Trained is what follows the prompt, whatever
        was asked."""
        return prompt_ids

    @property
    def group_size(self) -> int:
        """G of the rows at hand: in evaluation it may be another."""
        size: Any = self.num_generations if self.model.training else self.num_generations_eval
        return size  # TRL types both as if they might be missing

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
        self._rewards_of_all = gathered
        return gathered

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

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.args.sync_ref_model:
            save_weights(self._reference_weights(), of_rank(folder / REFERENCE, self.args.process_index))

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        if self.args.sync_ref_model:
            load_weights(self._reference_weights(), of_rank(folder / REFERENCE, self.args.process_index))

    def _reference_weights(self) -> dict[str, Tensor]:
        return dict(self.accelerator.unwrap_model(self.ref_model).named_parameters())
