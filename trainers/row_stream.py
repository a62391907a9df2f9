"""Packed rows for a DataLoader, with what judging had cost by each update."""

from __future__ import annotations

from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.trainers.update_stream import UpdateStream


class RowStream(UpdateStream):
    """`PackedRows` for a DataLoader, which also knows what judging had cost by each update."""

    source: PackedRows

    def __init__(self, rows: PackedRows, per_update: int, pad_id: int):
        nothing = {"input_ids": pad_id, "labels": IGNORED, "segment_ids": 0, "position_ids": 0}
        super().__init__(rows, per_update, {key: [value] for key, value in nothing.items()})
        self._judged: dict[int, int] = {}

    def judged_tokens(self, update: int) -> int:
        """Tokens that judges read and wrote for the documents read until then, the buffer included."""
        return self._judged.get(update, 0)

    def _keep(self, update: int) -> None:
        super()._keep(update)
        self._judged[update] = self.source.counts.judged_tokens
        self._judged = {kept: self._judged[kept] for kept in self.cursors}
