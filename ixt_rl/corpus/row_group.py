"""Pieces of the input: lists of rows (JSON lines) or Arrow tables (the others), so that types stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from ixt_rl.judging.rubric import well_formed

Piece: TypeAlias = "list[dict[str, Any]] | pa.Table"


def values(piece: Piece, column: str) -> list[Any]:
    """One column of a piece, `a.b` the entry `b` of column `a`; None where it is missing."""
    if isinstance(piece, pa.Table):
        if column in piece.column_names:
            return piece.column(column).to_pylist()
        top, *rest = column.split(".")
        return [_entry(value, rest) for value in piece.column(top).to_pylist()]
    return [row[column] if column in row else _entry(row, column.split(".")) for row in piece]


def texts(piece: Piece, fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Each row's texts by field, of `fields` field -> column; a field whose column is null is left out."""
    columns = {name: values(piece, column) for name, column in fields.items()}
    for row in range(len(piece)):
        found = {name: column[row] for name, column in columns.items() if column[row] is not None}
        yield {name: well_formed(text if isinstance(text, str) else str(text)) for name, text in found.items()}


def _entry(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
