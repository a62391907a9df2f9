"""A base in 4 bits for QLoRA (arXiv 2305.14314): NF4 by bitsandbytes, double quantization, adapters in float32.

A block of 64 weights w, c its largest absolute value, itself kept in 8 bits:

    q(w) = c * nearest(w / c),    nearest among 16 quantiles of a normal distribution in [-1, 1]

The policy is q(W) + s B A: what a forward pass computes, what engines are sent and what a stage hands on. Embedding,
head, norms and biases stay in float32, as peft's `prepare_model_for_kbit_training` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.pretrained.weights_hash import weights_hash
from ixt_rl.rollout.weights.policy import dequantized

_FROM = "_quantized_from"
BLOCK = 64
"""Weights that share a scale."""
_MOST, _OF_SCALES = 0.153, 0.01
"""How far a weight moves at most: half of the widest gap between quantiles, of its scale, and what rounding moves a
scale, of the largest distance of one from their mean."""


def quantize(model: Any, kind: str, compute: torch.dtype, whole: Sequence[str] = ()) -> None:
    """Replaces a model's linear layers by such in 4 bits, where they are: on the CPU to the same bits on every machine.

    Args:
        model: a plain transformers model, not yet adapted.
        kind: how; `nf4`.
        compute: dtype of the products.
        whole: ends of names of modules that stay as they are (`modules_to_save`); the head does, too.

    Raises:
        ConfigError: the model has experts that are fused in one tensor, or rows that are no whole number of blocks.
        SelfCheckError: what bitsandbytes reads back is not what it was given, rounded.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    fused = [name for name, parameter in model.named_parameters() if parameter.dim() == 3 and "experts" in name]
    if fused:
        raise ConfigError(
            f"lora.quantize: {kind} of {type(model).__name__}",
            reason=f"its experts are fused in one tensor ({fused[0]}), and bitsandbytes quantizes linear layers alone",
            remedy="leave quantize out",
        )
    setattr(model, _FROM, {"sha256": weights_hash(model), "quantized": kind})
    head = model.get_output_embeddings()
    for name, layer in [*model.named_modules()]:
        if not isinstance(layer, nn.Linear) or layer is head or any(f"{end}." in f"{name}." for end in whole):
            continue
        weight, bias = layer.weight, layer.bias
        if layer.in_features % BLOCK:
            raise ConfigError(
                f"lora.quantize: {kind} of {name}, {layer.in_features} wide",
                reason=f"blocks of {BLOCK} weights would lie in two rows, which kernels for CPUs do not read as they "
                "were written",
                remedy="leave quantize out",
            )
        with torch.device("meta"):
            packed: Any = Linear4bit(layer.in_features, layer.out_features, bias is not None, compute, quant_type=kind)
        packed.weight = Params4bit(weight.detach(), requires_grad=False, quant_type=kind, module=packed)
        packed.weight = packed.weight.to(weight.device)  # which quantizes
        packed.bias = bias
        # Without gradients on a CPU it would compute in bfloat16: sampled log-probs would not be those of training.
        packed.support_avx512bf16_for_cpu = False
        _check(name, packed.weight, weight.detach())
        model.set_submodule(name, packed.train(layer.training))


def _check(name: str, packed: Any, weight: Tensor) -> None:
    """Each weight is as near to what it was as rounding to the nearest quantile leaves it."""
    blocks = weight.reshape(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True)
    limit = _MOST * scales + _OF_SCALES * (scales - scales.mean()).abs().max() + 1e-12
    further = (dequantized(packed).reshape(-1, BLOCK) - blocks).abs() / limit
    if not bool((further <= 1).all()):
        raise SelfCheckError(
            f"{name} in 4 bits: a weight moved {float(further.max()):.3g} times as far as rounding moves it",
            reason=f"each is rounded to the nearest of 16 values of its {BLOCK}: the kernels are wrong",
            remedy="install another bitsandbytes, or leave lora.quantize out",
        )


def quantized_from(model: Any) -> dict[str, str] | None:
    """Of a model in 4 bits, adapted or not, `sha256` of what it was before and how it was `quantized`; else None."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base, _FROM, None)


def quantized_layers() -> dict[type, type]:
    """peft's class of adapters for layers in 4 bits, by the layer's."""
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora.bnb import Linear4bit as AdaptedLinear4bit

    return {Linear4bit: AdaptedLinear4bit}
