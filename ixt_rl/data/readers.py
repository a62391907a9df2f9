"""Rows of JSONL, JSON and Parquet files and of hub datasets, from a cursor that can be written down.

`datasets` streams too, and its state resumes exactly. But for a file that state is a number of rows, and to get there
it parses the file again from its first row (`ArrowExamplesIterable` of 5.2): some 2 s for each gigabyte before the
place, over 20 s where rows hold an empty `feedback_scores`. Ours is a place in the file, the byte of a line or the row
of a row group, so that resuming costs the same everywhere. Hub datasets go through `datasets`, with its own state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.errors import DataError

_BATCH_ROWS = 256  # rows of a Parquet file decoded at once


@dataclass
class Cursor:
    """The next row to read.

    Args:
        file: index of the file.
        group: index of the row group in a Parquet file.
        offset: bytes before it in a JSONL file; rows before it in a Parquet row group or a JSON array.
        row: rows read of this file, for messages.
        hub: the state of `datasets` where the source is a hub dataset.
    """

    file: int = 0
    group: int = 0
    offset: int = 0
    row: int = 0
    hub: dict[str, Any] | None = None

    def next_file(self) -> None:
        self.file, self.group, self.offset, self.row = self.file + 1, 0, 0, 0


def read_jsonl(path: str, cursor: Cursor, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a file with one JSON object a line; empty lines are passed over."""
    with open(path, "rb") as file:
        file.seek(cursor.offset)
        for line in file:
            cursor.offset += len(line)
            cursor.row += 1
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}: row {cursor.row} is not JSON",
                    reason=str(error),
                    remedy="one JSON object a line, in UTF-8",
                ) from None
            yield _object(row, path, cursor)


def read_json(path: str, cursor: Cursor, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a JSON array, which is held in memory as a whole; any other .json file is read line by line."""
    with open(path, "rb") as file:
        if file.read(1024).lstrip()[:1] != b"[":
            yield from read_jsonl(path, cursor, columns)
            return
        file.seek(0)
        try:
            rows = json.load(file)
        except ValueError as error:
            raise DataError(f"{path}: not JSON", reason=str(error), remedy="an array of objects") from None
    for row in rows[cursor.offset :]:
        cursor.offset += 1
        cursor.row += 1
        yield _object(row, path, cursor)


def read_parquet(path: str, cursor: Cursor, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a Parquet file, of which only `columns` are decoded, a few hundred rows at a time."""
    with _open_parquet(path) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        while cursor.group < file.num_row_groups:
            passed = 0
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[cursor.group], columns=present, use_threads=False):
                skipped = max(0, min(cursor.offset - passed, batch.num_rows))
                passed += batch.num_rows
                for row in batch.slice(skipped).to_pylist():
                    cursor.offset += 1
                    cursor.row += 1
                    yield row
            cursor.group, cursor.offset = cursor.group + 1, 0


READERS: dict[str, Callable[[str, Cursor, list[str]], Iterator[Mapping[str, Any]]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
}


def read_hub(path: str, name: str | None, split: str, cursor: Cursor) -> Iterator[Mapping[str, Any]]:
    """Rows of a hub dataset (or a local folder that `datasets` can load), streamed.

    Raises:
        DataError: `datasets` cannot open it.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(path, name, split=split, streaming=True)
    except Exception as error:  # `datasets` and the hub's client raise many kinds
        raise DataError(
            f"dataset {path!r} (name {name!r}, split {split!r})",
            reason=f"{type(error).__name__}: {error}",
            remedy=f"give files that end in {', '.join(READERS)}, or the id, name and split of a hub dataset",
        ) from None
    dataset.state_dict()  # from here on `datasets` keeps its state
    if cursor.hub is not None:
        dataset.load_state_dict(cursor.hub)
    for row in dataset:
        cursor.hub = dataset.state_dict()
        cursor.row += 1
        yield row
    cursor.hub, cursor.row = None, 0


def columns_of(path: str) -> list[str] | None:
    """The columns of a Parquet file's schema; None for other files, whose rows have their own."""
    if Path(path).suffix != ".parquet":
        return None
    with _open_parquet(path) as file:
        return list(file.schema_arrow.names)


def _open_parquet(path: str):
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{path}: not a Parquet file", reason=str(error), remedy="write it again, or rename it"
        ) from None


def _object(row: Any, path: str, cursor: Cursor) -> Mapping[str, Any]:
    if isinstance(row, dict):
        return row
    raise DataError(
        f"{path}: row {cursor.row} is {json.dumps(row)[:80]}",
        reason="a row is a JSON object",
        remedy='write rows like {"text": "..."}',
    )
