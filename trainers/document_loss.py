"""The loss of trainers on documents: cross-entropy of the trained tokens, its metrics and gradients in one walk.

    (B, T) labels --shift--> predictors, targets --model.forward: hidden states, head--> nll_loss; no logits are made

It stands in place of `SFTTrainer.compute_loss`, which computes the logits twice, in forward and once again in backward,
of all positions of a row. Metrics and their names are TRL's.

Shapes: B rows, T tokens, N trained tokens, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels import Head, NllStats, nll_loss
from ixt_rl.trainers.auxiliary import forward_with_auxiliary

IGNORED = -100


def has_own_loss(trainer: Any) -> bool:
    """Whether what was asked for needs the logits, or splits rows over ranks: then the loss is TRL's own."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    prompts = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    smoothed = trainer.label_smoother is not None or trainer.compute_loss_func is not None
    return smoothed or prompts or trainer.accelerator.parallelism_config is not None


def document_loss(
    trainer: Any, model: Any, inputs: dict[str, Any], labels: Tensor, real: Tensor, num_items: Tensor | int | None
) -> Tensor:
    """The micro-batch's part of the update's loss, 0-d; adds TRL's metrics.

    Args:
        trainer: an `SFTTrainer` whose model has a head function.
        model: as `compute_loss` gets it.
        inputs: keyword arguments of its forward pass.
        labels: (B, T) int64, -100 where nothing is trained.
        real: (B, T) 1 on tokens, 0 on padding.
        num_items: trained tokens of the update, on all ranks; None: of this micro-batch.
    """
    trained = labels[:, 1:] != IGNORED  # a first token has nothing that predicts it
    predictors = torch.zeros_like(labels, dtype=torch.bool)
    predictors[:, :-1] = trained
    targets_N = labels[:, 1:][trained]
    count = torch.as_tensor(len(targets_N) if num_items is None else num_items, device=labels.device).clamp(min=1)
    ranks = trainer.accelerator.num_processes
    shared = trainer.args.average_tokens_across_devices and num_items is not None
    weights_N = ((ranks if shared else 1) / count.float()).expand(len(targets_N))
    reweigh = _probability if trainer.args.loss_type == "dft" else None

    def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, NllStats]:
        return nll_loss(hidden, head, targets_N, weights_N, reweigh=reweigh)

    mode = "train" if trainer.model.training else "eval"
    passed = {**inputs, "predictor_mask": predictors, "head_fn": head_fn}
    (loss, stats), auxiliary = forward_with_auxiliary(
        trainer, model, passed, lambda name, value: _mean(trainer, mode, name, value[None])
    )
    _mean(trainer, mode, "entropy", stats.entropy)
    _mean(trainer, mode, "mean_token_accuracy", stats.top1)
    if mode == "train":
        trainer._total_train_tokens += int(trainer.accelerator.gather_for_metrics(real.sum()).sum())
    trainer._metrics[mode]["num_tokens"] = [trainer._total_train_tokens]
    return loss + auxiliary


def _probability(logp: Tensor, at: slice) -> Tensor:
    """DFT (arXiv 2508.05629): each token's loss times its probability, held fixed."""
    return logp.exp()


def _mean(trainer: Any, mode: str, name: str, values: Tensor) -> None:
    """Adds the mean over all ranks' values; 0 where there are none, as TRL does."""
    local = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    total, count = trainer.accelerator.gather_for_metrics(local[None]).sum(0).tolist()
    trainer._metrics[mode][name].append(total / count if count else 0.0)
