"""The workers of a job: one in this process, or actors; started when there is work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.annotation.batch import BatchJob
from ixt_rl.annotation.session import Session
from ixt_rl.annotation.source import SourceSpec
from ixt_rl.annotation.worker import Counts, RayWorker, Worker


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


class Team:
    """See above.

    Args:
        job: with a column for each of its fields.
        source: where the rows are.
        out: the folder of the output.
        ray: where the actors run; None: in this process.
        session: gets the counts.
    """

    def __init__(self, job: BatchJob, source: SourceSpec, out: Path, ray: RaySettings | None, session: Session):
        self._arguments = (job, source, Path(out).resolve() if ray else out)
        self._ray, self._session = ray, session
        self._worker: Worker | None = None
        self._stack = ExitStack()
        self._joined = False

    def shards(self, numbers: Sequence[int]) -> None:
        """Fills and writes shards."""
        if self._ray is None:
            worker = self._local()
            worker.shards(numbers, self._session.add)
            return
        for result in self._on_ray([{"shard": number} for number in numbers]):
            self._session.add(Counts(**result["counts"]))

    def again(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks about rows once more; see `Asker.again`."""
        if not rows:
            return []
        if self._ray is None:
            found, counts = self._local().again(rows)
            self._session.add(counts)
            return found
        found = []
        for result in self._on_ray([{"again": list(rows)}]):
            self._session.add(Counts(**result["counts"]))
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
        from ixt_rl.rollout.ray_data import map_on_actors, ray_session

        assert self._ray is not None
        if not self._joined:
            own = self._ray
            self._stack.enter_context(ray_session(own.address, own.workers, own.cpus, own.gpus))
            self._joined = True
        self._session.up()
        yield from map_on_actors(
            RayWorker,
            self._arguments,
            items,
            workers=min(self._ray.workers, len(items)),
            cpus=self._ray.cpus,
            gpus=self._ray.gpus,
        )
