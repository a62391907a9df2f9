"""The functions of `tiles.py`, one Triton kernel each: every tile is read from memory once and written once.

In torch operations the sums of a tile pass over it about ten times; on an accelerator, where
the matrix products are fast, these passes would take most of the time. Import needs Triton.

Shapes: S 1 or 2, policy and posterior; C tokens of a chunk, v vocabulary entries of a tile, n candidates.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.tile_sums import TileSums

BLOCK = 2048  # entries that one program holds at once
WARPS = 4
TINY = torch.finfo(torch.float32).tiny


def tile_sums(z: Tensor, ref: Tensor, e_p: Tensor, e_q: Tensor | None) -> TileSums:
    """As `tiles.tile_sums`; `z` is left as it was."""
    c, v = ref.shape[1], z.shape[1]
    out = torch.empty((6, c), dtype=torch.float32, device=z.device)
    if len(ref) == 1:
        _sums_of_policy[(c,)](
            z, ref.contiguous(), e_p, out, c, v, z.stride(0), e_p.stride(0), BLOCK=BLOCK, num_warps=WARPS
        )
        return TileSums(mass=out[:1], p_zp=out[1], q_gap=None, q_zp=None, gap_top=None, p_top=out[2])
    kept = e_p if e_q is None else e_q
    _sums[(c,)](
        z, ref.contiguous(), e_p, kept, out, c, v, z.stride(0), e_p.stride(0), kept.stride(0),
        EXACT=e_q is not None, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    exact = {} if e_q is None else {"q_zp": out[4], "gap_top": out[5]}
    return TileSums(mass=out[:2], p_zp=out[2], q_gap=out[3], p_top=None, **({"q_zp": None, "gap_top": None} | exact))


def sampled_gradient(
    e_p: Tensor, push: Tensor, local_ids: Tensor, pull: Tensor, head: Head, ref: Tensor, dtype: torch.dtype
) -> Tensor:
    """As `tiles.sampled_gradient`; the result is new, in `dtype`. Push and pull of a likely token nearly cancel, and so
    meet before they are rounded."""
    return _gradient(e_p, push, e_p, pull, local_ids, head, ref, dtype)


def exact_gradient(
    e_p: Tensor, push: Tensor, e_q: Tensor, pull: Tensor, head: Head, ref: Tensor, dtype: torch.dtype
) -> Tensor:
    """As `tiles.exact_gradient`; the result is new, in `dtype`, and the inputs are left as they were."""
    return _gradient(e_p, push, e_q, pull, None, head, ref, dtype)


def _gradient(
    e_p: Tensor, push: Tensor, e_q: Tensor, pull: Tensor, ids: Tensor | None, head: Head, ref: Tensor,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    c, v = e_p.shape
    out = torch.empty((c, v), dtype=dtype, device=e_p.device)
    _chained[(c, triton.cdiv(v, BLOCK))](
        e_p, e_q, out, push.contiguous(), pull.contiguous(), pull if ids is None else ids.contiguous(),
        ref.contiguous(), v, e_p.stride(0), e_q.stride(0),
        0.0 if head.softcap is None else head.temperature / head.softcap, head.scale / head.temperature,
        N=0 if ids is None else ids.shape[1], CAPPED=head.softcap is not None, TINY=TINY, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["c"])  # the number of rows differs from block to block
def _sums(z, ref, e_p, e_q, out, c, v, z_row, p_row, q_row, EXACT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    z_p, z_q = z + row.to(tl.int64) * z_row, z + (row + c).to(tl.int64) * z_row
    e_p += row.to(tl.int64) * p_row
    e_q += row.to(tl.int64) * q_row
    ref_p, ref_q = tl.load(ref + row), tl.load(ref + c + row)
    columns = tl.arange(0, BLOCK)
    mass_p = tl.zeros([BLOCK], tl.float32)
    mass_q = tl.zeros([BLOCK], tl.float32)
    p_zp = tl.zeros([BLOCK], tl.float32)
    q_gap = tl.zeros([BLOCK], tl.float32)
    q_zp = tl.zeros([BLOCK], tl.float32)
    gap_top = tl.full([BLOCK], float("-inf"), tl.float32)
    for start in range(0, v, BLOCK):
        inside = start + columns < v
        y_p = tl.load(z_p + start + columns, mask=inside, other=0.0) - ref_p
        y_q = tl.load(z_q + start + columns, mask=inside, other=0.0) - ref_q
        x_p = tl.where(inside, tl.exp(y_p), 0.0)
        x_q = tl.where(inside, tl.exp(y_q), 0.0)
        tl.store(e_p + start + columns, x_p, mask=inside)
        mass_p += x_p
        mass_q += x_q
        p_zp += x_p * y_p
        q_gap += x_q * (y_q - y_p)
        if EXACT:
            tl.store(e_q + start + columns, x_q, mask=inside)
            q_zp += x_q * y_p
            gap_top = tl.maximum(gap_top, tl.where(inside, y_q - y_p, float("-inf")))
    tl.store(out + row, tl.sum(mass_p, 0))
    tl.store(out + c + row, tl.sum(mass_q, 0))
    tl.store(out + 2 * c + row, tl.sum(p_zp, 0))
    tl.store(out + 3 * c + row, tl.sum(q_gap, 0))
    if EXACT:
        tl.store(out + 4 * c + row, tl.sum(q_zp, 0))
        tl.store(out + 5 * c + row, tl.max(gap_top, 0))


@triton.jit(do_not_specialize=["c"])  # the number of rows differs from block to block
def _sums_of_policy(z, ref, e_p, out, c, v, z_row, p_row, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    z += row.to(tl.int64) * z_row
    e_p += row.to(tl.int64) * p_row
    ref_p = tl.load(ref + row)
    columns = tl.arange(0, BLOCK)
    mass = tl.zeros([BLOCK], tl.float32)
    p_zp = tl.zeros([BLOCK], tl.float32)
    top = tl.zeros([BLOCK], tl.float32)
    for start in range(0, v, BLOCK):
        inside = start + columns < v
        y = tl.load(z + start + columns, mask=inside, other=0.0) - ref_p
        x = tl.where(inside, tl.exp(y), 0.0)
        tl.store(e_p + start + columns, x, mask=inside)
        mass += x
        p_zp += x * y
        top = tl.maximum(top, x)
    tl.store(out + row, tl.sum(mass, 0))
    tl.store(out + c + row, tl.sum(p_zp, 0))
    tl.store(out + 2 * c + row, tl.max(top, 0))


@triton.jit
def _chained(
    e_p, e_q, out, push, pull, ids, ref, v, p_row, q_row, cap, gain,
    N: tl.constexpr, CAPPED: tl.constexpr, TINY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < v
    e = tl.load(e_p + row * p_row + columns, mask=inside, other=0.0)
    grad = e * tl.load(push + row)
    if N == 0:
        grad -= tl.load(e_q + row * q_row + columns, mask=inside, other=0.0) * tl.load(pull + row)
    else:
        for i in tl.static_range(N):
            here = columns == tl.load(ids + row * N + i)
            grad -= tl.where(here, tl.load(pull + row * N + i), 0.0)
    if CAPPED:
        z = (tl.log(tl.maximum(e, TINY)) + tl.load(ref + row)) * cap
        grad *= 1 - z * z
    grad *= gain
    tl.store(out + row * v + columns, grad.to(out.dtype.element_ty), mask=inside)
