"""Small corpora and function judges in files, as the command line takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from ixt_rl.types import SamplingParams

JUDGE = '''
import os

LOG = os.environ.get("JUDGE_LOG")


def length(fields):
    """Level 1 to 5 by the text's length; None for texts of length 7, 14, ...; raises on "raise"."""
    text = fields["text"]
    if LOG:
        log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (text + "\\n").encode())
        os.close(log)
    if text == "raise":
        raise RuntimeError("as asked")
    if len(text) % 7 == 0:
        return {"writing_style": 2, "overall": None}
    score = 1 + len(text) % 5
    return {"writing_style": score, "expertise": 6 - score, "educational_value": 3, "overall": score,
            "critique": f"of length {len(text)}"}
'''


def judge_file(folder: Path, source: str = JUDGE) -> Path:
    file = folder / "judge.py"
    file.write_text(source)
    return file


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def corpus(count: int) -> list[dict[str, Any]]:
    """Every fifth document is a duplicate of an earlier one."""
    return [
        {"id": row, "text": f"document {row - row % 5 // 4} " + "x" * ((row - row % 5 // 4) % 13)}
        for row in range(count)
    ]


def make_job(folder: Path, **changes: Any) -> AnnotationJob:
    settings = {
        "rubric": load_rubric("web-text"), "fields": {}, "sampling": SamplingParams(64, temperature=0.0),
        "format": "jsonl", "shard_rows": 10,
    }  # fmt: skip
    if "judge" not in changes:
        settings["judge"] = parse_judge(f"python:{judge_file(folder)}:length", {})
    return AnnotationJob(**{**settings, **changes})


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of all shards, in order."""
    rows: list[dict[str, Any]] = []
    for file in sorted(out.glob("part-*")):
        if file.suffix == ".parquet":
            rows += pq.read_table(file).to_pylist()
        else:
            rows += map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return rows


def shards(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.glob("part-*"))}
