"""Who does the work: one judge on one source, in this process or in a Ray actor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ixt_rl.annotation.check import compare_again
from ixt_rl.annotation.folder import Folder
from ixt_rl.annotation.job import Job
from ixt_rl.annotation.jsonlines import Index
from ixt_rl.annotation.judges import open_judge
from ixt_rl.annotation.shards import ShardJudge
from ixt_rl.annotation.source import SourceSpec, open_source
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.client import Judge

COUNTED = (
    "requests", "cached", "failed", "refused", "retries", "prompt_tokens", "completion_tokens", "seconds", "cost",
)  # fmt: skip
"""What is summed over sessions; see `Tally`."""


@dataclass
class Counts:
    """Work done.

    Args:
        documents: passed, skipped ones included.
        undecided: of them.
        spent: what was asked and paid, by the names of `COUNTED`.
    """

    documents: int = 0
    undecided: int = 0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def add(self, other: Counts) -> None:
        self.documents += other.documents
        self.undecided += other.undecided
        for name, value in other.spent.items():
            self.spent[name] += value


class Worker:
    """A judge that is up, and the rows it judges.

    Args:
        job: with `fields` complete.
        source: where the rows are.
        out: the folder of the output, with the index of the input in it.
    """

    def __init__(self, job: Job, source: SourceSpec, out: Path):
        self.job = job
        self.folder = Folder(out, job.format)
        self.source = open_source(source, read_index(self.folder))
        self._opened = open_judge(job.judge, job.sampling)
        self._cache = JudgeCache(job.cache or self.folder.job / "cache.sqlite")
        self._judge = self._new_judge(job.repeats)
        self.backend = self._judge.backend

    def shards(self, numbers: Sequence[int], advanced: Callable[[Counts], None]) -> None:
        """Judges and writes shards; `advanced` is called with what was done since its last call."""
        seen = Tally()

        def tell(documents: int, undecided: int) -> None:
            nonlocal seen
            advanced(Counts(documents, undecided, _spent(self._judge.tally, seen)))
            seen = Tally(**{name: getattr(self._judge.tally, name) for name in COUNTED})

        self._judge.tally = Tally()
        ShardJudge(self.job, self.source, self.folder, self._judge, tell).run(numbers)

    def again(self, rows: Sequence[int]) -> tuple[list[dict[str, Any]], Counts]:
        """Asks for rows once more than before, with another sample number; see `compare_again`."""
        judge = self._new_judge(self.job.repeats + 1)
        found = compare_again(self.job, self.source, judge, rows)
        return found, Counts(spent=_spent(judge.tally, Tally()))

    def close(self) -> None:
        self._opened.__exit__()
        self._cache.close()

    def _new_judge(self, repeats: int) -> Judge:
        return Judge(
            self._opened.backend, self.job.sampling, repeats=repeats, cache=self._cache, prices=self.job.prices
        )


class RayWorker:
    """What lives in an actor: items and results are JSON.

    {"shard": 3} -> {"counts": ...}; {"again": [5, 9]} -> {"counts": ..., "found": [...]}
    """

    def __init__(self, job: Job, source: SourceSpec, out: Path):
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
    """The index of the input that an earlier session or this one left there."""
    file = folder.job / "input.json"
    return Index(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def _spent(now: Tally, before: Tally) -> dict[str, float]:
    return {name: getattr(now, name) - getattr(before, name) for name in COUNTED}
