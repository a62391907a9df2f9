"""Who does the work: one backend and one source, in this process or in a Ray actor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ixt_rl.annotation.batch import BatchJob
from ixt_rl.annotation.filling import ShardFiller
from ixt_rl.annotation.folder import Folder
from ixt_rl.annotation.jsonlines import Index
from ixt_rl.annotation.source import SourceSpec, open_source
from ixt_rl.errors import DataError
from ixt_rl.files import read_json
from ixt_rl.judging.cache import JudgeCache

COUNTED = (
    "requests", "cached", "failed", "refused", "retries", "prompt_tokens", "completion_tokens", "seconds", "cost",
)  # fmt: skip
"""What is summed over sessions; see `Tally`."""

UNCOUNTED = "uncounted"
"""Summed too: the answers of an endpoint that came without token counts."""


@dataclass
class Counts:
    """Work done.

    Args:
        documents: passed, skipped ones included.
        undecided: of them.
        spent: what was asked and paid, by the names of `COUNTED` and `UNCOUNTED`.
        notes: what the backend has to say, see `EndpointBackend.notes`.
    """

    documents: int = 0
    undecided: int = 0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*COUNTED, UNCOUNTED), 0))
    notes: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        self.documents += other.documents
        self.undecided += other.undecided
        for name, value in other.spent.items():
            self.spent[name] += value
        self.notes = list(dict.fromkeys([*self.notes, *other.notes]))


class Worker:
    """A backend that is up, and the rows it is asked about.

    Args:
        job: with a column for each of its fields.
        source: where the rows are.
        out: the folder of the output, with the index of the input in it.
    """

    def __init__(self, job: BatchJob, source: SourceSpec, out: Path):
        self.job = job
        self.folder = Folder(out, job.format)
        self.source = open_source(source, read_index(self.folder))
        self._opened = job.start()
        self._cache = JudgeCache(job.cache or self.folder.job / "cache.sqlite")
        self._asker = job.asker(self._opened.backend, self._cache)
        self._told = self._spent()

    def shards(self, numbers: Sequence[int], advanced: Callable[[Counts], None]) -> None:
        """Fills and writes shards; `advanced` is called with what was done since its last call."""

        def tell(documents: int, undecided: int) -> None:
            advanced(Counts(documents, undecided, self._new(), self._notes()))

        ShardFiller(self.job, self.source, self.folder, self._asker, tell).run(numbers)

    def again(self, rows: Sequence[int]) -> tuple[list[dict[str, Any]], Counts]:
        """Asks about rows once more; see `Asker.again`."""
        found = self._asker.again(self.source, rows)
        return found, Counts(spent=self._new(), notes=self._notes())

    def close(self) -> None:
        self._opened.__exit__()
        self._cache.close()

    def _spent(self) -> dict[str, float]:
        spent = {name: getattr(self._asker.tally, name) for name in COUNTED}
        return spent | {UNCOUNTED: getattr(self._opened.backend, "uncounted", 0)}

    def _notes(self) -> list[str]:
        return list(getattr(self._opened.backend, "notes", []))

    def _new(self) -> dict[str, float]:
        """What was spent since this was asked last."""
        before, self._told = self._told, self._spent()
        return {name: value - before[name] for name, value in self._told.items()}


class RayWorker:
    """What lives in an actor: items and results are JSON.

    {"shard": 3} -> {"counts": ...}; {"again": [5, 9]} -> {"counts": ..., "found": [...]}
    """

    def __init__(self, job: BatchJob, source: SourceSpec, out: Path):
        self._worker = Worker(job, source, out)

    def __call__(self, item: str) -> str:
        wanted = json.loads(item)
        if "again" in wanted:
            found, counts = self._worker.again(wanted["again"])
            return json.dumps({"counts": asdict(counts), "found": found})
        counts = Counts()
        self._worker.shards([wanted["shard"]], counts.add)
        return json.dumps({"counts": asdict(counts)})


def read_index(folder: Folder) -> Index | None:
    """The index of the input that an earlier session or this one left there; None where there is none, or a damaged
    one, which is only a memory."""
    with suppress(DataError, TypeError):
        found = read_json(folder.job / "input.json")
        return None if found is None else Index(**found)
    return None
