"""The load-balancing loss of a mixture of experts, as TRL adds it: coefficient times its mean over micro-batches and
ranks. `router_aux_loss_coef` is the trainer's option, else the model's own; 0 leaves it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def forward_with_auxiliary(
    trainer: Any, model: Any, inputs: dict[str, Any], observe: Callable[[str, Tensor], None]
) -> tuple[Any, Tensor | float]:
    """(what `head_fn` returns, what the auxiliary loss adds to this micro-batch's loss) of a forward pass that trains.

    A micro-batch without a trained token runs the same passes and adds nothing.

    Args:
        trainer: one of TRL's, which knows whether its model has an auxiliary loss.
        model: with a head function.
        inputs: of its forward pass, `head_fn` and `predictor_mask` among them.
        observe: gets the loss by itself, as metric `aux_loss`.
    """
    if not trainer.aux_loss_enabled:
        return model(**inputs), 0.0
    result, aux_loss = model(**inputs, aux_loss=True)
    if not inputs["predictor_mask"].any():
        return result, 0.0 * aux_loss
    observe("aux_loss", aux_loss.detach())
    steps = trainer.current_gradient_accumulation_steps if torch.is_grad_enabled() and trainer.model.training else 1
    return result, trainer.router_aux_loss_coef * aux_loss / steps
