"""A folder that an earlier version of the library began: the present one goes on with it.

`begun/` holds what `ixt-rl annotate` and `ixt-rl rewrite --prompt thoughts` wrote at commit 66cd2e5, before these jobs
had the rooms that they have now; the replies as SQL. Files that may not change any more: they are the proof.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rewrite.thoughts import ThoughtsJob
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from ixt_rl.rewriting import load_rewrite
from ixt_rl.types import SamplingParams
from tests.unit.annotation.helpers import shards

BEGUN = Path(__file__).parent / "begun"
SHARDS = 3
ANSWERS = SamplingParams(1024, temperature=0.0)


def annotated(folder: Path) -> dict[str, Any]:
    judge = parse_judge(f"python:{folder / 'judge.py'}:length", {})
    job = AnnotationJob(load_rubric("web-text"), {}, judge, ANSWERS, format="jsonl", shard_rows=2)
    return annotate(job, SourceSpec(str(folder / "corpus.jsonl")), folder / "annotated")


def thought(folder: Path) -> dict[str, Any]:
    rewriter = parse_judge(f"python:{folder / 'judge.py'}:think", {}, role="rewriter")
    job = ThoughtsJob(rewriter, load_rewrite("thoughts"), ANSWERS, {}, format="jsonl", shard_rows=2)
    return rewrite(job, SourceSpec(str(folder / "corpus.jsonl")), folder / "thought")


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folders as a stop after the first shard left them, all replies in the cache."""
    folder = tmp_path / "begun"
    shutil.copytree(BEGUN, folder)
    for job in ("annotated", "thought"):
        for number in range(1, SHARDS):
            (folder / job / f"part-{number:06d}.jsonl").unlink()
        script = folder / job / "job" / "cache.sql"
        with sqlite3.connect(folder / job / "job" / "cache.sqlite") as database:
            database.executescript(script.read_text(encoding="utf-8"))
        script.unlink()
    return folder


@pytest.mark.parametrize("go_on", [annotated, thought])
def test_what_was_begun_before_is_gone_on_with(begun, go_on: Callable[[Path], dict[str, Any]]):
    out = begun / go_on.__name__
    first = (out / "part-000000.jsonl").stat()
    summary = go_on(begun)
    assert shards(out) == shards(BEGUN / go_on.__name__)
    assert (out / "part-000000.jsonl").stat().st_mtime_ns == first.st_mtime_ns, "it was made again"
    kept = json.loads((out / "job" / "settings.json").read_text())
    assert kept == json.loads((BEGUN / go_on.__name__ / "job" / "settings.json").read_text())
    spent = summary["spent"]
    assert (spent["sessions"], spent["requests"], spent["cached"]) == (2, 6, 4), "a reply that was there was asked for"
