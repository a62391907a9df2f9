"""JSON lines: one pass that checks every row and notes where each shard begins, then reading by row number."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ixt_rl.contents import settled, state_of
from ixt_rl.corpus.row_group import values
from ixt_rl.errors import DataError

_CHUNK = 1000  # rows whose types are inferred together
_SCALARS = (str, int, float, bool, type(None))


@dataclass
class Index:
    """What the pass over the files found.

    Args:
        files: name, rows and sha256 of each; `state`, by which it is found unchanged (null: it cannot be), in bytes
            and times.
        every: rows between two entries of `offsets`.
        offsets: (number of the file, byte, lines before it in the file) of rows 0, every, 2 every, ...
        rows: of all files.
        columns: in the order in which they first appear.
        schema: Arrow types, serialised, base64; "" if not asked for.
        missing: column -> rows without a value in it.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    every: int = 1
    offsets: list[list[int]] = field(default_factory=list)
    rows: int = 0
    columns: list[str] = field(default_factory=list)
    schema: str = ""
    missing: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_of(self, files: Sequence[Path], fields: Mapping[str, str], every: int) -> bool:
        """Whether `scan` would find this again: files that nobody has written to since, the same wishes."""
        now = [(file.name, state_of(file.stat())) for file in files]
        same_files = now == [(entry.get("file"), entry.get("state")) for entry in self.files]
        return same_files and set(self.missing) == set(fields.values()) and self.every == every


def scan(
    files: Sequence[Path],
    fields: Mapping[str, str],
    every: int,
    *,
    infer: bool,
    tick: Callable[[int], None] = lambda done: None,
) -> Index:
    """Reads all lines once.

    Args:
        files: in order.
        fields: field -> column; where rows have such a column, it must hold text.
        every: rows of a shard.
        infer: whether Arrow types are needed, for Parquet.
        tick: called with the bytes read so far.

    Raises:
        DataError: a line that is no JSON object; a value that is no text; types that do not fit together.
    """
    index = Index(every=every, missing=dict.fromkeys(fields.values(), 0))
    schema: pa.Schema | None = None
    columns: dict[str, None] = {}
    done = 0
    for number, file in enumerate(files):
        digest, offset, rows = hashlib.sha256(), 0, 0
        stat = file.stat()  # as it was before: what is written to it meanwhile shows
        state = state_of(stat) if settled(stat) else None
        lines = enumerate(_lines(file, 0), 1)
        while chunk := list(islice(lines, _CHUNK)):
            found: list[dict[str, Any]] = []
            for line_number, line in chunk:
                digest.update(line)
                if line.strip():
                    if (index.rows + len(found)) % every == 0:
                        index.offsets.append([number, offset, line_number - 1])
                    found.append(parse(line, file, line_number))
                offset += len(line)
            columns.update(dict.fromkeys(name for row in found for name in row))
            _check_values(found, index, fields)
            if infer and found:
                schema = _unified(schema, found, index.rows)
            index.rows += len(found)
            rows += len(found)
            tick(done + offset)
        done += offset
        index.files.append(
            {"file": file.name, "bytes": offset, "state": state, "rows": rows, "sha256": digest.hexdigest()}
        )
    index.columns = list(columns)
    if schema is not None:
        index.schema = base64.b64encode(schema.serialize().to_pybytes()).decode()
    return index


class JsonLines:
    """Rows of JSON-lines files, by the index of `scan`. Lone surrogates become `?`: no file and no judge takes them."""

    def __init__(self, files: Sequence[Path], index: Index):
        self._files, self._index = list(files), index
        self.rows, self.columns = index.rows, tuple(index.columns)
        self.schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(index.schema))) if index.schema else None
        self.identity = {
            "files": [{name: f[name] for name in ("file", "bytes", "rows", "sha256")} for f in index.files]
        }

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        stop = min(stop, self.rows)
        if start >= stop:
            return []
        every = self._index.every
        number, offset, before = self._index.offsets[start // every]
        skip, rows = start % every, []
        for at in range(number, len(self._files)):
            file = self._files[at]
            first = before if at == number else 0
            for line_number, line in enumerate(_lines(file, offset if at == number else 0), first + 1):
                if not line.strip():
                    continue
                if skip:
                    skip -= 1
                    continue
                rows.append(parse(line, file, line_number))
                if len(rows) == stop - start:
                    return rows
        raise DataError(
            f"{self._files[-1]}: row {start + len(rows)} is gone",
            reason="the files changed while they were read",
            remedy="start again with the files as they were, or with another OUT",
        )


def parse(line: bytes, file: Path, number: int) -> dict[str, Any]:
    """One row.

    Raises:
        DataError: it is no JSON object.
    """
    try:
        row = json.loads(line)
        if b"\\ud" in line or b"\\uD" in line:
            row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file}, line {number}: {line[:80]!r}",
            reason=f"it is not JSON: {error}",
            remedy="give one JSON object a line",
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{file}, line {number}: {line[:80]!r}",
            reason=f"it is {type(row).__name__}, not an object",
            remedy="give one JSON object a line",
        )
    return row


def _lines(file: Path, offset: int) -> Iterator[bytes]:
    try:
        with file.open("rb") as handle:
            handle.seek(offset)
            yield from handle
    except OSError as error:
        raise DataError(f"file {file}", reason=f"it cannot be read: {error}", remedy="check the file") from None


def _check_values(rows: list[dict[str, Any]], index: Index, fields: Mapping[str, str]) -> None:
    for name, column in fields.items():
        for at, value in enumerate(values(rows, column)):
            index.missing[column] += value is None
            if not isinstance(value, _SCALARS):
                raise DataError(
                    f"row {index.rows + at}: {column!r} for the field `{name}`",
                    reason=f"it holds a {type(value).__name__}, not text",
                    remedy=f"choose another with --field {name}=COLUMN; `a.b` is the entry b of column a",
                )


def _unified(schema: pa.Schema | None, rows: list[dict[str, Any]], first: int) -> pa.Schema:
    try:
        found = pa.schema(list(pa.array(rows).type))
        return found if schema is None else pa.unify_schemas([schema, found], promote_options="permissive")
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise DataError(
            f"rows {first} to {first + len(rows) - 1} do not fit the columns of the rows before",
            reason=f"Parquet has one type a column: {error}",
            remedy="write --format jsonl, which keeps every row as it is",
        ) from None
