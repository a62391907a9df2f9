"""What a factor may know beside its two log-probs.

Shapes: C positions of a chunk, m candidates at each; with `candidates="exact"`, m entries of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ixt_rl.trainers.hooks import Signals


@dataclass(frozen=True)
class Where:
    """Whose factors are asked for: those of m tokens at each of C positions, all on the device of the log-probs.

    Args:
        rows: (C,) int64 the rationale of each position, a row of `signals`.
        positions: (C,) int64 its place in the rationale, from 0.
        token_ids: (C, m) int64 the candidates; with `candidates="exact"` (1, m), entries of the vocabulary.
        taken_ids: (C,) int64 the tokens taken.
        signals: what is known of each rationale of the micro-batch.
    """

    rows: Tensor
    positions: Tensor
    token_ids: Tensor
    taken_ids: Tensor
    signals: Signals

    @property
    def taken(self) -> Tensor:
        """(C, m) bool: the candidate is the token taken (one drawn that equals it, too)."""
        return self.token_ids == self.taken_ids[:, None]
