"""What was sent, in checksums, so that a receiver knows that it arrived."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ixt_rl.errors import WeightMismatch

if TYPE_CHECKING:
    pass


def whole_set(named_tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors by name, to look at them before any is used. What an iterator gives may not outlast its next, so that
    it is copied, to the CPU."""
    if not isinstance(named_tensors, Iterator):
        return dict(named_tensors)
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in named_tensors}


@dataclass(frozen=True)
class TensorEntry:
    """What is known of one tensor.

    Args:
        shape: its shape.
        dtype: its dtype, such as "bfloat16".
        checksum: `checksum` of it.
    """

    shape: tuple[int, ...]
    dtype: str
    checksum: int


def describe(tensor: Tensor) -> TensorEntry:
    """The entry of a tensor in a manifest."""
    return TensorEntry(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), checksum(tensor))


@dataclass(frozen=True)
class Manifest:
    """What one version of the weights consists of.

    Args:
        version: the policy's version.
        entries: name to entry, of every tensor.
    """

    version: int
    entries: dict[str, TensorEntry]

    def check(self, entries: Mapping[str, TensorEntry], where: str) -> None:
        """Compare with what arrived.

        Args:
            entries: `describe` of each tensor that arrived, by name.
            where: who received them, for the message.

        Raises:
            WeightMismatch: names missing, additional, and the first that differs.
        """
        faults = []
        for kind, names in (
            ("missing", [name for name in self.entries if name not in entries]),
            ("not in the manifest", [name for name in entries if name not in self.entries]),
            ("different", [name for name in self.entries if name in entries and entries[name] != self.entries[name]]),
        ):
            if names:
                faults.append(f"{len(names)} {kind}, first {names[0]}")
        if not faults:
            return
        differing = next((n for n in self.entries if n in entries and entries[n] != self.entries[n]), None)
        if differing is not None:
            faults.append(f"sent as {self.entries[differing]}, arrived as {entries[differing]}")
        raise WeightMismatch(
            f"weights of version {self.version} at {where} are not those sent: {'; '.join(faults)}",
            reason="an engine would sample from another policy than the one that is trained",
            remedy="if names differ, the engine was started from another model than the trainer's; if only checksums "
            "do, the transport damaged the tensors or they changed while they were sent",
        )


_COLUMNS = 1 << 15
"""Words of a row of `checksum`: 256 KiB, which stays in a core's cache."""
_ROWS_AT_ONCE = 128
"""Rows of one step on an accelerator, where starting an operation costs more than memory: 32 MiB."""


def checksum(tensor: Tensor) -> int:
    """A 64-bit checksum of a tensor's values, order and dtype, the same on every device.

    The tensor's bytes are read as 64-bit words `x`, in rows of fixed length; modulo 2^64,

        sum over rows r of u_r * sum over columns c of w_c * (x_rc xor (x_rc >> 32)),

    with fixed pseudo-random odd `u`, `w`, then joined with dtype and length. Sums modulo 2^64 do not depend on their
    order. Odd weights let no change within one word pass; the shift carries sign bits to where a difference of two
    (even) weights does not drop them, so that swapped words show. Protects against accidents, not against intent.

    Args:
        tensor: any shape and dtype; nothing of its size is copied unless it is not contiguous.
    """
    flat = tensor.detach().contiguous().view(-1)
    if flat.data_ptr() % 8 or flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    data = flat.view(torch.uint8)
    end = data.numel() // 8 * 8
    words = data[:end].view(torch.int64)
    whole = words.numel() // _COLUMNS
    rows = -(-data.numel() // (8 * _COLUMNS))
    weights = _odd_weights("columns", _COLUMNS, data.device)
    sums = torch.zeros(rows, dtype=torch.int64, device=data.device)
    step = 1 if data.device.type == "cpu" else _ROWS_AT_ONCE
    table = words[: whole * _COLUMNS].view(whole, _COLUMNS)
    buffer = torch.empty(min(step, whole), _COLUMNS, dtype=torch.int64, device=data.device)
    for start in range(0, whole, step):
        x = table[start : start + step]
        _weigh(x, weights, buffer[: len(x)], sums[start : start + step])
    if rows > whole:
        rest = torch.zeros(-(-(data.numel() - whole * _COLUMNS * 8) // 8), dtype=torch.int64, device=data.device)
        rest.view(torch.uint8)[: data.numel() - whole * _COLUMNS * 8] = data[whole * _COLUMNS * 8 :]
        _weigh(rest[None], weights[: len(rest)], torch.empty_like(rest)[None], sums[whole:])
    total = int((sums * _odd_weights("rows", rows, data.device)).sum()) % (1 << 64)
    return total ^ (zlib.crc32(f"{tensor.dtype} {tensor.numel()}".encode()) << 32)


def _weigh(x: Tensor, weights: Tensor, buffer: Tensor, out: Tensor) -> None:
    """`out[r] = sum_c weights[c] * (x[r, c] xor (x[r, c] >> 32))`; `buffer` is overwritten."""
    torch.bitwise_right_shift(x, 32, out=buffer)
    buffer.bitwise_xor_(x).mul_(weights)
    torch.sum(buffer, dim=1, out=out)


@lru_cache(maxsize=64)
def _odd_weights(stream: str, n: int, device: torch.device) -> Tensor:
    """The first `n` of a fixed sequence of odd 64-bit numbers, `[n]` int64."""
    state = np.random.PCG64(zlib.crc32(stream.encode()))
    return torch.from_numpy(state.random_raw(n).view(np.int64) | 1).to(device)
