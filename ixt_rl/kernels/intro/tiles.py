"""What the InTRO walk does to one vocabulary tile of a chunk, besides matrix products.

On CUDA with Triton each function is one kernel (`triton_tiles.py`); elsewhere it is the torch operations below. On a
CPU nothing of the tile's size is allocated, and the kept exponentials are written once and read once: touching memory
outside the cache costs more than the arithmetic.

Shapes: S 1 or 2, policy and posterior; C tokens of a chunk, v vocabulary entries of a tile, n candidates.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.tile_sums import TileSums


def tile_sums(z: Tensor, ref: Tensor, e_p: Tensor, e_q: Tensor | None) -> TileSums:
    """Sums of a tile; writes `exp(z - ref)` to `e_p` and, if asked, to `e_q`; overwrites `z`.

    Args:
        z: `[S C, v]` logits, the policy's rows first.
        ref: `[S, C]`, near each row's largest logit or above.
        e_p: `[C, v]`.
        e_q: `[C, v]`, or None: do not keep the posterior's, nor return `q_zp` and `gap_top`, which exact mode needs.
    """
    kernels = triton_for(z)
    if kernels:
        return kernels.tile_sums(z, ref, e_p, e_q)
    if ref.any():
        z.sub_(ref.flatten()[:, None])
    if len(ref) == 1:
        mass = torch.exp(z, out=e_p).sum(1)
        return TileSums(mass[None], z.mul_(e_p).sum(1), None, None, None, e_p.amax(1))
    c = len(z) // 2
    y_p, y_q = z[:c], z[c:]
    # The posterior's sums first, with the place of the policy's exponentials to work in.
    gap = torch.sub(y_q, y_p, out=e_p)
    gap_top = None if e_q is None else gap.amax(1)
    exp_q = torch.exp(y_q, out=y_q if e_q is None else e_q)
    mass_q, q_gap = exp_q.sum(1), gap.mul_(exp_q).sum(1)
    q_zp = None if e_q is None else torch.mul(exp_q, y_p, out=e_p).sum(1)
    mass_p = torch.exp(y_p, out=e_p).sum(1)
    return TileSums(torch.stack([mass_p, mass_q]), y_p.mul_(e_p).sum(1), q_gap, q_zp, gap_top, None)


def sampled_gradient(
    e_p: Tensor, push: Tensor, local_ids: Tensor, pull: Tensor, head: Head, ref: Tensor, dtype: torch.dtype,
    out: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient of `h W^T + b`: `chain(push e_p(v) - sum_i pull_i 1[v = c_i])`, `[C, v]`; may overwrite `out`.

    Args:
        e_p: `[C, v]` exponentials of the policy.
        push: `[C]`.
        local_ids: `[C, n]` int64 candidates counted from the tile's first entry; those outside 0..v-1 are elsewhere.
        pull: `[C, n]`.
        head: for the derivative of its scale, soft-cap and temperature.
        ref: `[C]` such that the logits are `log e_p + ref`.
        dtype: of the matrix products that follow; the result has it or is wider.
        out: `[C, v]` float32 or wider, where the result may be put.
    """
    kernels = triton_for(e_p)
    if kernels:
        return kernels.sampled_gradient(e_p, push, local_ids, pull, head, ref, dtype)
    grad = torch.mul(e_p, push[:, None], out=out)
    here = (local_ids >= 0) & (local_ids < grad.shape[1])
    grad.scatter_add_(1, local_ids.clamp(0, grad.shape[1] - 1), torch.where(here, -pull, 0.0))
    return head.chain_(grad, _logits(e_p, head, ref))


def exact_gradient(
    e_p: Tensor, push: Tensor, e_q: Tensor, pull: Tensor, head: Head, ref: Tensor, dtype: torch.dtype, out: Tensor
) -> Tensor:
    """Gradient of `h W^T + b`: `chain(push e_p - pull e_q)`, `[C, v]`; may overwrite `out`; see `sampled_gradient`.

    Args:
        e_q: `[C, v]` what is pulled towards, up to the factor `pull` `[C]`.
    """
    kernels = triton_for(e_p)
    if kernels:
        return kernels.exact_gradient(e_p, push, e_q, pull, head, ref, dtype)
    grad = torch.mul(e_p, push[:, None], out=out).addcmul_(e_q, pull[:, None], value=-1)
    return head.chain_(grad, _logits(e_p, head, ref))


def log_tile(e: Tensor, shift: Tensor) -> Tensor:
    """`log e + shift` for `e` [C, v], shift [C]. An entry that has underflowed counts as e^-87."""
    return e.clamp_min(torch.finfo(e.dtype).tiny).log_().add_(shift[:, None])


def _logits(e_p: Tensor, head: Head, ref: Tensor) -> Tensor | None:
    """The logits again, which only the derivative of a soft-cap asks for."""
    return None if head.softcap is None else log_tile(e_p, ref)


def triton_for(x: Tensor) -> Any:
    """The module of Triton kernels where they apply (float32 on CUDA, Triton installed), else None."""
    if not x.is_cuda or x.dtype != torch.float32 or importlib.util.find_spec("triton") is None:
        return None
    from ixt_rl.kernels.intro import triton_tiles

    return triton_tiles
