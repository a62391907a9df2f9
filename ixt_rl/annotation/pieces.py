"""Pieces of the input: lists of rows (JSON lines) or Arrow tables (the others), so that types stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa

Piece: TypeAlias = "list[dict[str, Any]] | pa.Table"


def values(piece: Piece, column: str) -> list[Any]:
    """One column of a piece, `a.b` the entry `b` of column `a`; None where it is missing."""
    if isinstance(piece, pa.Table):
        if column in piece.column_names:
            return piece.column(column).to_pylist()
        top, *rest = column.split(".")
        return [_entry(value, rest) for value in piece.column(top).to_pylist()]
    return [row[column] if column in row else _entry(row, column.split(".")) for row in piece]


def _entry(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
