"""What a factor may know beside its two log-probs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Where:
    """The tokens whose factors are asked for: m at each of C positions.

    Args:
        rows: (C,) the row of each position among the micro-batch's kept rationales.
        positions: (C,) its place in the rationale, from 0.
        token_ids: (C, m) the candidates; with `candidates="exact"` (1, m), entries of the vocabulary.
        taken: (C,) the tokens taken.
        signals: what is known of each row; as `KeptTrainer.token_weights` gets it.
    """

    rows: Tensor
    positions: Tensor
    token_ids: Tensor
    taken: Tensor
    signals: dict[str, Any]

    @property
    def is_taken(self) -> Tensor:
        """(C, m) bool: the candidate is the token taken (one drawn that equals it, too)."""
        return self.token_ids == self.taken[:, None]
