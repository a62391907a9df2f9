"""Rows of JSONL, JSON and Parquet files and of hub datasets, from a cursor that can be written down.

`datasets` streams too, and its state resumes exactly. But for a file that state is a number of rows, and to get there
it parses the file again from its first row (`ArrowExamplesIterable` of 5.2): some 2 s for each gigabyte before the
place, over 20 s where rows hold an empty `feedback_scores`. Ours is a place in the file, the byte of a line or the row
of a row group, so that resuming costs the same everywhere (of a `.gz`, what stands before is unpacked again).
`datasets` also infers one type a column, which changes long integers, integers beside floats, and dates; JSON is read
here as it is written. Hub datasets go through `datasets`, with its own state.
"""

from __future__ import annotations

import gzip
import json
import re
import reprlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ixt_rl.errors import DataError

if TYPE_CHECKING:
    import pyarrow

FIRST_ROWS = 1000
"""Rows of a file that are looked at before anything loads, for names of fields."""
_BATCH_ROWS = 256  # rows of a Parquet file decoded at once
_BOM = b"\xef\xbb\xbf"
_NARROW_FLOAT = re.compile(r"\b(half)?float\b")  # how Arrow calls float16 and float32
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class Cursor:
    """The next row to read.

    Args:
        file: index of the file.
        group: index of the row group in a Parquet file.
        offset: bytes before it in a JSONL file, unpacked; rows before it in a Parquet row group or a JSON array.
        row: rows read of this file, for messages; in a JSONL file its lines.
        hub: the state of `datasets` where the source is a hub dataset.
    """

    file: int = 0
    group: int = 0
    offset: int = 0
    row: int = 0
    hub: dict[str, Any] | None = None

    def next_file(self) -> None:
        self.file, self.group, self.offset, self.row = self.file + 1, 0, 0, 0


def read_jsonl(
    path: str, cursor: Cursor, columns: list[str], parse_float: Callable[[str], Any] = float
) -> Iterator[Mapping[str, Any]]:
    """Rows of a file with one JSON object a line; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is no JSON object in UTF-8.
    """
    with _open(path) as file, _readable(path, cursor):
        file.seek(cursor.offset)
        for line in file:
            first = cursor.offset == 0
            cursor.offset += len(line)
            cursor.row += 1
            if line.isspace():
                continue
            line = line.removeprefix(_BOM) if first else line
            yield _object(_parsed(line, f"{path}: row {cursor.row}", cursor.row, parse_float), path, cursor)


def read_json(
    path: str, cursor: Cursor, columns: list[str], parse_float: Callable[[str], Any] = float
) -> Iterator[Mapping[str, Any]]:
    """Rows of a JSON array, which is held in memory as a whole; any other .json file is read line by line."""
    with _open(path) as file, _readable(path, cursor):
        start = file.read(1024).removeprefix(_BOM).lstrip()[:1]
        if start == b"[":
            file.seek(0)
            rows = _parsed(file.read().removeprefix(_BOM), path, 0, parse_float)
    if start != b"[":
        yield from read_jsonl(path, cursor, columns, parse_float)
        return
    for row in rows[cursor.offset :]:
        cursor.offset += 1
        cursor.row += 1
        yield _object(row, path, cursor)


def read_parquet(
    path: str, cursor: Cursor, columns: list[str], parse_float: Callable[[str], Any] = float
) -> Iterator[Mapping[str, Any]]:
    """Rows of a Parquet file, of which only `columns` are decoded, a few hundred rows at a time."""
    import pyarrow

    with _open_parquet(path) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        while cursor.group < file.num_row_groups:
            passed = 0
            try:
                for batch in file.iter_batches(
                    _BATCH_ROWS, row_groups=[cursor.group], columns=present, use_threads=False
                ):
                    skipped = max(0, min(cursor.offset - passed, batch.num_rows))
                    passed += batch.num_rows
                    for row in _rows(batch.slice(skipped)):
                        cursor.offset += 1
                        cursor.row += 1
                        yield row
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{path}: after row {cursor.row}", reason=f"it is not Parquet: {error}", remedy="write it again"
                ) from None
            except (OverflowError, ValueError, KeyError) as error:  # a year 30000, a map with one key twice
                raise DataError(
                    f"{path}: after row {cursor.row}",
                    reason=f"within {_BATCH_ROWS} rows is a value that Python cannot hold: {error}",
                    remedy="write that column as text",
                ) from None
            cursor.group, cursor.offset = cursor.group + 1, 0


