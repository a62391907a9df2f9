"""Training on some rows of a micro-batch only: what methods that keep rationales and policy gradients share.

Rows that teach nothing cost no forward pass: each micro-batch is rebuilt from its trained rows, trimmed of padding.
Denominators are fixed before the first micro-batch of an update, over all ranks, so that loss and gradient do not
depend on how the update is split.

Shapes: B rows, R trained rows of a micro-batch, F reward functions, T tokens, N loss-bearing tokens of the R rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch, pad, prompt_completion
from ixt_rl.errors import DataError
from ixt_rl.kernels.correction import reweigh_at_level
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.walk import Reweigh
from ixt_rl.trainers.hooks import Signals, hook
from ixt_rl.trainers.online import OnlineTrainer
from ixt_rl.trainers.shared_prompts import scored_inputs
from ixt_rl.types import TokenSequence

Row = tuple[int, list[int], list[int]]
"""A trained row: its index in the micro-batch, prompt ids, completion ids."""


class TrainedRowsTrainer(OnlineTrainer):
    """`OnlineTrainer` that trains on some rows; subclasses write `trained`, `rows_total` and `_compute_loss`:

    trained_rows (which) -> policy_batch (their tokens) -> weights_of (how much each counts) -> model_inputs (the pass)
    """

    # ---------------------------------------------------------------- override these

    @hook
    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        """Weight of each trained token in the loss: 1 / (|z| K). Override to aggregate differently.

        Args:
            batch: the trained rows of this micro-batch, R; `batch.target_rows` (N,) is the row of each token.
            signals: what is known of its rows, K (`rows_per_update`) among it.

        Returns:
            (N,) fp32, in the order of `batch.target_ids`.
        """
        lengths = batch.loss_mask.sum(dim=1)
        return 1.0 / (lengths[batch.target_rows].float() * signals.rows_per_update)

    # ---------------------------------------------------------------- for subclasses

    def trained(self, inputs: dict[str, Any]) -> Tensor:
        """(B,) bool: the rows of this micro-batch, or of a whole generation, that are trained."""
        raise NotImplementedError

    def rows_total(self, inputs: dict[str, Any]) -> Tensor:
        """0-d: the rows of the whole generation, of all ranks, that a mean over rows is a mean over."""
        raise NotImplementedError

    # ---------------------------------------------------------------- rows by their advantages

    def take_advantages(self, batch: dict[str, Any], advantages: Tensor) -> None:
        """Puts a method's own advantages into TRL's dict and logs: those that are not 0 are `trained`.

        Args:
            batch: of this rank; gets `advantages` and `trained` (B,) and `rows_total`, 0-d.
            advantages: (B of all ranks,) fp32.
        """
        count, everyone = len(batch["rewards"]), len(advantages)
        first = self.accelerator.process_index * count
        batch["advantages"] = own = self.taught(advantages[first : first + count])
        batch["trained"] = own != 0
        batch["rows_total"] = torch.tensor(everyone, device=own.device)  # 0-d: goes to every micro-batch
        self.track("rollout/trained", (batch["trained"] & batch["completion_mask"].any(dim=1)).float())
        logged: Any = self._logs["advantages"]  # TRL's table of completions shows GRPO's otherwise
        for _ in range(min(len(logged), everyone)):
            logged.pop()
        logged.extend(advantages.tolist())

    def all_rows(self, inputs: dict[str, Any]) -> Tensor:
        """0-d: all rows after `take_advantages`; with dynamic sampling those of groups that teach something."""
        return inputs["rows_total"] * inputs.get("signal_share", 1.0)

    # ---------------------------------------------------------------- the update

    def rows_per_update(self, inputs: dict[str, Any]) -> Tensor:
        """K of `token_weights` for this micro-batch's update (0-d fp32, at least 1 / ranks); in evaluation, of the
        batch, which is all there is."""
        return self.per_update(self.rows_total(inputs))

    def per_update(self, total: Tensor) -> Tensor:
        """What falls on one update and rank, 0-d fp32, of a number that counts a whole generation of all ranks."""
        updates = 1.0
        if self.model.training:
            updates = self.args.steps_per_generation / self.current_gradient_accumulation_steps
        return total.float().clamp(min=1.0) / updates / self.accelerator.num_processes

    def trained_rows(self, inputs: dict[str, Any]) -> list[Row]:
        """This micro-batch's trained rows.

        Where there are none, row 0 with one prompt token and no completion: every rank runs the same passes, and that
        one trains nothing.
        """
        prompts = self.prompt_lists(inputs)
        chosen = (self.trained(inputs) & inputs["completion_mask"].any(dim=1)).nonzero().flatten().tolist()
        if not chosen:
            return [(0, prompts[0][:1], [])]
        completions = self.completion_lists(inputs)
        return [(row, prompts[row], completions[row]) for row in chosen]

    def prompt_lists(self, inputs: dict[str, Any]) -> list[list[int]]:
        """The prompts that the trained pass sees, of each row; here those that were sampled from."""
        ids, mask = inputs["prompt_ids"], inputs["prompt_mask"].bool()
        return [row[real].tolist() for row, real in zip(ids, mask, strict=True)]

    def collate(self, sequences: list[TokenSequence]) -> Batch:
        """Right-padded batch on the model's device."""
        return pad(sequences, self.processing_class.pad_token_id).to(self.accelerator.device)

    def policy_batch(self, rows: list[Row]) -> Batch:
        """[x, z] of the trained rows."""
        return self.collate([prompt_completion(prompt, completion) for _, prompt, completion in rows])

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """Keyword arguments of a forward pass that hands hidden states to `head_fn`."""
        return scored_inputs(batch, self.model.config)

    def signals_of(self, inputs: dict[str, Any], rows: list[Row]) -> Signals:
        """What is known of a micro-batch's trained rows, in the order of `policy_batch`."""
        kept = self.trained(inputs)
        places = torch.tensor([row for row, _, _ in rows], device=kept.device)
        return Signals.of({**inputs, "kept": kept}, places, self.rows_per_update(inputs))

    def weights_of(self, batch: Batch, signals: Signals) -> Tensor:
        """`token_weights`, one for each trained token.

        Raises:
            DataError: there are more, or fewer.
        """
        weights = self.token_weights(batch, signals)
        if weights.shape != batch.target_ids.shape:
            raise DataError(
                f"{type(self).__name__}.token_weights gave shape {tuple(weights.shape)}",
                reason=f"each of {len(batch.target_ids)} trained tokens has one weight",
                remedy="return one for each of `batch.target_ids`; `x[batch.target_rows]` spreads a value a row",
            )
        return weights

    # ---------------------------------------------------------------- ratios to the sampler and to an older policy

    def correct(self, batch: dict[str, Any]) -> None:
        """Nothing: the ratio comes from the forward pass that trains; see `sampled_logps`."""

    def sampled_logps(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """(N,) log-probs of the trained tokens as the engine sampled them; None without importance correction."""
        if self.correction is None:
            return None
        return self.of_tokens(inputs, "sampling_per_token_logps", rows, batch)

    def of_tokens(self, inputs: dict[str, Any], name: str, rows: list[int], batch: Batch) -> Tensor:
        """(N,) values of the trained tokens, in the order of `batch.target_ids`, from a column (B, T) of TRL's dict."""
        if not batch.loss_mask.any():
            return torch.zeros(0, device=batch.loss_mask.device)
        return inputs[name][rows][inputs["completion_mask"][rows].bool()]

    def right_tokens(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """(N,) bool: the trained tokens that a world says are right; None where none can tell."""
        return self.of_tokens(inputs, "token_right", rows, batch).bool() if "token_right" in inputs else None

    def _reweigh(self, hidden: Tensor, head: Head, batch: Batch, sampled_N: Tensor) -> Reweigh:
        """Importance weights, from the log-probs of the forward pass that trains."""
        level = "token" if self.correction is None else self.correction.level
        return reweigh_at_level(
            level, hidden, head, batch.target_ids,
            lambda logp_C, at: self.correction_weights(logp_C, sampled_N[at], batch.target_rows[at]),
        )  # fmt: skip
