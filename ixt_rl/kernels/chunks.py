"""How [tokens, vocabulary] is cut: token chunks bounded by memory, vocabulary tiles by the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

CPU_BUFFER_BYTES = 256 * 2**20
ACCELERATOR_BUFFER_BYTES = 2**31  # an accelerator's host launches each operation: fewer, larger ones
CPU_TILE = 1024
ACCELERATOR_TILE = 16384
CPU_BLOCK = 512
ACCELERATOR_BLOCK = 4096
MAX_CHUNK = 4096
CPU_GATHERED = 256
ACCELERATOR_GATHERED = 2048


@dataclass(frozen=True)
class Chunks:
    """How the tokens of a walk are cut.

    Args:
        lent: tokens whose exponentials lie where the head's gradient will be; they belong to the first chunk.
        own: tokens whose exponentials have memory of their own: the rest of the first chunk, then each chunk after it.
    """

    lent: int
    own: int

    def spans(self, n_tokens: int) -> Iterator[tuple[int, int]]:
        """`(start, end)` of each chunk."""
        first = min(n_tokens, self.lent + self.own)
        yield from spans(first, max(first, 1))
        for a, b in spans(n_tokens - first, max(self.own, 1)):
            yield first + a, first + b


def token_chunks(n_tokens: int, bytes_per_token: int, lent: int, device: torch.device, chunk: int | None) -> Chunks:
    """Chunks whose own memory stays within the device's target at `bytes_per_token`.

    Memory, therefore, does not grow with the number of tokens past a few chunks.

    Args:
        n_tokens: tokens in all.
        bytes_per_token: what is kept of one token until its chunk is done.
        lent: tokens that the memory of the head's gradient has room for. It is free until the first chunk's end.
        chunk: tokens in either memory, if not to be chosen here.
    """
    if chunk is None:
        target = CPU_BUFFER_BYTES if device.type == "cpu" else ACCELERATOR_BUFFER_BYTES
        most, longest = min(MAX_CHUNK, max(16, target // bytes_per_token // 16 * 16)), MAX_CHUNK
    else:
        most = longest = chunk
    lent = min(n_tokens, lent, longest)
    rest = n_tokens - lent
    return Chunks(lent, min(rest, even(rest, most)))


def token_block(n_tokens: int, device: torch.device) -> int:
    """Tokens whose logits of one tile are made at a time."""
    return even(n_tokens, CPU_BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK)


def tile_width(device: torch.device) -> int:
    """Vocabulary entries per tile, at most."""
    return CPU_TILE if device.type == "cpu" else ACCELERATOR_TILE


def gathered_tokens(device: torch.device) -> int:
    """Tokens whose candidates' embeddings, or tiles of probabilities, are gathered at a time: what fits a CPU's cache,
    and on an accelerator, whose host would else launch thousands of small kernels, some 100 MiB."""
    return CPU_GATHERED if device.type == "cpu" else ACCELERATOR_GATHERED


def even(total: int, most: int) -> int:
    """Step of the fewest pieces of at most `most`, all about as long; a multiple of 16 unless that is above `most`."""
    pieces = max(1, math.ceil(total / most))
    return min(most, max(1, math.ceil(total / pieces / 16)) * 16)


def spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of consecutive pieces of at most `step`."""
    for start in range(0, total, step):
        yield start, min(start + step, total)
