"""What was written about rows, out of the replies that a job keeps: nobody is asked, and no model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from ixt_rl.corpus.job import Answered, BatchJob
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.page import cut
from ixt_rl.corpus.row_group import values
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.judging.backend import Reply, Request
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.under_way import WatchUnderWay


def kept_replies(job: BatchJob, folder: Folder, source: CorpusRows, rows: Sequence[int]) -> dict[int, list[str]]:
    """The replies that each of some rows was given, as a page shows them: by row, in their order, repairs included.

    Empty are those of a row whose request failed or was refused, which nobody keeps, and of a job whose replies lie on
    another machine.

    Args:
        job: with a column for each of its fields.
        folder: with the rows' shards.
        source: the rows.
        rows: their numbers.
    """
    file = job.cache or folder.cache
    found: dict[int, list[str]] = {row: [] for row in rows}
    if not rows or not file.is_file():
        return found
    cache = _Seen(file)
    try:
        for row in rows:
            number, at = divmod(row, job.shard_rows)
            asked = values(folder.rows(number, [job.by]), job.by)[at]
            asker = job.asker(_Nobody(asked, job.backend.constrained, job.backend.kind != "python"), cache)
            cache.seen.clear()
            questions = [one for one in asker.questions(source.read(row, row + 1)) if not isinstance(one, Answered)]
            for _ in asker.stream(questions):
                pass
            found[row] = [cut(reply.text) for reply in cache.seen]
    finally:
        cache.close()
    return found


class _Seen(JudgeCache):
    """Remembers which replies were found."""

    def __init__(self, file) -> None:
        super().__init__(file)
        self.seen: list[Reply] = []

    def get(self, key: bytes) -> Reply | None:
        reply = super().get(key)
        if reply is not None:
            self.seen.append(reply)
        return reply


class _Nobody:
    """A `JudgeBackend` of somebody's name that answers nothing."""

    capacity = 64
    watch: WatchUnderWay | None = None

    def __init__(self, name: str, constrained: bool, converses: bool):
        self.name, self.constrained, self.converses = name, constrained, converses
        self._waiting: list[int] = []

    def submit(self, ticket: int, request: Request) -> None:
        self._waiting.append(ticket)

    def collect(self) -> list[tuple[int, Reply]]:
        tickets, self._waiting = self._waiting, []
        return [(ticket, Reply("", "refused")) for ticket in tickets]

    def drop(self) -> None:
        self._waiting = []

    def close(self) -> None:
        self.drop()
