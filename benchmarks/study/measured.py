"""What bases and cells measured, as one table that can be kept and read back: measured.csv.

    name, code, then a column for each measure, and for `steps` and `base_steps`; a cell that lacks one has it empty

The page of the study is made from these rows alone, so whoever has the table has the page, the tests and the figures,
and goes on where it ends, in another folder or on another machine: `study.py --known measured.csv`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_rl.files import write_text

Rows = dict[str, dict[str, Any]]
"""Name of a base or a cell -> what `Store.measured` gives."""


def write_measured(file: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a row for each, numbers with six digits."""
    measures = sorted({name for row in rows.values() for name in row} - {"code"})
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["name", "code", *measures])
    for name, row in sorted(rows.items()):
        shown = ("" if row.get(one) is None else f"{row[one]:.6g}" for one in measures)
        table.writerow([name, row.get("code") or "", *shown])
    write_text(file, out.getvalue())


def read_measured(file: Path) -> Rows:
    """The rows of such a table.

    Raises:
        OSError: there is no such file.
        ValueError: it is another table, or a cell is no number; names the row.
    """
    found: Rows = {}
    with file.open(encoding="utf-8", newline="") as text:
        table = csv.DictReader(text)
        if not {"name", "code"} <= {*(table.fieldnames or ())}:
            raise ValueError(f"{file} is no measured.csv: it has no columns `name` and `code`")
        for row in table:
            name, code = row.pop("name"), row.pop("code") or None
            try:
                found[name] = {"code": code, **{one: float(value) for one, value in row.items() if value}}
            except (TypeError, ValueError) as wrong:
                raise ValueError(f"{file}: the row of {name} is not one of measured.csv: {wrong}") from None
    return found
