"""Pieces of conditioned documents end to end, which rows are made of: with their feedback, or without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORED = -100  # the label of a token that is not trained


@dataclass(frozen=True)
class PieceBuffer:
    """Pieces end to end: ids and labels int32 [n], piece p from starts[p] to starts[p + 1].

    Args:
        beside: bool [n], whether a token is feedback or its separator.
        owners: of each piece, the number of its document in the buffer.
    """

    ids: np.ndarray
    labels: np.ndarray
    starts: list[int]
    beside: np.ndarray
    owners: list[int]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each piece."""
        return np.diff(self.starts).tolist()

    @property
    def conditioned(self) -> set[int]:
        """The documents with feedback in some piece."""
        sums = np.concatenate([[0], np.cumsum(self.beside)])[self.starts]
        return {owner for owner, found in zip(self.owners, np.diff(sums), strict=True) if found}

    def without_feedback(self, pieces: Sequence[int]) -> PieceBuffer:
        """The same pieces in the same places, these ones without feedback; a piece that was nothing else is empty."""
        keep = np.ones(len(self.ids), dtype=bool)
        for piece in pieces:
            span = slice(self.starts[piece], self.starts[piece + 1])
            keep[span] = ~self.beside[span]
        starts = np.concatenate([[0], np.cumsum(keep)])[self.starts]
        labels = self.labels[keep]
        labels[starts[:-1][np.diff(starts) > 0]] = IGNORED  # what follows the feedback may be a first token now
        return PieceBuffer(self.ids[keep], labels, starts.tolist(), self.beside[keep], self.owners)

    def row(self, pieces: list[int]) -> dict[str, np.ndarray]:
        spans = [slice(self.starts[p], self.starts[p + 1]) for p in pieces]
        lengths = [span.stop - span.start for span in spans]
        begins = np.cumsum([0, *lengths[:-1]], dtype=np.int32)
        positions = np.arange(sum(lengths), dtype=np.int32)
        return {
            "input_ids": np.concatenate([self.ids[span] for span in spans]),
            "labels": np.concatenate([self.labels[span] for span in spans]),
            "segment_ids": np.repeat(np.arange(1, len(pieces) + 1, dtype=np.int32), lengths),
            "position_ids": positions - np.repeat(begins, lengths),
        }
