"""Gradients of hidden states, weight and bias, accumulated tile by tile from the gradient of the logits.

Shapes: N tokens, C tokens of a chunk, c of a block of it, V vocabulary, v entries of a vocabulary tile, K tiles,
D hidden, n candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import GATHERED, spans
from ixt_rl.kernels.head import Head, matmul, statistics_dtype


class Gradients:
    """Accumulates in float32 (float64 for float64 inputs), whatever the dtype of the products.

    Args:
        hidden: `[N, D]` all hidden states.
        head: the vocabulary head.
        needs: whether hidden, weight and bias need a gradient.
        dtype: of the products.
        tiles, tile: K and v.
    """

    def __init__(self, hidden: Tensor, head: Head, needs: list[bool], dtype: torch.dtype, tiles: int, tile: int):
        self.head, self.dtype = head, dtype
        self.new: dict[str, Any] = {"dtype": statistics_dtype(dtype), "device": hidden.device}
        self.hidden = torch.zeros_like(hidden) if needs[0] else None
        # The first chunk writes, the others add: no pass over [V, D] just to clear it.
        make = torch.empty if len(hidden) else torch.zeros
        whole = make((tiles, hidden.shape[1], tile), **self.new) if needs[1] else None
        self.weight = None if whole is None else whole.view(tiles * tile, -1)[: head.vocab_size]
        self.bias = torch.zeros(head.vocab_size, **self.new) if needs[2] else None
        self.lent = whole

    def lend(self) -> Tensor:
        """`[K, D, v]` memory of the weight's gradient. Tile k of it is free until the first chunk's `add` of that tile
        of the vocabulary, which writes there."""
        assert self.lent is not None
        return self.lent

    def begin(self, a: int, b: int, hidden: Tensor, scale: Tensor | None = None) -> None:
        """Begin with tokens a:b, of hidden states `hidden` [C, D] in the products' dtype.

        Args:
            scale: `[C]` every row that `add` gets stands for this many times itself. None: for itself.
        """
        self.rows, self.h, self.scale = slice(a, b), hidden, scale
        self.scaled_h = hidden if scale is None else hidden.to(**self.new) * scale[:, None]
        self.sum = None if self.hidden is None else self.hidden[a:b]
        if self.sum is not None and self.sum.dtype != self.new["dtype"]:
            self.sum = torch.empty(self.sum.shape, **self.new)

    def add(self, v0: int, v1: int, grad: Tensor) -> None:
        """Add what entries v0:v1 contribute; `grad` [C, v] is the gradient of their logits, and not in lent memory."""
        if self.bias is not None:
            self.bias[v0:v1] += grad.sum(0, dtype=self.bias.dtype) if self.scale is None else grad.t() @ self.scale
        if self.sum is not None:
            matmul(grad, self.head.weight[v0:v1].to(self.dtype), self.sum, accumulate=v0 > 0)
        if self.weight is not None:
            matmul(grad.t(), self.scaled_h, self.weight[v0:v1], accumulate=self.rows.start > 0)

    def end(self, ids: Tensor | None = None, values: Tensor | None = None) -> None:
        """All tiles of these tokens have been added; add `values` [C, n] for entries `ids` [C, n] (unscaled)."""
        if self.sum is not None and self.scale is not None:
            self.sum.mul_(self.scale[:, None])
        if ids is not None and values is not None:
            self._add_entries(ids, values)
        if self.hidden is not None and self.sum is not None and self.sum.dtype != self.hidden.dtype:
            self.hidden[self.rows] = self.sum

    def _add_entries(self, ids: Tensor, values: Tensor) -> None:
        if self.bias is not None:
            self.bias.index_add_(0, ids.flatten(), values.flatten())
        for a, b in spans(len(ids), GATHERED):
            h = self.h[a:b].to(**self.new)
            for column, value in zip(
                ids[a:b].unbind(1), values[a:b].unsqueeze(2).unbind(1), strict=True
            ):  # [c], [c, 1]
                if self.sum is not None:
                    self.sum[a:b].addcmul_(self.head.weight[column].to(self.dtype).to(**self.new), value)
                if self.weight is not None:
                    self.weight.index_add_(0, column, h * value)

    def finish(self) -> tuple[Tensor | None, ...]:
        """The three gradients in the dtypes of hidden, weight and bias (None where none is needed)."""
        head = self.head
        return (
            self.hidden,
            None if self.weight is None else self.weight.to(head.weight.dtype),
            None if self.bias is None or head.bias is None else self.bias.to(head.bias.dtype),
        )
