"""What the InTRO walk does to one vocabulary tile of a chunk, besides matrix products.

On CUDA with Triton each function is one kernel (`triton_tiles.py`); elsewhere it is the torch operations below. On a
CPU nothing of the tile's size is allocated, and the kept exponentials are written once and read once: touching memory
outside the cache costs more than the arithmetic.

Shapes: C tokens of a chunk, v vocabulary entries of a tile, n candidates.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.head import Head


@dataclass(frozen=True)
class TileSums:
    """Sums over one tile, with `e = exp(z - ref)` per row.

    Args:
        ref: `[2C]` the row's largest logit or its log-sum-exp, policy rows first, posterior rows after them.
        mass: `[2C]` sum of `e`; None where it is 1.
        p_zp: `[C]` sum of `e_p z_p`.
        q_gap: `[C]` sum of `e_q (z_q - z_p)`.
        q_zp: `[C]` sum of `e_q z_p`; None unless asked for.
        gap_top: `[C]` largest `z_q - z_p`; None unless asked for.
    """

    ref: Tensor
    mass: Tensor | None
    p_zp: Tensor
    q_gap: Tensor
    q_zp: Tensor | None
    gap_top: Tensor | None


def tile_sums(z: Tensor, e_p: Tensor, e_q: Tensor, spare: Tensor | None) -> TileSums:
    """Sums of a tile; writes `exp(z - ref)` to `e_p` and `e_q`, and may overwrite `z`.

    Args:
        z: `[2C, v]` logits, the policy's rows first.
        e_p, e_q: `[C, v]`, written.
        spare: `[C, v]`, overwritten: also return `q_zp` and `gap_top`, which exact mode needs. None: do not.
    """
    if _triton(z):
        return _triton(z).tile_sums(z, e_p, e_q, cross=spare is not None)
    c = len(z) // 2
    z_p, z_q = z[:c], z[c:]
    # torch's softmax reads and writes each row once, while it is in the first cache. Its largest entry is 1 / mass.
    torch.softmax(z_p, 1, out=e_p)
    torch.softmax(z_q, 1, out=e_q)
    ref = z.amax(1) - torch.cat([e_p.amax(1), e_q.amax(1)]).log_()
    gap = z_q.sub_(z_p)
    return TileSums(
        ref=ref,
        mass=None,
        q_zp=None if spare is None else torch.mul(e_q, z_p, out=spare).sum(1),
        gap_top=None if spare is None else gap.amax(1),
        p_zp=z_p.mul_(e_p).sum(1),
        q_gap=gap.mul_(e_q).sum(1),
    )


def sampled_gradient(
    e_p: Tensor, push: Tensor, local_ids: Tensor, pull: Tensor, head: Head, shift: Tensor, dtype: torch.dtype,
    out: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient of `h W^T + b`: `chain(push e_p(v) - sum_i pull_i 1[v = c_i])`, `[C, v]`; overwrites `e_p` and `out`.

    Args:
        e_p: `[C, v]` exponentials of the policy.
        push: `[C]`.
        local_ids: `[C, n]` int64 candidates counted from the tile's first entry; those outside 0..v-1 are elsewhere.
        pull: `[C, n]`.
        head: for the derivative of its scale, soft-cap and temperature.
        shift: `[C]` such that the logits are `log e_p + shift`.
        dtype: of the matrix products that follow; the result has it or is wider.
        out: `[C, v]` float32 or wider, where the result may be put.
    """
    if _triton(e_p):
        return _triton(e_p).sampled_gradient(e_p, push, local_ids, pull, head, shift, dtype)
    z = _logits(e_p, head, shift)
    grad = torch.mul(e_p, push[:, None], out=out)
    here = (local_ids >= 0) & (local_ids < grad.shape[1])
    grad.scatter_add_(1, local_ids.clamp(0, grad.shape[1] - 1), torch.where(here, -pull, 0.0))
    return head.chain_(grad, z)


def exact_gradient(
    e_p: Tensor, push: Tensor, e_q: Tensor, pull: Tensor, head: Head, shift: Tensor, dtype: torch.dtype, out: Tensor
) -> Tensor:
    """Gradient of `h W^T + b`: `chain(push e_p - pull e_q)`, `[C, v]`; overwrites `e_p` and `out`; see
    `sampled_gradient`.

    Args:
        e_q: `[C, v]` what is pulled towards, up to the factor `pull` `[C]`.
    """
    if _triton(e_p):
        return _triton(e_p).exact_gradient(e_p, push, e_q, pull, head, shift, dtype)
    z = _logits(e_p, head, shift)
    grad = torch.mul(e_p, push[:, None], out=out)
    return head.chain_(grad.addcmul_(e_q, pull[:, None], value=-1), z)


def log_tile(e: Tensor, shift: Tensor) -> Tensor:
    """`log e + shift` for `e` [C, v], shift [C]. An entry that has underflowed, more than 87 below the largest of its
    tile, counts as 87 below."""
    return e.clamp_min(torch.finfo(e.dtype).tiny).log_().add_(shift[:, None])


def _logits(e_p: Tensor, head: Head, shift: Tensor) -> Tensor | None:
    """The logits again, which only the derivative of a soft-cap asks for."""
    return None if head.softcap is None else log_tile(e_p, shift)


def _triton(x: Tensor) -> Any:
    """The module of Triton kernels where they apply (float32 on CUDA, Triton installed), else None."""
    if not x.is_cuda or x.dtype != torch.float32 or importlib.util.find_spec("triton") is None:
        return None
    from ixt_rl.kernels import triton_tiles

    return triton_tiles
