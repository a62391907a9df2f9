"""The folder of a job: shards that appear whole, the job they belong to, and one process at a time.

OUT/part-000000.parquet ...     the rows
OUT/annotation.html, .json      the report, or rewriting.html, .json
OUT/job/settings.json           what the rows depend on; another job is refused
OUT/job/input.json              where each shard begins in the input
OUT/job/cache.sqlite            the backend's replies
OUT/job/sessions/000.json       what each session asked and paid
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_rl.corpus.row_group import Piece
from ixt_rl.differences import told
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.files import read_json, replacing, write_json
from ixt_rl.locks import LOCK, locked

_REPLIES = "cache.sqlite"


class Folder:
    """Where a job writes.

    Args:
        path: the folder; made when the first file is written.
        format: `parquet` or `jsonl`.
    """

    def __init__(self, path: Path, format: str):
        self.path, self.format = Path(path), format
        self.job = self.path / "job"
        self.cache = self.job / _REPLIES

    @contextmanager
    def locked(self, doing: str) -> Iterator[None]:
        """Holds the folder for this process; the lock ends with it, however it ends.

        Args:
            doing: what a process that holds it does: `annotating into it`.

        Raises:
            ConfigError: another process has it.
        """
        with locked(self.job, doing, "wait for it, or give another OUT"):
            for left in self.path.glob(".part-*.tmp"):  # of a process that was killed
                left.unlink(missing_ok=True)
            yield

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuses to go on with another job's folder.

        Args:
            settings: `BatchJob.settings`; keys that are not known yet may be left out.

        Raises:
            ConfigError: names what differs.
        """
        file = self.job / "settings.json"
        if not file.is_file():
            if self.path.is_dir() and any(self.path.glob("part-*")):
                raise ConfigError(
                    f"folder {self.path}", reason="it has shards of an unknown job", remedy="give another OUT"
                )
            return
        there = {key: value for key, value in _read(file).items() if key in settings}
        here = json.loads(json.dumps(settings))
        if there != here:
            raise ConfigError(
                f"folder {self.path} holds another job",
                reason=told(there, here),
                remedy="give another OUT, or the settings of the job there to go on with it",
            )

    def keep_settings(self, settings: Mapping[str, Any]) -> None:
        self.write_json(self.job / "settings.json", settings)

    def settings(self) -> dict[str, Any]:
        return _read(self.job / "settings.json")

    def shard(self, number: int) -> Path:
        return self.path / f"part-{number:06d}.{self.format}"

    def done(self) -> set[int]:
        """Numbers of the shards that are there; each was whole when it appeared, see `damage`."""
        numbers = (file.stem.removeprefix("part-") for file in self.path.glob(f"part-*.{self.format}"))
        return {int(number) for number in numbers if number.isdecimal()}

    def damage(self, number: int, rows: int) -> str:
        """Why a shard is not one of so many rows any more, in words; "" if it is: by its end, and its lines."""
        file = self.shard(number)
        try:
            found = pq.read_metadata(file).num_rows if self.format == "parquet" else _lines(file)
        except pa.ArrowException as error:
            return f"{file} is damaged ({error})"
        return "" if found == rows else f"{file} is damaged ({found} whole rows of {rows})"

    def write_shard(self, number: int, piece: Piece, added: Mapping[str, pa.Array], schema: pa.Schema | None) -> None:
        """Writes rows with their new columns; the file appears under its name when it is whole and on disk.

        Args:
            number: of the shard.
            piece: the rows.
            added: new columns by name.
            schema: Arrow types of the rows; None for JSON lines out of JSON lines.
        """
        final = self.shard(number)
        with replacing(final) as handle:
            if self.format == "parquet":
                table = piece if isinstance(piece, pa.Table) else pa.Table.from_pylist(piece, schema=schema)
                for name, column in added.items():
                    table = table.append_column(name, column)
                pq.write_table(table, handle, compression="zstd")
            else:
                rows = piece.to_pylist() if isinstance(piece, pa.Table) else piece
                columns = {name: column.to_pylist() for name, column in added.items()}
                for at, row in enumerate(rows):
                    handle.write(json_line(row | {name: column[at] for name, column in columns.items()}))

    def rows(self, number: int, columns: list[str]) -> pa.Table | list[dict[str, Any]]:
        """Columns of a finished shard.

        Raises:
            DataError: it is damaged.
        """
        file = self.shard(number)
        try:
            if self.format == "parquet":
                with pq.ParquetFile(file) as opened:  # read_table would import pandas
                    return opened.read(columns=columns)
            with file.open(encoding="utf-8") as lines:
                return [{name: row[name] for name in columns} for row in map(json.loads, lines)]
        except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{file} is damaged",
                reason=str(error),
                remedy="delete it: the same command makes it again, from the replies that are kept",
            ) from None

    def forget_rows(self) -> None:
        """Leaves nothing of a job but its replies and what its sessions paid: another job asks for no reply twice."""
        for entry in [*self.path.glob("*"), *self.job.glob("*")]:
            if entry.is_file() and entry.name != LOCK and not entry.name.startswith(_REPLIES):
                entry.unlink()

    def new_session(self) -> Path:
        """A file for the counts of this session."""
        sessions = self.job / "sessions"
        sessions.mkdir(parents=True, exist_ok=True)
        numbers = [int(file.stem) for file in sessions.glob("*.json") if file.stem.isdecimal()]
        return sessions / f"{max(numbers, default=-1) + 1:03d}.json"  # one of them may have been deleted

    def sessions(self) -> list[dict[str, Any]]:
        return [_read(file) for file in sorted((self.job / "sessions").glob("*.json"))]

    @staticmethod
    def write_json(file: Path, content: Any) -> None:
        """Replaces a file as a whole."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content, indent=1)


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of UTF-8; what JSON has no type for, dates for instance, as text."""
    return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except DataError as error:
        raise DataError(error.what, reason=error.reason, remedy="put it back, or give another OUT") from None
    if content is None:
        raise DataError(f"{file}: it is gone", reason="the job needs it", remedy="put it back, or give another OUT")
    return content


def _lines(file: Path) -> int:
    """Whole lines of a file of rows; those with a NUL, which an outage leaves, are none."""
    with file.open("rb") as lines:
        return sum(line.endswith(b"}\n") and b"\0" not in line for line in lines)
