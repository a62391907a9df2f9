"""The vocabulary head: one description of how hidden states become logits, used by every loss.

Shapes: N tokens, C tokens of a chunk, V vocabulary, v vocabulary entries of a tile, D hidden.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.chunks import gathered_tokens, spans


@dataclass(frozen=True)
class Head:
    """Hidden states `h` become logits `z = softcap(scale * (h W^T + b)) / temperature`.

    Args:
        weight: `[V, D]`, the output embedding. May be a DTensor (FSDP2) or a ZeRO-3 partitioned parameter.
        bias: `[V]`, or None.
        temperature: logits are divided by it, after soft-capping.
        softcap: `s` in `s * tanh(x / s)`, or None for no soft-capping.
        scale: logits are multiplied by it, before soft-capping.
        dtype: of the products' inputs; None: autocast's, or the wider one of hidden states and weight.

    Raises:
        ConfigError: temperature or softcap is not positive.
    """

    weight: Tensor
    bias: Tensor | None = None
    temperature: float = 1.0
    softcap: float | None = None
    scale: float = 1.0
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature={self.temperature} for log-probs",
                reason="logits are divided by the temperature",
                remedy="give the sampling temperature, above 0; score greedy samples at 1.0",
            )
        if self.softcap is not None and not self.softcap > 0:
            raise ConfigError(
                f"softcap={self.softcap}",
                reason="soft-capping is softcap * tanh(logits / softcap)",
                remedy="give a positive value, or None for a model without soft-capping",
            )

    @property
    def vocab_size(self) -> int:
        return self.weight.shape[0]

    def product_dtype(self, hidden: Tensor) -> torch.dtype:
        """Dtype of the products' inputs: the head's own, autocast's inside autocast, else the wider of the two."""
        return self.dtype or product_dtype(hidden, self.weight)

    def entries(self, start: int, end: int, dtype: torch.dtype) -> Tensor:
        """`[end - start, D]` rows of the weight as factors of products of `dtype`."""
        return factors(self.weight[start:end], dtype)

    def logit_entries(self, start: int, end: int, dtype: torch.dtype) -> Tensor:
        """As `entries`, for `project`."""
        return logit_factors(self.weight[start:end], dtype)

    def project(self, hidden: Tensor, start: int, weight: Tensor, out: Tensor) -> Tensor:
        """Write the logits of the vocabulary entries from `start` on into `out`.

        Args:
            hidden: `[C, D]`, as `logit_factors` gives them.
            weight: `[v, D]` these entries (`logit_entries`).
            out: `[C, v]`, float32 (float64 for float64 inputs); rows may be strided.
        """
        matmul(hidden, weight.t(), out, accumulate=False)
        if self.bias is not None:
            out.add_(self.bias[start : start + len(weight)])
        return self._transform(out)

    def project_ids(self, hidden: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits of given entries, as products of `dtype` give them: hidden `[C, D]` (`factors`), ids `[C, n]` ->
        `[C, n]`, in the dtype of `project`."""
        z = torch.empty(ids.shape, dtype=statistics_dtype(hidden.dtype), device=hidden.device)
        for a, b in spans(len(ids), gathered_tokens(ids.device)):
            h = hidden[a:b].to(z.dtype)
            for column in range(ids.shape[1]):
                z[a:b, column] = (h * self.weight[ids[a:b, column]].to(dtype).to(z.dtype)).sum(-1)
        if self.bias is not None:
            z.add_(self.bias[ids])
        return self._transform(z)

    def _transform(self, z: Tensor) -> Tensor:
        if self.scale != 1.0:
            z.mul_(self.scale)
        if self.softcap is not None:
            z.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.temperature != 1.0:
            z.div_(self.temperature)
        return z

    def chain_(self, grad: Tensor, z: Tensor | None) -> Tensor:
        """Turn the gradient of the logits `z` into that of `h W^T + b`, in place; `z` is another tensor, read only
        where there is a soft-cap (and then overwritten)."""
        if self.softcap is not None:
            assert z is not None
            grad.mul_(1 - (z * (self.temperature / self.softcap)).square_())
        if self.scale != self.temperature:
            grad.mul_(self.scale / self.temperature)
        return grad


def product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Dtype of the matrix products' inputs: autocast's inside autocast, else the wider of the two."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return torch.promote_types(hidden.dtype, weight.dtype)


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of logits, log-probs and accumulated gradients: float32, or float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def factors(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` rounded to `dtype`, as `matmul` takes it: widened where products of that dtype have no float32 result."""
    rounded = x.to(dtype)
    return rounded if rounds_factors(dtype, x) else rounded.to(statistics_dtype(dtype))


def logit_factors(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` rounded to `dtype`, for products whose result is not rounded to it: widened on all devices but CUDA."""
    rounded = x.to(dtype)
    return rounded if dtype == torch.bfloat16 and x.is_cuda else rounded.to(statistics_dtype(dtype))


def rounds_factors(dtype: torch.dtype, where: Tensor) -> bool:
    """Whether `matmul` on the device of `where` rounds factors to `dtype`, that of the products: what nearly cancels
    must be subtracted before."""
    return dtype == torch.bfloat16 and (where.is_cuda or (where.device.type == "cpu" and cpu_multiplies_bfloat16()))


@functools.cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX512-BF16 or AMX), and torch uses them."""
    if not torch.backends.mkldnn.is_available():
        return False
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in asked)


class _Float32Results:
    """How many `float32_results` of bfloat16 factors are open, over all threads, and the setting before the first."""

    lock = threading.Lock()
    open = 0
    before = "none"


@contextmanager
def float32_results(dtype: torch.dtype, where: Tensor) -> Iterator[None]:
    """Products of bfloat16 factors that have been widened to float32 (`logit_factors`) are fast within.

    torch has no bfloat16 product with a float32 result on a CPU. oneDNN, told that it may round the factors of a
    float32 product to bfloat16, rounds nothing here, where they are bfloat16 numbers already: the sum is exact to
    float32, by AMX or, where the CPU has AVX512 alone, as a float32 product, twice as fast as MKL's on processors that
    are not Intel's. The permission is the process's: float32 products that other threads make meanwhile may be rounded
    on AMX.

    Does nothing for other dtypes and devices.
    """
    if not (rounds_factors(dtype, where) and where.device.type == "cpu"):
        yield
        return
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with _Float32Results.lock:
        if _Float32Results.open == 0:
            _Float32Results.before, setting.fp32_precision = setting.fp32_precision, "bf16"
        _Float32Results.open += 1
    try:
        yield
    finally:
        with _Float32Results.lock:
            _Float32Results.open -= 1
            if _Float32Results.open == 0:
                setting.fp32_precision = _Float32Results.before


def matmul(a: Tensor, b: Tensor, out: Tensor, *, accumulate: bool, room: Tensor | None = None) -> None:
    """`out (+)= a @ b`, summed in `out`'s dtype.

    Where one factor is bfloat16, the other is rounded to it if the device has such products. On CUDA they have a
    float32 result. On a CPU with bfloat16 units the sum is a float32 one that is rounded once, which a gradient bears
    and a logit does not (`logit_factors`). Elsewhere, and for float16 (whose range is too small for gradients),
    the inputs are widened, and nothing is rounded to a narrower dtype. `room`: memory for such a rounded product.
    """
    if torch.bfloat16 in (a.dtype, b.dtype) and out.is_cuda and out.dtype == torch.float32:
        a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
        if accumulate:
            torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
        else:
            torch.mm(a, b, out_dtype=torch.float32, out=out)
    elif torch.bfloat16 in (a.dtype, b.dtype) and rounds_factors(torch.bfloat16, out) and out.dtype == torch.float32:
        product = torch.mm(a.to(torch.bfloat16), b.to(torch.bfloat16), out=room)
        if accumulate:
            out.add_(product)
        else:
            out.copy_(product)
    elif accumulate:
        out.addmm_(a.to(out.dtype), b.to(out.dtype))
    else:
        torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)


@contextmanager
def gathered_head(*heads: Head) -> Iterator[tuple[Head, ...]]:
    """Yield the heads with whole weights, for direct use inside `model.forward`.

    - FSDP2: a DTensor weight (a head that is its own FSDP group, so that no hook has gathered it) becomes a
      plain tensor. Its gradient is averaged over the ranks and scattered back to the shards, as FSDP does.
    - ZeRO-3: partitioned parameters are gathered until the block ends.
    - Anything else passes through.
    """
    whole = tuple(
        replace(
            head,
            weight=_full_tensor(head.weight),
            bias=None if head.bias is None else _full_tensor(head.bias),
        )
        for head in heads
    )
    with zero3_gathered(*(t for head in whole for t in (head.weight, head.bias))):
        yield whole


def _full_tensor(x: Tensor) -> Tensor:
    if not torch.distributed.is_available():
        return x
    from torch.distributed.tensor import DTensor, Partial

    if not isinstance(x, DTensor):
        return x
    # By default the gradient of full_tensor() counts as replicated and each rank would keep its own slice of
    # its own gradient, unreduced.
    full = x.full_tensor(grad_placements=[Partial()] * x.device_mesh.ndim)
    if full.requires_grad:
        ranks = x.device_mesh.size()
        full.register_hook(lambda grad: grad / ranks)
    return full


def zero3_gathered(*parameters: Tensor | None) -> Any:
    """Context in which those of `parameters` that DeepSpeed ZeRO-3 has partitioned are whole."""
    partitioned: dict[int, Any] = {id(p): p for p in parameters if p is not None and hasattr(p, "ds_id")}
    if not partitioned:
        return nullcontext()
    import deepspeed
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    # A tied embedding may be whole already; gathering it again would partition it under its owner's feet.
    absent = [p for p in partitioned.values() if p.ds_status != ZeroParamStatus.AVAILABLE]
    with ExitStack() as gathered:
        for parameter in absent:
            # One by one: for several, DeepSpeed waits for the last one's collective alone, and leaves the rest to a
            # synchronisation of the device, which a CPU does not have. They could be read before they had come.
            gathered.enter_context(deepspeed.zero.GatheredParameters([parameter]))
        return gathered.pop_all()
