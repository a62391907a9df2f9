"""Training on kept rationales only: what InTRO and RAFT share.

A rationale is kept when its weighted reward reaches `keep_reward`. Dropped ones cost no forward pass:
each micro-batch is rebuilt from its kept rows, trimmed of padding. The denominator is the number of
kept rationales of the whole update over all ranks, fixed before its first micro-batch, so that loss
and gradient do not depend on how the update is split.

Shapes: B rows, T tokens, N loss-bearing tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch, pad, prompt_completion
from ixt_rl.trainers.online import OnlineTrainer
from ixt_rl.types import TokenSequence


class KeptTrainer(OnlineTrainer):
    """`OnlineTrainer` that trains on kept rationales; subclasses write `_compute_loss`."""

    def add_signals(self, rows: list[dict[str, Any]], batch: dict[str, Any], rewards: Tensor) -> None:
        keep = (rewards >= self.args.keep_reward) & batch["completion_mask"].any(dim=1)
        batch["keep"] = keep
        batch["keep_total"] = self.accelerator.gather(keep.sum()).sum()  # 0-d: goes to every micro-batch
        self.track("kept_share", keep.float())

    def correct(self, batch: dict[str, Any]) -> None:
        """Nothing: the ratio comes from the forward pass that trains; see `sampled_logps`."""

    def sampled_logps(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """(N,) log-probs of the trained tokens as the engine sampled them; None without importance correction."""
        if self.correction is None:
            return None
        if not batch.loss_mask.any():
            return torch.zeros(0, device=batch.loss_mask.device)
        return inputs["sampling_per_token_logps"][rows][inputs["completion_mask"][rows].bool()]

    def token_weights(self, batch: Batch, rows_per_update: Tensor) -> Tensor:
        """Weight of each trained token in the loss: 1 / (|z| K). Override to aggregate differently.

        Args:
            batch: the kept rationales of this micro-batch.
            rows_per_update: 0-d, K: kept rationales of the whole update, divided by the number of ranks
                because the ranks' gradients are averaged.

        Returns:
            (N,) fp32, in the order of `batch.target_ids`.
        """
        lengths = batch.loss_mask.sum(dim=1)
        return 1.0 / (lengths[batch.target_rows].float() * rows_per_update)

    def rows_per_update(self, inputs: dict[str, Any]) -> Tensor:
        """K of `token_weights` for this micro-batch's update (0-d fp32, at least 1 / ranks)."""
        updates = self.args.steps_per_generation / self.current_gradient_accumulation_steps
        return inputs["keep_total"].float().clamp(min=1.0) / updates / self.accelerator.num_processes

    def kept_rows(self, inputs: dict[str, Any]) -> list[tuple[int, list[int], list[int]]]:
        """(row index, prompt ids, completion ids) of this micro-batch's kept rationales.

        Where none is kept, row 0 with one prompt token and no completion: every rank runs the same
        passes, and that one trains nothing.
        """
        kept = inputs["keep"].nonzero().flatten().tolist()
        if not kept:
            first = inputs["prompt_mask"][0].argmax()
            return [(0, [int(inputs["prompt_ids"][0, first])], [])]
        completions = self.completion_lists(inputs)
        prompts = [
            ids[mask.bool()].tolist() for ids, mask in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)
        ]
        return [(row, prompts[row], completions[row]) for row in kept]

    def collate(self, sequences: list[TokenSequence]) -> Batch:
        """Right-padded batch on the model's device."""
        return pad(sequences, self.processing_class.pad_token_id).to(self.accelerator.device)

    def policy_batch(self, kept: list[tuple[int, list[int], list[int]]]) -> Batch:
        """[x, z] of the kept rationales."""
        return self.collate([prompt_completion(prompt, completion) for _, prompt, completion in kept])

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """Keyword arguments of a forward pass that hands hidden states to `head_fn`."""
        inputs = batch.model_inputs(self.model.config._attn_implementation)
        return {**inputs, "predictor_mask": batch.predictor_mask}
