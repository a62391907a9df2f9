"""Who does the work: one backend and one source, in this process or in a Ray actor."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ixt_rl.corpus.job import BatchJob
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.jsonlines import Index
from ixt_rl.corpus.progress import COUNTED, UNCOUNTED, JobCounts, Progress, TakenUp
from ixt_rl.corpus.rows import SourceSpec, open_source
from ixt_rl.corpus.shards import ShardFiller
from ixt_rl.errors import DataError
from ixt_rl.files import read_json
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.under_way import NOTHING, UnderWay

Advanced = Callable[[JobCounts, TakenUp], None]
_TOLD_EVERY = 0.2  # seconds


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
        self._cache = JudgeCache(job.cache or self.folder.cache)
        self._asker = job.asker(self._opened.backend, self._cache)
        self._told = self._spent()
        self._rows = self._replies = 0
        self._under_way = NOTHING

    def shards(self, numbers: Sequence[int], advanced: Advanced) -> None:
        """Fills and writes shards; `advanced` is called with what was done since its last call."""

        def tell(documents: int, undecided: int) -> None:
            advanced(JobCounts(documents, undecided, self._new(), self._notes()), self._begun())

        def read(rows: int, replies: int) -> None:
            self._rows, self._replies = self._rows + rows, self._replies + replies

        with self._telling(advanced):
            ShardFiller(self.job, self.source, self.folder, self._asker, tell, read).run(numbers)

    def again(self, rows: Sequence[int], advanced: Advanced) -> tuple[list[dict[str, Any]], JobCounts]:
        """Asks about rows once more; see `Asker.again`."""
        with self._telling(advanced):
            found = self._asker.again(self.source, rows)
        return found, JobCounts(spent=self._new(), notes=self._notes())

    def close(self) -> None:
        self._opened.__exit__()
        self._cache.close()

    @contextmanager
    def _telling(self, advanced: Advanced) -> Iterator[None]:
        """For the time of a `with`, `advanced` is called with what is being written, a few times a second."""
        last = -math.inf

        def tell(under_way: UnderWay) -> None:
            nonlocal last
            self._under_way = under_way
            if under_way.replies and time.monotonic() - last >= _TOLD_EVERY:
                last = time.monotonic()
                advanced(JobCounts(0, 0, self._new(), self._notes()), self._begun())

        self._opened.backend.watch = tell
        try:
            yield
        finally:
            self._opened.backend.watch = None

    def _begun(self) -> TakenUp:
        return TakenUp(self._rows, self._replies, self._under_way)

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

    Args:
        job, source, out: see `Worker`.
        holder: what the actor is called that has variables which this node may lack (`hold_variables`); "": none.
    """

    def __init__(self, job: BatchJob, source: SourceSpec, out: Path, holder: str = ""):
        if holder:
            from ixt_rl.rollout.pool.variables import take_variables

            take_variables(holder)  # before a judge looks for its key
        self._worker = Worker(job, source, out)

    def __call__(self, item: str) -> str:
        wanted = json.loads(item)
        if "again" in wanted:
            found, counts = self._worker.again(wanted["again"], lambda counts, begun: None)
            return json.dumps({"counts": asdict(counts), "found": found})
        counts = JobCounts()
        self._worker.shards([wanted["shard"]], lambda new, begun: counts.add(new))
        return json.dumps({"counts": asdict(counts)})


def read_index(folder: Folder) -> Index | None:
    """The index of the input that an earlier session or this one left there; None where there is none, or a damaged
    one, which is only a memory."""
    with suppress(DataError, TypeError):
        found = read_json(folder.job / "input.json")
        return None if found is None else Index(**found)
    return None


@dataclass(frozen=True)
class RaySettings:
    """Where backends run with Ray.

    Args:
        workers: actors, each with a backend of its own.
        cpus: of each.
        gpus: of each.
        address: of a running cluster, or `auto`; None starts Ray on this machine.
    """

    workers: int = 1
    cpus: int = 1
    gpus: int = 0
    address: str | None = None


class Workers:
    """See above.

    Args:
        job: with a column for each of its fields.
        source: where the rows are.
        out: the folder of the output.
        ray: where the actors run; None: in this process.
        session: gets the counts.
    """

    def __init__(self, job: BatchJob, source: SourceSpec, out: Path, ray: RaySettings | None, session: Progress):
        self._arguments = (job, source, Path(out).resolve() if ray else out)
        self._ray, self._session = ray, session
        self._worker: Worker | None = None
        self._stack = ExitStack()
        self._joined = False
        self._held: Any = None  # on a cluster, the actor that has variables of a judge,
        self._holder = ""  # and what it is called

    def shards(self, numbers: Sequence[int]) -> None:
        """Fills and writes shards."""
        if self._ray is None:
            worker = self._local()
            worker.shards(numbers, self._session.add)
            return
        for result in self._on_ray([{"shard": number} for number in numbers]):
            self._session.add(JobCounts(**result["counts"]))

    def again(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks about rows once more; see `Asker.again`."""
        if not rows:
            return []
        if self._ray is None:
            found, counts = self._local().again(rows, self._session.add)
            self._session.add(counts)
            return found
        found = []
        for result in self._on_ray([{"again": list(rows)}]):
            self._session.add(JobCounts(**result["counts"]))
            found += result["found"]
        return found

    def close(self) -> None:
        self._stack.close()

    def _local(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(*self._arguments)
            self._stack.callback(self._worker.close)
        self._session.up()
        return self._worker

    def _on_ray(self, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        from ixt_rl.rollout.pool.ray_data import map_on_actors, ray_session
        from ixt_rl.rollout.pool.variables import hold_under_a_new_name

        assert self._ray is not None
        if not self._joined:
            own = self._ray
            self._stack.enter_context(ray_session(own.address, own.workers, own.cpus, own.gpus))
            self._joined = True
            if own.address or "RAY_ADDRESS" in os.environ:  # its nodes do not have this process's environment
                self._held, self._holder = hold_under_a_new_name(self._arguments[0].backend.variables)
        self._session.up()
        yield from map_on_actors(
            RayWorker,
            (*self._arguments, self._holder),
            items,
            workers=min(self._ray.workers, len(items)),
            cpus=self._ray.cpus,
            gpus=self._ray.gpus,
        )
