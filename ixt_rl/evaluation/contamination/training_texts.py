"""The texts of training files, one at a time: every text field of a row, however deep it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.blocks.checks import data_files
from ixt_rl.data.readers import READERS, Cursor, check_file, columns_of, kind_of
from ixt_rl.errors import DataError, did_you_mean


@dataclass(frozen=True)
class TrainingText:
    """One text that is trained on.

    Args:
        file: where it stands.
        row: number of the row in the file, from 1; of JSON lines the line.
        field: name of the field, such as `text` or `messages[1].content`.
    """

    file: str
    row: int
    field: str
    text: str


def training_texts(paths: Sequence[str], fields: Sequence[str] = ()) -> Iterator[TrainingText]:
    """The texts of all rows of `paths`, read once from the first to the last.

    Args:
        paths: .jsonl, .json (either may be .gz) or .parquet files, folders or patterns of them.
        fields: names of the fields that count; default: every field with text.

    Raises:
        DataError: a file that is not there, of another kind, broken, or without a text in those fields.
    """
    for file in files_of_paths(paths):
        columns = list(fields) if fields else columns_of(file) or []
        seen: dict[str, None] = {}
        texts = rows = 0
        cursor = Cursor()
        for row in READERS[kind_of(file)](file, cursor, columns):
            rows += 1
            for name, value in row.items():
                if rows <= 100:
                    seen[name] = None
                if not fields or name in fields:
                    for where, text in _texts(value, name):
                        texts += 1
                        yield TrainingText(file, cursor.row, where, text)
        if not texts:
            raise _no_text(file, rows, fields, columns_of(file) or list(seen))


def files_of_paths(paths: Sequence[str]) -> list[str]:
    """The files that `paths` name, each once.

    Raises:
        DataError: one of them is not there or of a kind that is not read, or a folder holds none.
    """
    found: dict[str, None] = {}
    for path in paths:
        files = data_files(path)
        if not files:
            raise DataError(
                f"{path}: no data", reason=f"no file in it ends in {', '.join(READERS)}", remedy="check the path"
            )
        for file in files:
            check_file(file)
            found[file] = None
    return list(found)


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if value and not value.isspace():
            yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{name}.{key}")
    elif isinstance(value, list) and value and not isinstance(value[0], int | float):  # ids and scores hold none
        for index, item in enumerate(value):
            yield from _texts(item, f"{name}[{index}]")


def _no_text(file: str, rows: int, fields: Sequence[str], names: list[str]) -> DataError:
    if not rows:
        return DataError(f"{file}: empty", reason="it has no row", remedy="leave it out, or write it again")
    if fields:
        guess = "".join(did_you_mean(name, names) for name in fields if name not in names)
        return DataError(
            f"{file}: no text in {', '.join(fields)}",
            reason=f"its fields are {', '.join(names)}",
            remedy=f"{guess}name a field that holds text",
        )
    return DataError(
        f"{file}: no row has a text",
        reason=f"its fields are {', '.join(names)}",
        remedy="give the file that held the texts, before they became ids",
    )
