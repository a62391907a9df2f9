"""A model's forward pass that ends at its output head: hidden states of some positions, and the head, for a function.

    hidden (B, T, D) --predictor_mask--> (N, D) --head_fn(hidden, head)--> log-probs or a loss; no logits are made

What an architecture does to logits is in `model_head`, TRL's table and a little more. Whether that is all it does is
compared before training: `forward_checks.check_head`.

Shapes: B rows, T tokens, N loss-bearing tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from ixt_rl.conditioning import Batch
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import Head


def add_head_function(model: PreTrainedModel, temperature: float, *, float32: bool = False) -> None:
    """Lets `model(..., predictor_mask=mask, head_fn=fn)` return `fn(hidden[mask], head)`.

    The backbone runs, the hidden states at `mask` (B, T) bool, or at places (N,) int64 of one row, are taken as (N, D),
    and `fn` meets the head inside `model.forward`, so that DDP, FSDP and ZeRO see the use of its weights. No logits are
    made. Without `head_fn` the forward is unchanged. A copy of the model (`copy.deepcopy`) has all of this with its own
    weights. With `aux_loss=True` it returns `(fn(...), auxiliary loss)`, the load-balancing loss of a mixture of
    experts over the tokens of `attention_mask`; with False `(fn(...), None)`. Where the head is on another device than
    what goes in, hidden states go there, and results come back.

    Args:
        model: a causal language model.
        temperature: of the head that `fn` gets.
        float32: products with the head are computed in float32 also under autocast (`cast_lm_head_to_fp32`).
    """
    original: Any = model.forward
    bound = isinstance(original, types.MethodType) and original.__self__ is model
    held: Any = model
    held.head_in_float32, held.head_temperature = float32, temperature

    @functools.wraps(type(model).forward)
    def forward(self, *args, head_fn=None, predictor_mask=None, aux_loss=None, **kwargs):
        if head_fn is None:
            return original.__func__(self, *args, **kwargs) if bound else original(*args, **kwargs)
        if aux_loss:
            kwargs["output_router_logits"] = True
        outputs = backbone(self)(*args, **{**kwargs, "use_cache": False})
        hidden, head = outputs.last_hidden_state, model_head(self, temperature)
        chosen = _chosen(hidden, predictor_mask.to(hidden.device)).to(head.weight.device)
        result = _moved(head_fn(chosen, head), predictor_mask.device)
        if not aux_loss:
            return result if aux_loss is None else (result, None)
        return result, load_balancing_loss(self, outputs.router_logits, kwargs.get("attention_mask"))

    model.forward = types.MethodType(forward, model)


def head_temperature(model: Any) -> float | None:
    """The temperature of the head that a model's `head_fn` gets; None for one without `add_head_function`."""
    return getattr(model, "head_temperature", None)


def _chosen(hidden: Tensor, where: Tensor) -> Tensor:
    """(B, T, D) -> (N, D) at a mask (B, T), or at places (N,) of one row, which may repeat."""
    return hidden[where] if where.dtype == torch.bool else embedding(where, hidden[0])


def backbone(model: PreTrainedModel) -> Any:
    """What makes the hidden states that the output head takes."""
    inner: Any = model.base_model
    return inner if inner is not model else model.model  # Llama 4's text model names a prefix that it does not have


def plain_model(trainer: Any) -> Any:
    """The trainer's model without what wraps it, adapters included."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def masks_for_backbone(model: Any, batch: Batch, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields inputs for a model whose own forward reads a (B, T) mask, such as TRL's does for the auxiliary loss.

    The backbone gets the masks of a packed batch in its place, while the block lasts.

    Args:
        model: the plain model, whatever wraps it.
        batch: what `inputs` were made of, by `Batch.model_inputs`.
        inputs: keyword arguments of a forward pass.
    """
    if not batch.is_packed:
        yield inputs
        return
    mask = {"attention_mask": inputs["attention_mask"]}
    hook = backbone(model).register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, **mask}), with_kwargs=True
    )
    try:
        yield {**inputs, "attention_mask": batch.attention_mask}
    finally:
        hook.remove()


def model_head(model: PreTrainedModel, temperature: float) -> Head:
    """The model's output head with what its architecture does to logits.

    Raises:
        ConfigError: an adapter is on the head.
    """
    config: Any = model.config.get_text_config()
    linear = model.get_output_embeddings()
    if hasattr(linear, "base_layer"):
        raise ConfigError(
            f"an adapter on the output head of {type(model).__name__}",
            reason="log-probs are computed from the head's own weight, and the adapter would change nothing",
            remedy="leave the head out of target_modules, or train it whole with modules_to_save",
        )
    return Head(
        weight=linear.weight,
        bias=getattr(linear, "bias", None),
        temperature=temperature,
        softcap=getattr(config, "final_logit_softcapping", None),
        scale=logit_scale(config),
        dtype=torch.float32 if getattr(model, "head_in_float32", False) else None,
    )


def logit_scale(config: Any) -> float:
    """What an architecture multiplies logits by, before soft-capping; 1 for most."""
    if config.model_type == "mpt":  # has a `logit_scale` that its forward does not read
        return 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    if getattr(config, "logits_scaling", None) is not None:
        return config.logits_scaling if config.model_type == "hyperclovax" else 1 / config.logits_scaling
    return 1 / (getattr(config, "logits_mup_width_multiplier", None) or 1.0)


def padded_positions(attention_mask: Tensor) -> Tensor:
    """(B, T) mask -> (B, T) positions that count real tokens only, whichever side is padded."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def load_balancing_loss(model: PreTrainedModel, router_logits: Any, attention_mask: Tensor | None) -> Tensor:
    """The auxiliary loss of a mixture of experts as TRL takes it, from `[tokens, experts]` of each layer; 0-d."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    config: Any = model.config.get_text_config()
    loss: Any = load_balancing_loss_func(router_logits, config.num_experts, config.num_experts_per_tok, attention_mask)
    return loss


def _moved(result: Any, device: torch.device) -> Any:
    """A tensor, or a tuple or dataclass of them, on `device`."""
    if isinstance(result, Tensor):
        return result.to(device)
    if isinstance(result, tuple):
        return tuple(_moved(one, device) for one in result)
    if is_dataclass(result) and not isinstance(result, type):
        found = {field.name: getattr(result, field.name) for field in fields(result)}
        return replace(result, **{name: _moved(one, device) for name, one in found.items() if isinstance(one, Tensor)})
    return result
