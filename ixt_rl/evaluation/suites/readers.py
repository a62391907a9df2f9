"""The rows of a suite's file: what training data may be, and CSV, and JSON objects that hold rows."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ixt_rl.data.fields import Written
from ixt_rl.data.readers import READERS, Cursor, kind_of
from ixt_rl.errors import DataError

Row = Mapping[str, Any]


def rows_of(file: Path) -> Iterable[Row]:
    """Rows of a file, numbers as they are written.

    Raises:
        DataError: it cannot be read, or holds no rows.
    """
    return KINDS[kind_of(file.name)](file)


def _usual(file: Path) -> Iterator[Row]:
    return READERS[kind_of(file.name)](str(file), Cursor(), [], Written)


def _json(file: Path) -> Iterable[Row]:
    """An array, lines, an object of ids and rows, of columns, or one that has the rows in an entry."""
    try:
        text = gzip.decompress(file.read_bytes()) if file.name.lower().endswith(".gz") else file.read_bytes()
        value = json.loads(text.decode("utf-8-sig"), parse_float=Written)
    except (OSError, ValueError, EOFError, zlib.error):
        return _usual(file)  # lines, or it says what is wrong
    if not isinstance(value, dict):
        return _usual(file)
    columns = _columns(value)
    if columns is not None:
        return columns
    lists = [one for one in value.values() if isinstance(one, list) and one and all(isinstance(r, dict) for r in one)]
    if len(lists) == 1:
        return lists[0]
    if value and all(isinstance(one, dict) for one in value.values()):
        return [{"id": key, **one} for key, one in value.items()]
    return [value]


def _columns(value: Mapping[str, Any]) -> list[Row] | None:
    """Rows of {"question": [...], "answer": [...]}, or with {"0": ..., "1": ...} for the lists; None for all else."""
    columns = [*value.values()]
    if all(isinstance(one, dict) and one and [*one] == [str(n) for n in range(len(one))] for one in columns):
        columns = [[*one.values()] for one in columns]
    if len(columns) < 2 or not all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _parquet(file: Path) -> Iterator[Row]:
    """All columns but images and other bytes, which no suite reads."""
    from pyarrow.parquet import read_schema

    columns = [column.name for column in read_schema(file) if "binary" not in str(column.type)]
    return READERS[".parquet"](str(file), Cursor(), columns, Written)


def _csv(file: Path) -> Iterator[Row]:
    """Columns by the names of the first line; what is empty is missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for row in csv.DictReader(opened):
                yield {name: value for name, value in row.items() if name is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}", reason=f"it is no CSV in UTF-8: {error}", remedy="write it again") from None


KINDS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".jsonl": _usual,
    ".json": _json,
    ".jsonl.gz": _usual,
    ".json.gz": _json,
    ".parquet": _parquet,
    ".csv": _csv,
}
"""Endings of files that hold a suite, those that are preferred first."""
