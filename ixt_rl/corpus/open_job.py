"""A job in its folder: everything is checked, then the shards that are missing are filled."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from ixt_rl.contents import Hashes
from ixt_rl.corpus.job import BatchJob
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.jsonlines import scan
from ixt_rl.corpus.progress import JobCounts, Progress, ProgressState, Watch
from ixt_rl.corpus.row_group import values
from ixt_rl.corpus.rows import CorpusRows, SourceSpec, check_columns, open_source
from ixt_rl.corpus.workers import RaySettings, Workers, read_index
from ixt_rl.errors import DataError
from ixt_rl.offline import offline

AnyJob = TypeVar("AnyJob", bound=BatchJob)

_log = logging.getLogger(__name__)

_KNOWN_LATE = ("input", "fields")  # settings that are known when the rows have been looked at


class OpenJob(Generic[AnyJob]):
    """A job whose rows and settings were checked, in a folder that this process holds.

    Attributes:
        job: with a column for each of its fields.
        source: its rows.
        folder: its output.
        shards: how many it has.
    """

    def __init__(
        self,
        job: AnyJob,
        spec: SourceSpec,
        source: CorpusRows,
        folder: Folder,
        ray: RaySettings | None,
        watch: Watch,
    ):
        self.job, self.source, self.folder = job, source, folder
        self.shards = -(-source.rows // job.shard_rows)
        self._session = Progress(folder, source.rows, watch, job.longest_reply)
        self._team = Workers(job, spec, folder.path, ray, self._session)

    def fill(self, *, retry_failed: bool = False) -> None:
        """Fills the shards that are missing.

        Args:
            retry_failed: also those that have rows whose request failed; the cache has their other answers.

        Raises:
            BackendFailed: the backend gave up; the same job goes on.
        """
        done = {number for number in self.folder.done() if number < self.shards and self._is_whole(number)}
        if retry_failed:
            done -= {number for number in done if self._has_failed(number)}
        missing = [number for number in range(self.shards) if number not in done]
        if missing:
            before = self.source.rows - sum(map(self._rows_in, missing))
            self._session.begin(f"starting the {self.job.asks}", before=before, then=self.job.phase)
            self._team.shards(missing)

    def again(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks about rows once more; see `Asker.again`."""
        self._session.begin("asking again")
        return self._team.again(rows)

    def close(self) -> None:
        """Keeps the counts and ends the workers."""
        self._session.save()
        self._team.close()

    def reporting(self) -> None:
        """Tells that the report is being written."""
        self._session.begin("reporting")

    def _is_whole(self, number: int) -> bool:
        wrong = self.folder.damage(number, self._rows_in(number))
        if wrong:
            _log.warning("%s: done again; replies are kept, none is asked for twice", wrong)
        return not wrong

    def _rows_in(self, number: int) -> int:
        first = number * self.job.shard_rows
        return min(self.source.rows, first + self.job.shard_rows) - first

    def _has_failed(self, number: int) -> bool:
        name = self.job.reason
        return any(reason.startswith("failed:") for reason in values(self.folder.rows(number, [name]), name))


@contextmanager
def open_batch(
    job: AnyJob, spec: SourceSpec, out: Path, ray: RaySettings | None, watch: Watch
) -> Iterator[OpenJob[AnyJob]]:
    """Checks all that can be, and holds the folder for the time of a `with`.

    Args:
        job: what is asked; fields whose column has their own name may be left out.
        spec: the rows.
        out: receives the shards, in the rows' order.
        ray: runs the backend in Ray actors; None in this process.
        watch: told of every step.

    Raises:
        DataError, ConfigError, BackendMissing: what cannot work.
    """
    files = spec.files()
    folder = Folder(out, job.format)
    with offline(bool(files)):
        job.check()
        folder.check_settings({name: value for name, value in job.settings({}).items() if name not in _KNOWN_LATE})
        with folder.locked(f"{job.doing} into it"):
            ready, source = _prepare(job, spec, files, folder, watch)
            yield OpenJob(ready, spec, source, folder, ray, watch)


def _prepare(
    job: AnyJob, spec: SourceSpec, files: list[Path], folder: Folder, watch: Watch
) -> tuple[AnyJob, CorpusRows]:
    """The job with all its fields, and its rows; everything that can be refused has been."""
    index = None
    if files and files[0].suffix != ".parquet":
        index = read_index(folder)
        if index is None or not index.is_of(files, job.wanted, job.shard_rows):
            total = sum(file.stat().st_size for file in files)
            index = scan(
                files,
                job.wanted,
                job.shard_rows,
                infer=job.format == "parquet",
                tick=lambda done: watch(ProgressState("reading", total, done, JobCounts(), 0.0)),
            )
    hashes = Hashes(folder.job / "hashes.json")
    source = open_source(spec, index, hashes)
    if source.rows:
        job = job.with_columns(source.columns)
    check_columns(source, job.mapped, list(job.types), job.renaming, as_json=job.format == "jsonl")
    for name in job.required if index else ():
        if index and index.missing[job.mapped[name]] == source.rows:
            raise DataError(
                f"column {job.mapped[name]!r} for the field `{name}`",
                reason=f"it is missing or null in all {source.rows} rows",
                remedy=f"choose another with --field {name}=COLUMN",
            )
    job.check_rows(source)
    settings = job.settings(source.identity)
    folder.check_settings(settings)
    if index:
        folder.write_json(folder.job / "input.json", index.to_json())
    folder.keep_settings(settings)
    hashes.save()
    return job, source
