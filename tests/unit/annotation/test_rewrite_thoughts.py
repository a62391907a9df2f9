"""Thoughts put into whole documents by a batch job: verified, undecided where the text was changed, counted."""

from __future__ import annotations

import json

import pytest

from ixt_rl.conditioning.thought_marks import interleaved
from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rewrite.thoughts import ThoughtsJob
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.judging.opening import parse_judge
from ixt_rl.rewriting import load_rewrite
from ixt_rl.types import SamplingParams
from tests.unit.annotation.helpers import read_rows, shards, write_lines
from tests.unit.annotation.rewriting import rewriter_file

TEACHER = '''
def think(prefix, chunk):
    """A note before the chunk; nothing where it says "plain"; spoils, gives None, raises."""
    if "raise" in chunk:
        raise RuntimeError("as asked")
    if "none" in chunk:
        return None
    if "plain" in chunk:
        return "COPY"
    written = "<note> why </note> " + chunk
    return written.replace("small", "large") if "spoil" in chunk else written
'''
TEXTS = [
    "It rains. The street is wet.",
    "all is plain",
    "One two. We spoil it: small.",
    "We say none. Of it.",
    "To raise. A point.",
    "It rains. " * 5 + "The end.",  # three chunks
    "It rains. " * 4 + "plain and none. " * 1,  # a chunk without an answer: so is the document
    " \n",
    None,
]


def job(folder, **changes) -> ThoughtsJob:
    rewriter = parse_judge(f"python:{rewriter_file(folder, TEACHER)}:think", {}, role="rewriter")
    settings = {"format": "jsonl", "shard_rows": 4, "chunk_characters": 25, "context_characters": 40}
    sampling = SamplingParams(500, temperature=0.0)
    return ThoughtsJob(rewriter, load_rewrite("thoughts"), sampling, {}, **{**settings, **changes})


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_documents_come_out_with_thoughts_or_with_the_reason(tmp_path, format):
    spec = SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", [{"text": text} for text in TEXTS])))
    summary = rewrite(job(tmp_path, format=format), spec, tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert [row["text"] for row in rows] == TEXTS
    statuses = ["annotated", "copied", *["undecided"] * 3, "annotated", "undecided", "skipped", "skipped"]
    assert [row["thoughts_status"] for row in rows] == statuses
    for row in rows:
        if row["thoughts_status"] in ("annotated", "copied"):
            assert interleaved(row["thoughts"]) == row["text"] and row["thoughts_reason"] == ""
            assert row["thoughts"].count("<think>") == row["thoughts_count"]
        else:
            assert row["thoughts"] is row["thoughts_count"] is None
    assert rows[0]["thoughts"] == "<think> why </think> It rains. <think> why </think> The street is wet."
    assert rows[1]["thoughts_count"] == 0 and rows[5]["thoughts_count"] >= 3
    reasons = [row["thoughts_reason"].partition(":")[0] for row in rows]
    assert reasons[2:5] == ["text changed", "empty", "failed"]
    assert reasons[6:] == ["empty", "blank text", "no text"]
    assert summary["annotated"] == 2 and summary["copied"] == 1
    assert summary["undecided_reasons"] == {"empty": 2, "text changed": 1, "failed": 1}
    saved = json.loads((tmp_path / "out" / "rewriting.json").read_text())
    shown = {item["row"]: item for found in saved["examples"].values() for item in found}
    assert shown[0]["original"] == TEXTS[0] and shown[0]["written"] == rows[0]["thoughts"]
    assert "Thoughts in a document" in (tmp_path / "out" / "rewriting.html").read_text()


def test_lost_shards_come_from_the_cache(tmp_path):
    spec = SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", [{"text": text} for text in TEXTS[:4] * 5])))
    one = rewrite(job(tmp_path), spec, tmp_path / "out")
    before = shards(tmp_path / "out")
    (tmp_path / "out" / "part-000001.jsonl").unlink()
    two = rewrite(job(tmp_path), spec, tmp_path / "out")
    assert shards(tmp_path / "out") == before
    assert two["spent"]["requests"] == one["spent"]["requests"] < 20
