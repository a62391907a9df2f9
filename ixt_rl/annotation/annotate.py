"""A whole annotation: check everything, judge the shards that are missing, check a sample, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ixt_rl.annotation.check import agreement
from ixt_rl.annotation.folder import Folder
from ixt_rl.annotation.job import Job, map_fields
from ixt_rl.annotation.jsonlines import scan
from ixt_rl.annotation.pieces import values
from ixt_rl.annotation.source import Source, SourceSpec, check_columns, open_source
from ixt_rl.annotation.statistics import Statistics, collect
from ixt_rl.annotation.worker import Counts, RayWorker, Worker, read_index
from ixt_rl.errors import DataError

_SAVE_EVERY = 5.0  # seconds between two writes of the session's counts


@dataclass(frozen=True)
class RaySettings:
    """Where judges run with Ray.

    Args:
        workers: actors, each with a judge of its own.
        cpus: of each.
        gpus: of each.
        address: of a running cluster, or `auto`; None starts Ray on this machine.
    """

    workers: int = 1
    cpus: int = 1
    gpus: int = 0
    address: str | None = None


@dataclass
class State:
    """How far an annotation is.

    Args:
        phase: `reading`, `starting the judge`, `judging`, `asking again` or `reporting`.
        total: rows, or bytes while reading.
        done: of them, earlier sessions included.
        counts: of this session.
        seconds: since this session's judge was up.
    """

    phase: str
    total: int
    done: int
    counts: Counts
    seconds: float


Watch = Callable[[State], None]


def annotate(
    job: Job,
    source: SourceSpec,
    out: Path,
    *,
    check_sample: int = 0,
    retry_failed: bool = False,
    ray: RaySettings | None = None,
    watch: Watch = lambda state: None,
) -> dict[str, Any]:
    """Annotates rows into the folder `out`, going on where an earlier session of the same job stopped.

    Args:
        job: what is asked; `fields` may leave out those whose column has the field's name.
        source: the rows.
        out: receives the shards, in the rows' order, and the report.
        check_sample: judged documents that are asked again, to see whether the judge agrees with itself.
        retry_failed: does shards again that have rows whose request failed; the cache has the others.
        ray: runs the judge in Ray actors; None in this process.
        watch: told of every step.

    Returns:
        What annotation.json holds.

    Raises:
        DataError, ConfigError, BackendMissing: before a judge is started.
        BackendFailed: the judge gave up; the same call goes on.
    """
    from ixt_rl.annotation.page import write_report

    job.judge.check(job.sampling)
    files = source.files()
    folder = Folder(out, job.format)
    folder.check_settings({k: v for k, v in job.settings({}).items() if k not in ("input", "fields")})
    with folder.locked():
        job, rows = _prepare(job, source, files, folder, watch)
        session = _Session(folder, rows.rows, watch)
        shards = -(-rows.rows // job.shard_rows)
        done = folder.done()
        if retry_failed:
            done -= {number for number in done if _has_failed(job, folder, number)}
        missing = [number for number in range(shards) if number not in done]
        team = _Team(job, source, out, ray)
        found: list[dict[str, Any]] = []
        try:
            if missing:
                session.begin(rows.rows - _rows_in(missing, rows.rows, job.shard_rows), "starting the judge")
                team.shards(missing, session)
            if check_sample:
                session.begin(0, "asking again")
                found = team.again(collect(job, folder, shards, sample=check_sample).sample, session)
        finally:
            session.save()
            team.close()
        session.begin(0, "reporting")
        statistics = collect(job, folder, shards)
        summary = _summary(job, folder, rows, statistics, found)
        write_report(out, job, summary, rows, statistics)
        return summary


def _prepare(job: Job, spec: SourceSpec, files: list[Path], folder: Folder, watch: Watch) -> tuple[Job, Source]:
    """The job with all its fields, and its rows; everything that can be refused has been."""
    index = None
    if files and files[0].suffix != ".parquet":
        wanted = {name: job.fields.get(name, name) for name in (*job.rubric.fields, *job.rubric.optional)}
        index = read_index(folder)
        if index is None or not index.is_of(files, wanted, job.shard_rows):
            total = sum(file.stat().st_size for file in files)
            index = scan(
                files,
                wanted,
                job.shard_rows,
                infer=job.format == "parquet",
                tick=lambda done: watch(State("reading", total, done, Counts(), 0.0)),
            )
    source = open_source(spec, index)
    if source.rows:
        job = replace(job, fields=map_fields(job.rubric, job.fields, source.columns))
    check_columns(source, job.fields, job.columns, job.format == "jsonl")
    for name in job.rubric.fields if index else ():
        if index and index.missing[job.fields[name]] == source.rows:
            raise DataError(
                f"column {job.fields[name]!r} for the field `{name}`",
                reason=f"it is missing or null in all {source.rows} rows",
                remedy=f"choose another with --field {name}=COLUMN",
            )
    settings = job.settings(source.identity)
    folder.check_settings(settings)
    if index:
        folder.write_json(folder.job / "input.json", index.to_json())
    folder.keep_settings(settings)
    return job, source


class _Session:
    """Counts of this session, told to whoever watches and kept on disk."""

    def __init__(self, folder: Folder, total: int, watch: Watch):
        self._folder, self._total, self._watch = folder, total, watch
        self._counts = Counts()
        self._before = self._last_save = 0.0
        self._phase = ""
        self._file: Path | None = None
        self._started: float | None = None

    def begin(self, before: int, phase: str) -> None:
        """Goes to a phase; `before` rows were done by earlier sessions."""
        self._before, self._phase = before, phase
        self._tell()

    def add(self, counts: Counts) -> None:
        if self._phase == "starting the judge":
            self._phase = "judging"
        self._counts.add(counts)
        self._tell()
        if time.monotonic() - self._last_save > _SAVE_EVERY:
            self.save()

    def up(self) -> None:
        """The judge is up: time counts from now."""
        self._started = self._started or time.monotonic()

    def save(self) -> None:
        if self._started is not None:
            self._file = self._file or self._folder.new_session()
            self._folder.write_json(self._file, asdict(self._counts) | {"wall_seconds": round(self._seconds, 3)})
            self._last_save = time.monotonic()

    @property
    def _seconds(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def _tell(self) -> None:
        done = int(self._before) + self._counts.documents
        self._watch(State(self._phase, self._total, done, self._counts, self._seconds))


class _Team:
    """The workers: one in this process, or actors; started when there is work."""

    def __init__(self, job: Job, source: SourceSpec, out: Path, ray: RaySettings | None):
        self._arguments = (job, source, Path(out).resolve() if ray else out)
        self._ray = ray
        self._worker: Worker | None = None
        self._stack = ExitStack()
        self._joined = False

    def shards(self, numbers: Sequence[int], session: _Session) -> None:
        if self._ray is None:
            worker = self._local(session)
            worker.shards(numbers, session.add)
            return
        for result in self._on_ray([{"shard": number} for number in numbers], session):
            session.add(Counts(**result["counts"]))

    def again(self, rows: Sequence[int], session: _Session) -> list[dict[str, Any]]:
        if not rows:
            return []
        if self._ray is None:
            found, counts = self._local(session).again(rows)
            session.add(counts)
            return found
        found = []
        for result in self._on_ray([{"again": list(rows)}], session):
            session.add(Counts(**result["counts"]))
            found += result["found"]
        return found

    def close(self) -> None:
        self._stack.close()

    def _local(self, session: _Session) -> Worker:
        if self._worker is None:
            self._worker = Worker(*self._arguments)
            self._stack.callback(self._worker.close)
        session.up()
        return self._worker

    def _on_ray(self, items: list[dict[str, Any]], session: _Session) -> Iterator[dict[str, Any]]:
        from ixt_rl.rollout.ray_data import map_on_actors, ray_session

        assert self._ray is not None
        if not self._joined:
            own = self._ray
            self._stack.enter_context(ray_session(own.address, own.workers, own.cpus, own.gpus))
            self._joined = True
        session.up()
        yield from map_on_actors(
            RayWorker,
            self._arguments,
            items,
            workers=min(self._ray.workers, len(items)),
            cpus=self._ray.cpus,
            gpus=self._ray.gpus,
        )


def _has_failed(job: Job, folder: Folder, number: int) -> bool:
    reasons = values(folder.rows(number, [f"{job.prefix}_reason"]), f"{job.prefix}_reason")
    return any(reason.startswith("failed:") for reason in reasons)


def _rows_in(shards: Sequence[int], rows: int, shard_rows: int) -> int:
    return sum(min(rows, (number + 1) * shard_rows) - number * shard_rows for number in shards)


def _summary(
    job: Job, folder: Folder, source: Source, statistics: Statistics, found: list[dict[str, Any]]
) -> dict[str, Any]:
    sessions = folder.sessions()
    spent = Counts().spent
    for session in sessions:
        for name, value in session["spent"].items():
            spent[name] += value
    parameters = job.judge.model_parameters()
    tokens = int(spent["prompt_tokens"] + spent["completion_tokens"])
    return {
        "judge": job.judge.identity() | {"parameters": parameters},
        "rubric": job.rubric.name,
        "settings": job.settings(source.identity) | {"rubric": job.rubric.name},
        **statistics.summary(),
        "spent": spent
        | {
            "tokens": tokens,
            "flops": None if parameters is None else 2.0 * parameters * tokens,
            "sessions": len(sessions),
            "wall_seconds": round(sum(session["wall_seconds"] for session in sessions), 3),
        },
        "check": agreement(found) if found else None,
    }
