"""The rows of a job, read by row number: JSON lines, Parquet files, or a data set of the hub."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_rl.contents import Hashes
from ixt_rl.corpus.jsonlines import Index, JsonLines
from ixt_rl.corpus.row_group import Piece
from ixt_rl.errors import DataError

_LINES = (".jsonl", ".json")
_TEXTUAL = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean,
    pa.types.is_decimal, pa.types.is_null,
)  # fmt: skip


@dataclass(frozen=True)
class SourceSpec:
    """Where rows are read.

    Args:
        path: a .jsonl, .json (lines) or .parquet file, a folder or a pattern of such, or a data set of the hub.
        name: the hub data set's configuration.
        split: the hub data set's split.
    """

    path: str
    name: str | None = None
    split: str = "train"

    def files(self) -> list[Path]:
        """The local files, in the order in which they are read; none for a data set of the hub.

        Raises:
            DataError: a file that is not there or of another kind, or files of both kinds.
        """
        path = Path(self.path)
        if path.is_dir():
            found = sorted([*path.glob("*.parquet"), *path.glob("*.jsonl")])
        elif glob.has_magic(self.path):
            found = sorted(map(Path, glob.glob(self.path)))
        else:
            found = [path] if path.is_file() else []
        if not found and (glob.has_magic(self.path) or path.suffix in (*_LINES, ".parquet")):
            raise DataError(f"no file {self.path}", reason="there is nothing to read", remedy="check the path")
        for file in found:
            if file.suffix not in (*_LINES, ".parquet"):
                raise DataError(f"file {file}", reason="its kind is not known", remedy="give .jsonl or .parquet files")
        if len({file.suffix == ".parquet" for file in found}) > 1:
            raise DataError(
                f"{self.path} has Parquet files and JSON lines",
                reason="their rows have no common order",
                remedy="take them one after the other, e.g. with a pattern like 'corpus/*.parquet'",
            )
        return found


class CorpusRows(Protocol):
    """Rows in a fixed order.

    Attributes:
        rows: how many there are.
        columns: names of the columns.
        schema: their Arrow types; None where it was not asked for.
        identity: JSON that differs when the rows do.
    """

    rows: int
    columns: tuple[str, ...]
    schema: pa.Schema | None

    @property
    def identity(self) -> dict[str, Any]: ...

    def read(self, start: int, stop: int) -> Piece:
        """Rows `start` to `stop` (exclusive)."""
        ...


class ParquetFiles:
    """Rows of Parquet files of one schema; holds one row group at a time.

    Args:
        files: in order.
        hashes: remembers what they hold, which `identity` says.

    Raises:
        DataError: a file that cannot be read, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path], hashes: Hashes | None = None):
        self._groups: list[tuple[Path, int, int, int]] = []  # file, row group, its first row, its end
        self._held: tuple[int, pa.Table] | None = None
        self.rows = 0
        self._files: dict[Path, int] = {}  # rows of each
        self._hashes = hashes or Hashes()
        for file in files:
            try:
                metadata = pq.read_metadata(file)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"file {file}", reason=f"it is not Parquet: {error}", remedy="check the file") from None
            schema = metadata.schema.to_arrow_schema().remove_metadata()
            if not self._files:
                self.schema = schema
            elif not schema.equals(self.schema):
                raise DataError(
                    f"the columns of {file} are not those of {files[0]}",
                    reason=f"{_difference(schema, self.schema)}",
                    remedy="take files of different columns one after the other",
                )
            for group in range(metadata.num_row_groups):
                end = self.rows + metadata.row_group(group).num_rows
                self._groups.append((file, group, self.rows, end))
                self.rows = end
            self._files[file] = metadata.num_rows
        self.columns = tuple(self.schema.names)

    @property
    def identity(self) -> dict[str, Any]:
        """Reads every file whole, once."""
        return {
            "files": [
                {"file": file.name, "bytes": file.stat().st_size, "rows": rows, "sha256": self._hashes.of(file)}
                for file, rows in self._files.items()
            ]
        }

    def read(self, start: int, stop: int) -> pa.Table:
        parts = []
        for number, (_, _, first, end) in enumerate(self._groups):
            if first < stop and end > start:
                low, high = max(start, first), min(stop, end)
                parts.append(self._group(number).slice(low - first, high - low))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _group(self, number: int) -> pa.Table:
        if self._held is None or self._held[0] != number:
            self._held = None
            file, group, _, _ = self._groups[number]
            with pq.ParquetFile(file) as opened:
                self._held = number, opened.read_row_group(group).replace_schema_metadata(None)
        return self._held[1]