READERS: dict[str, Callable[..., Iterator[Mapping[str, Any]]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".jsonl.gz": read_jsonl,
    ".json.gz": read_json,
    ".parquet": read_parquet,
}


def kind_of(path: str) -> str:
    """How a file's name ends, `.gz` with what stands before it."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def check_file(path: str) -> None:
    """Raises DataError unless `path` is a file of a kind that is read."""
    if kind_of(path) not in READERS:
        raise DataError(
            f"{path}: unknown kind of file",
            reason=f"its name ends in {kind_of(path)!r}",
            remedy=f"one of {', '.join(READERS)}",
        )
    if Path(path).is_dir():
        raise DataError(
            f"{path}: a folder", reason="its name is that of a file", remedy="name the files in it, or rename it"
        )
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file", reason="nothing is there", remedy="check the path")


def read_hub(path: str, name: str | None, split: str, cursor: Cursor) -> Iterator[Mapping[str, Any]]:
    """Rows of a hub dataset (or a local folder that `datasets` can load), streamed.

    Raises:
        DataError: `datasets` cannot open it.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(path, name, split=split, streaming=True)
    except Exception as error:  # `datasets` and the hub's client raise many kinds
        raise no_dataset(path, name, split, error) from None
    dataset.state_dict()  # from here on `datasets` keeps its state
    if cursor.hub is not None:
        dataset.load_state_dict(cursor.hub)
    for row in dataset:
        cursor.hub = dataset.state_dict()
        cursor.row += 1
        yield row
    cursor.hub, cursor.row = None, 0


def no_dataset(path: str, name: str | None, split: str, error: Exception) -> DataError:
    """What is said where `datasets` cannot open a dataset."""
    return DataError(
        f"dataset {path!r} (name {name!r}, split {split!r})",
        reason=f"{type(error).__name__}: {error}",
        remedy=f"give files that end in {', '.join(READERS)}, or the id, name and split of a hub dataset",
    )


def columns_of(path: str) -> list[str] | None:
    """The columns of a Parquet file's schema; None for other files, whose rows have their own."""
    if kind_of(path) != ".parquet":
        return None
    with _open_parquet(path) as file:
        return list(file.schema_arrow.names)


def _open(path: str) -> IO[bytes]:
    try:
        return cast(IO[bytes], gzip.open(path, "rb") if kind_of(path).endswith(".gz") else open(path, "rb"))
    except OSError as error:
        raise _unreadable(path, error) from None


@contextmanager
def _readable(path: str, cursor: Cursor) -> Iterator[None]:
    """Errors of reading a file become DataErrors that name it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(f"{path}: after row {cursor.row}", error) from None


def _unreadable(place: str, error: BaseException) -> DataError:
    return DataError(place, reason=f"it cannot be read: {error}", remedy="check the file")


def _rows(batch: pyarrow.RecordBatch) -> list[dict[str, Any]]:
    """Rows as Python has them; maps are objects, and a narrow float has the digits that it was written with."""
    rows = batch.to_pylist(maps_as_pydicts="strict")
    for column in batch.schema:
        if _NARROW_FLOAT.search(str(column.type)):
            for row in rows:
                row[column.name] = _shortest(row[column.name], column.type)
    return rows


def _shortest(value: Any, kind: pyarrow.DataType) -> Any:
    """The float32 nearest to 0.1 is 0.1, and not the 0.10000000149011612 that is the same number in float64."""
    from pyarrow import types

    if value is None:
        return None
    if types.is_floating(kind):
        return float(str(kind.to_pandas_dtype()(value)))
    if types.is_struct(kind):
        return {field.name: _shortest(value[field.name], field.type) for field in kind}
    if types.is_map(kind):
        return {key: _shortest(item, kind.item_type) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortest(item, kind.value_type) for item in value]
    return value


def _open_parquet(path: str):
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{path}: not a Parquet file", reason=str(error), remedy="write it again, or rename it"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _parsed(data: bytes, what: str, line: int, parse_float: Callable[[str], Any]) -> Any:
    """JSON in UTF-8; `what` and `line` are for the message."""
    try:
        return json.loads(data.decode("utf-8"), parse_float=parse_float)
    except RecursionError:
        reason = "it is nested too deeply"
    except UnicodeDecodeError as error:
        reason = "it is UTF-16" if data.startswith(_UTF_16) or b"\0" in data[:4] else f"it is not UTF-8: {error}"
    except ValueError as error:
        reason = str(error)
    where = f"line {line}: " if line else ""
    remedy = "one JSON object a line, in UTF-8" if line else "an array of objects, in UTF-8"
    raise DataError(f"{what} is not JSON" if line else f"{what}: not JSON", reason=where + reason, remedy=remedy)


def _object(row: Any, path: str, cursor: Cursor) -> Mapping[str, Any]:
    if isinstance(row, dict):
        return row
    raise DataError(
        f"{path}: row {cursor.row} is {reprlib.repr(row)}",
        reason="a row is a JSON object",
        remedy='write rows like {"text": "..."}',
    )
