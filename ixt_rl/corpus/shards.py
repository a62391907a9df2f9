"""Filling shards: rows become questions, answers columns; a shard is written when its last answer is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ixt_rl.corpus.job import Answered, Asker, BatchJob
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.row_group import Piece
from ixt_rl.corpus.rows import CorpusRows


@dataclass(eq=False)
class _Open:
    """A shard of which answers are missing."""

    number: int
    piece: Piece
    rows: list[Mapping[str, Any] | None]
    left: int


class ShardFiller:
    """Fills whole shards; the next one is begun while the last answers of this one are waited for.

    Args:
        job: what is asked.
        source: the rows.
        folder: where shards go.
        asker: asked about every row.
        advanced: called with (rows passed, those of them undecided) as they pass.
        read: called with (rows, replies that they take) when those of a shard are read.
    """

    def __init__(
        self,
        job: BatchJob,
        source: CorpusRows,
        folder: Folder,
        asker: Asker,
        advanced: Callable[[int, int], None],
        read: Callable[[int, int], None] = lambda rows, replies: None,
    ):
        self.job, self.source, self.folder, self.asker = job, source, folder, asker
        self._advanced, self._read = advanced, read
        self._places: dict[int, tuple[_Open, int]] = {}
        self._types = job.types

    def run(self, numbers: Iterable[int]) -> None:
        """Fills and writes these shards.

        Raises:
            BackendFailed: the backend answers nothing any more; what it answered is in the cache.
        """
        for number, filled in self.asker.stream(self._questions(numbers)):
            shard, row = self._places.pop(number)
            shard.rows[row] = filled.columns
            shard.left -= 1
            self._advanced(1, filled.undecided)
            self._finish(shard)

    def _questions(self, numbers: Iterable[int]) -> Iterator[Any]:
        asked = 0
        for number in numbers:
            start = number * self.job.shard_rows
            piece = self.source.read(start, start + self.job.shard_rows)
            found = self.asker.questions(piece)
            rows = [entry.columns if isinstance(entry, Answered) else None for entry in found]
            shard = _Open(number, piece, rows, rows.count(None))
            self._read(len(rows), sum(self.asker.replies(one) for one in found if not isinstance(one, Answered)))
            self._advanced(len(rows) - shard.left, 0)
            self._finish(shard)
            for row, question in enumerate(found):
                if not isinstance(question, Answered):
                    self._places[asked] = shard, row
                    asked += 1
                    yield question

    def _finish(self, shard: _Open) -> None:
        if shard.left == 0:
            columns = {
                name: pa.array([row[name] for row in shard.rows if row is not None], kind)
                for name, kind in self._types.items()
            }
            self.folder.write_shard(shard.number, shard.piece, columns, self.source.schema)
