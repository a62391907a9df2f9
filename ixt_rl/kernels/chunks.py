"""How [tokens, vocabulary] is cut: token chunks bounded by memory, vocabulary tiles by the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

CPU_BUFFER_BYTES = 120 * 2**20
ACCELERATOR_BUFFER_BYTES = 2**30
CPU_TILE = 2048
ACCELERATOR_TILE = 16384
MAX_CHUNK = 4096


def token_chunk(n_tokens: int, bytes_per_token: int, device: torch.device) -> int:
    """Tokens per chunk, so that buffers of `bytes_per_token` stay within the device's memory target.

    All are equally long but the last: buffers, and so memory, are the same for any number of tokens past one chunk.
    """
    target = CPU_BUFFER_BYTES if device.type == "cpu" else ACCELERATOR_BUFFER_BYTES
    most = min(MAX_CHUNK, max(16, target // bytes_per_token // 16 * 16))
    return max(1, min(most, math.ceil(n_tokens / 16) * 16))


def tile_width(device: torch.device) -> int:
    """Vocabulary entries per tile."""
    return CPU_TILE if device.type == "cpu" else ACCELERATOR_TILE


def spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of consecutive pieces of at most `step`."""
    for start in range(0, total, step):
        yield start, min(start + step, total)
