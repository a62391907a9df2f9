"""Even draws of rows that do not depend on the order in which rows are seen."""

from __future__ import annotations

import hashlib
import heapq


class EvenSample:
    """The `size` rows whose numbers hash lowest: an even draw, and always the same."""

    def __init__(self, size: int):
        self.size = size
        self._kept: list[tuple[int, int]] = []  # (- hash, row)

    def offer(self, row: int) -> None:
        if not self.size:
            return
        hashed = int.from_bytes(hashlib.blake2b(row.to_bytes(8, "little"), digest_size=8).digest(), "little")
        if len(self._kept) < self.size:
            heapq.heappush(self._kept, (-hashed, row))
        elif -self._kept[0][0] > hashed:
            heapq.heapreplace(self._kept, (-hashed, row))

    def rows(self) -> list[int]:
        return sorted(row for _, row in self._kept)