class HubDataset:
    """A data set that `datasets` loads: downloaded once, then mapped from disk."""

    def __init__(self, spec: SourceSpec):
        from datasets import load_dataset

        try:
            dataset = load_dataset(spec.path, spec.name, split=spec.split)
        except Exception as error:  # datasets raises many kinds
            raise DataError(
                f"data set {spec.path!r}, name {spec.name}, split {spec.split}",
                reason=f"it is no local file, and `datasets` cannot load it: {error}",
                remedy="check the path, and --name and --split of a data set of the hub",
            ) from error
        self._dataset = dataset.with_format("arrow")
        self.rows, self.columns = len(dataset), tuple(dataset.column_names)
        self.schema = dataset.features.arrow_schema.remove_metadata()
        self.identity = {"dataset": spec.path, "name": spec.name, "split": spec.split}
        self.identity["fingerprint"] = dataset._fingerprint  # of the files it was made of

    def read(self, start: int, stop: int) -> pa.Table:
        return self._dataset[start:stop].replace_schema_metadata(None).cast(self.schema)


def open_source(spec: SourceSpec, index: Index | None, hashes: Hashes | None = None) -> CorpusRows:
    """The rows of `spec`; JSON lines need their `index`, Parquet files remember what they hold in `hashes`."""
    files = spec.files()
    if not files:
        return HubDataset(spec)
    if files[0].suffix == ".parquet":
        return ParquetFiles(files, hashes)
    assert index is not None
    return JsonLines(files, index)


def check_columns(
    source: CorpusRows, fields: Mapping[str, str], added: Sequence[str], renaming: str, *, as_json: bool
) -> None:
    """Refuses rows that cannot be asked about or written, as far as the columns' types show it.

    Args:
        source: the rows.
        fields: field -> column; these columns have to hold text.
        added: names of the new columns.
        renaming: what to do where the rows have one of these already.
        as_json: whether JSON lines are written.

    Raises:
        DataError: no row; a column that is no text; columns that would be written over, or that JSON cannot hold.
    """
    if not source.rows:
        raise DataError("the input has no rows", reason="there is nothing to do", remedy="check the input")
    taken = [name for name in added if name in source.columns]
    if taken:
        raise DataError(
            f"the rows have a column {taken[0]!r} already",
            reason="columns are added and none is replaced",
            remedy=renaming,
        )
    if source.schema is not None:
        for entry in source.schema:
            _check_writable(entry, as_json)
    if isinstance(source, JsonLines):  # its scan has looked at every value
        return
    assert source.schema is not None
    for field, column in fields.items():
        kind = _type_at(source.schema, column)
        if not any(test(kind) for test in _TEXTUAL):
            raise DataError(
                f"column {column!r} for the field `{field}`",
                reason=f"it holds {kind}, not text",
                remedy=f"choose another with --field {field}=COLUMN; `a.b` is the entry b of column a",
            )


def _check_writable(entry: pa.Field, as_json: bool) -> None:
    kind = entry.type
    if as_json and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"column {entry.name!r}", reason="JSON cannot hold bytes", remedy="use --format parquet")
    if not as_json and pa.types.is_struct(kind) and not kind.num_fields:
        raise DataError(
            f"column {entry.name!r} holds only empty objects",
            reason="Parquet cannot hold them",
            remedy="use --format jsonl, or leave the column out",
        )
    for number in range(kind.num_fields):
        _check_writable(kind.field(number), as_json)


def _type_at(schema: pa.Schema, column: str) -> pa.DataType:
    if column in schema.names:
        return schema.field(column).type
    top, *rest = column.split(".")
    kind = schema.field(top).type
    for name in rest:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            raise DataError(
                f"no entry {column!r}", reason=f"{top} holds {schema.field(top).type}", remedy="check the name"
            )
        kind = kind.field(name).type
    return kind


def _difference(ours: pa.Schema, first: pa.Schema) -> str:
    for entry in first:
        if entry.name not in ours.names:
            return f"it has no {entry.name!r}"
        if ours.field(entry.name).type != entry.type:
            return f"{entry.name!r} is {ours.field(entry.name).type} there and {entry.type} in the first"
    extra = [name for name in ours.names if name not in first.names]
    return f"it has {extra[0]!r} besides" if extra else "they stand in another order"
