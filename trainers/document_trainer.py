"""What trainers on documents share: the loss, cross-entropy of the trained tokens, in one walk over the head.

    (B, T) labels --shift--> predictors, targets --model.forward: hidden states, head--> nll_loss; no logits are made

It stands in place of `SFTTrainer`'s, which computes the logits twice, in forward and once again in backward, of all
positions of a row. Metrics and their names are TRL's.

Shapes: B rows, T tokens, N trained tokens, D hidden.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.kernels import Head, NllStats, nll_loss
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.head import add_head_function, plain_model
from ixt_rl.trainers.resumable import ResumableTrainer


class DocumentTrainer(ResumableTrainer, SFTTrainer):
    """`SFTTrainer` with the loss in one walk; its count of trained tokens goes into checkpoints."""

    args: SFTConfig
    any_ranks: ClassVar[bool] = True  # rows of an update are those of the stream, whoever has them

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        add_head_function(plain_model(self), 1.0)

    @property
    def needs_logits(self) -> bool:
        """Whether what was asked for needs the logits, or splits rows over ranks: then the loss is TRL's own."""
        model = self.accelerator.unwrap_model(self.model)
        prompts = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
        smoothed = self.label_smoother is not None or self.compute_loss_func is not None
        return smoothed or prompts or self.accelerator.parallelism_config is not None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy of the trained tokens of the update; `inputs` of a forward pass, and (B, T) `labels`."""
        if return_outputs or self.needs_logits:
            count = (inputs["labels"][:, 1:] != IGNORED).sum()
            found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            for name in ("entropy", "mean_token_accuracy"):
                self.weigh(name, count)
            return found
        return self._loss(model, inputs, num_items_in_batch)

    def _loss(self, model: Any, inputs: dict[str, Any], num_items: Tensor | int | None) -> Tensor:
        """The micro-batch's part of the update's loss, 0-d; `num_items`: trained tokens of the update, on all ranks."""
        labels = inputs["labels"]
        trained = labels[:, 1:] != IGNORED  # a first token has nothing that predicts it
        predictors = torch.zeros_like(labels, dtype=torch.bool)
        predictors[:, :-1] = trained
        targets_N = labels[:, 1:][trained]
        count = torch.as_tensor(len(targets_N) if num_items is None else num_items, device=labels.device).clamp(min=1)
        shared = self.args.average_tokens_across_devices and num_items is not None
        ranks = self.accelerator.num_processes if shared else 1
        weights_N = (ranks / count.float()).expand(len(targets_N))
        reweigh = _probability if self.args.loss_type == "dft" else None

        def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, NllStats]:
            return nll_loss(hidden, head, targets_N, weights_N, reweigh=reweigh)

        passed = {name: value for name, value in inputs.items() if name != "labels"}
        passed |= {"predictor_mask": predictors, "head_fn": head_fn}
        (loss, stats), auxiliary = forward_with_auxiliary(self, model, passed, self.track)
        self.track("entropy", stats.entropy)
        self.track("mean_token_accuracy", stats.top1)
        if self.model.training:
            real = inputs["attention_mask"].sum() if "attention_mask" in inputs else labels.new_tensor(labels.numel())
            self._total_train_tokens += int(self.accelerator.gather_for_metrics(real).sum())
        self._metrics["train" if self.model.training else "eval"]["num_tokens"] = [self._total_train_tokens]
        return loss + auxiliary

    def own_state(self) -> dict[str, Any]:
        return {**super().own_state(), "num_tokens": self._total_train_tokens}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._total_train_tokens = state["num_tokens"]


def _probability(logp: Tensor, at: slice) -> Tensor:
    """DFT (arXiv 2508.05629): each token's loss times its probability, held fixed."""
    return logp.exp()
