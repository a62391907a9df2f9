"""Gradients of hidden states, weight and bias, accumulated tile by tile from the gradient of the logits.

Shapes: N tokens, C tokens of a chunk, c of a block of it, V vocabulary, v entries of a vocabulary tile, K tiles,
D hidden, n candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import gathered_tokens, spans
from ixt_rl.kernels.head import Head, matmul, rounds_factors, statistics_dtype
from ixt_rl.kernels.intro.vocabulary import Tiles


class Gradients:
    """Accumulates in float32 (float64 for float64 inputs), whatever the dtype of the products.

    Args:
        hidden: `[N, D]` all hidden states.
        head: the vocabulary head.
        needs: whether hidden, weight and bias need a gradient.
        dtype: of the products.
        tiles: of the vocabulary; their threads add to the hidden states each in a sum of its own.
        longest: tokens of the longest chunk.
    """

    def __init__(
        self, hidden: Tensor, head: Head, needs: list[bool], dtype: torch.dtype, tiles: Tiles,
        longest: int,
    ):  # fmt: skip
        self.head, self.dtype, self.tiles = head, dtype, tiles
        self.new: dict[str, Any] = {"dtype": statistics_dtype(dtype), "device": hidden.device}
        self.hidden = torch.zeros_like(hidden, dtype=self._kept(hidden.dtype)) if needs[0] else None
        # The first thread sums where the result goes, unless that is narrower.
        self.in_place = self._kept(hidden.dtype) == self.new["dtype"]
        sums = tiles.threads - self.in_place if needs[0] else 0
        self.spare = torch.empty((sums, longest, hidden.shape[1]), **self.new)
        # The first chunk writes, the others add: no pass over [V, D] just to clear it.
        make = torch.empty if len(hidden) else torch.zeros
        whole = make((tiles.count, hidden.shape[1], tiles.width), **self.new) if needs[1] else None
        self.weight = None if whole is None else whole.view(tiles.count * tiles.width, -1)[: head.vocab_size]
        self.bias = torch.zeros(head.vocab_size, **self.new) if needs[2] else None
        # [K, D, v] memory of the weight's gradient. Tile k is free until the first `add_weight` of that tile of the
        # vocabulary, which writes there.
        self.lent = whole

    def begin(self, a: int, b: int) -> None:
        """Begin with the chunk of tokens a:b."""
        self.rows = slice(a, b)
        self.sums = list(self.spare[:, : b - a])  # [C, D] by thread; none: no gradient
        if self.hidden is not None and self.in_place:
            self.sums.insert(0, self.hidden[a:b])

    def add_hidden(self, at: slice, k: int, weight: Tensor, grad: Tensor) -> None:
        """What tile k of the vocabulary contributes to the hidden states; a thread's first overwrites what was there.

        Args:
            at: tokens, counted from the chunk's first.
            weight: `[v, D]` the head there.
            grad: `[c, v]` gradient of the logits.
        """
        if self.sums:
            out = self.sums[self.tiles.thread(k)][at]
            matmul(grad, weight, out, accumulate=k >= self.tiles.threads, room=self._room(k, out))

    def add_weight(
        self, at: slice, k: int, v0: int, v1: int, grad: Tensor, hidden: Tensor, scale: Tensor | None = None
    ) -> None:
        """What tokens `at` contribute to entries v0:v1, tile k, of weight and bias.

        Args:
            grad: `[c, v]` gradient of their logits, not in lent memory, or that divided by `scale`.
            hidden: `[c, D]`, times `scale`.
            scale: `[c]`; None: 1.
        """
        if self.bias is not None:
            self.bias[v0:v1] += grad.sum(0, dtype=self.bias.dtype) if scale is None else grad.t() @ scale
        if self.weight is not None:
            out = self.weight[v0:v1]
            matmul(grad.t(), hidden, out, accumulate=self.rows.start > 0 or at.start > 0, room=self._room(k, out))

    def _room(self, k: int, out: Tensor) -> Tensor | None:
        """Where `matmul` puts what it rounds, on a CPU."""
        if not rounds_factors(self.dtype, out) or out.is_cuda:
            return None
        return self.tiles.spare(k, "product", (out.shape[0], out.shape[1]), self.dtype)

    def join_hidden(self, scale: Tensor | None = None) -> None:
        """Once all tiles have been added: one sum of the threads' sums, times `scale` [C]."""
        for other in self.sums[1:]:
            self.sums[0].add_(other)
        if self.sums and scale is not None:
            self.sums[0].mul_(scale[:, None])

    def add_entries(self, hidden: Tensor, ids: Tensor, values: Tensor) -> None:
        """Add `values` [C, n], gradients of the logits of entries `ids` [C, n], after all tiles and `join_hidden`."""
        if self.bias is not None:
            self.bias.index_add_(0, ids.flatten(), values.flatten())
        for a, b in spans(len(ids), gathered_tokens(ids.device)):
            h = hidden[a:b].to(**self.new)
            for column, value in zip(
                ids[a:b].unbind(1), values[a:b].unsqueeze(2).unbind(1), strict=True
            ):  # [c], [c, 1]
                if self.sums:
                    self.sums[0][a:b].addcmul_(self.head.weight[column].to(self.dtype).to(**self.new), value)
                if self.weight is not None:
                    self.weight.index_add_(0, column, h * value)

    def end(self) -> None:
        """The chunk is complete."""
        if self.hidden is not None and not self.in_place:
            self.hidden[self.rows] = self.sums[0]

    def finish(self) -> tuple[Tensor | None, ...]:
        """The three gradients in the dtypes of hidden, weight and bias, float16's wider (None where none is needed)."""
        head = self.head
        return (
            self.hidden,
            None if self.weight is None else self.weight.to(self._kept(head.weight.dtype)),
            None if self.bias is None or head.bias is None else self.bias.to(self._kept(head.bias.dtype)),
        )

    def _kept(self, dtype: torch.dtype) -> torch.dtype:
        """Dtype of the gradient of something of `dtype` until backward: in float16 it would be 0 without the scale of
        the loss, which only backward knows."""
        return self.new["dtype"] if dtype == torch.float16 else dtype
