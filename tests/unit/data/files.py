"""Small files of documents, each text unlike all others."""

from __future__ import annotations

import json
from pathlib import Path


def documents(name: str, count: int, annotated: bool = True) -> list[dict]:
    rows = []
    for i in range(count):
        row: dict = {"text": f"{name}{i} " + "abcde" * (i * 7 % 11)}
        if annotated:
            row |= {"feedback_level": i % 6 or None, "feedback_scores": {"style": i % 3 + 0.5}}
            row |= {"feedback_critique": "", "feedback_judge": "j"}
        rows.append(row)
    return rows


def write(path: Path, rows: list[dict], *, group: int = 4) -> str:
    """Writes rows as the kind of file that the name says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        import pyarrow
        from pyarrow.parquet import write_table

        write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return str(path)
