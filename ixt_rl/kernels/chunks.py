"""How [tokens, vocabulary] is cut: token chunks bounded by memory, vocabulary tiles by the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

CPU_BUFFER_BYTES = 120 * 2**20
ACCELERATOR_BUFFER_BYTES = 2**30
CPU_TILE = 2048
ACCELERATOR_TILE = 16384
CPU_BLOCK = 256
ACCELERATOR_BLOCK = 1024
MAX_CHUNK = 4096
GATHERED = 256  # tokens whose candidates' embeddings are gathered at a time


@dataclass(frozen=True)
class Chunks:
    """How the tokens of a walk are cut.

    Args:
        first: tokens of the first chunk.
        others: tokens of each chunk after it (of the last, at most); 0 if there is none.
        borrowed: the first chunk's exponentials lie where the head's gradient will be.
    """

    first: int
    others: int
    borrowed: bool

    def spans(self, n_tokens: int) -> Iterator[tuple[int, int]]:
        """`(start, end)` of each chunk."""
        yield from spans(self.first, max(self.first, 1))
        for a, b in spans(n_tokens - self.first, max(self.others, 1)):
            yield self.first + a, self.first + b


def token_chunks(n_tokens: int, bytes_per_token: int, lent: int, device: torch.device, chunk: int | None) -> Chunks:
    """Chunks whose buffer of `bytes_per_token` stays within the device's memory target.

    Buffers, and so memory, do not grow with the number of tokens past a few chunks.

    Args:
        n_tokens: tokens in all.
        bytes_per_token: what is kept of one token until its chunk is done.
        lent: tokens that the memory of the head's gradient has room for. It is free until the first chunk's end.
        chunk: tokens per chunk, if not to be chosen here.
    """
    if chunk is None:
        target = CPU_BUFFER_BYTES if device.type == "cpu" else ACCELERATOR_BUFFER_BYTES
        most = min(MAX_CHUNK, max(16, target // bytes_per_token // 16 * 16))
        longest = max(most, min(MAX_CHUNK, lent))
    else:
        most = longest = chunk
    first = min(n_tokens, longest)
    borrowed = first <= lent
    if not borrowed:
        first = min(n_tokens, even(n_tokens, most))
    rest = n_tokens - first
    return Chunks(first, min(rest, even(rest, most)), borrowed)


def token_block(n_tokens: int, device: torch.device) -> int:
    """Tokens whose logits of one tile are made at a time."""
    return even(n_tokens, CPU_BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK)


def tile_width(device: torch.device) -> int:
    """Vocabulary entries per tile, at most."""
    return CPU_TILE if device.type == "cpu" else ACCELERATOR_TILE


def even(total: int, most: int) -> int:
    """Step of the fewest pieces of at most `most`, all about as long; a multiple of 16 unless that is above `most`."""
    pieces = max(1, math.ceil(total / most))
    return min(most, max(1, math.ceil(total / pieces / 16)) * 16)


def spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of consecutive pieces of at most `step`."""
    for start in range(0, total, step):
        yield start, min(start + step, total)
