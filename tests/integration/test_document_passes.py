"""Stages on documents and on prefixes in passes: every document so many times, and exact after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ixt_rl.run import run_config
from ixt_rl.run.stages import documents as document_stage
from ixt_rl.run.stages import sip as sip_stage
from tests.integration.run_helpers import config, rows, sip, weights
from tests.integration.test_run_state import run_until, timeless
from tests.unit.data.files import documents, write

MODEL = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


def on_files(folder: Path) -> dict[str, Any]:
    paths = [write(folder / f"{name}.jsonl", documents(name, 9)) for name in ("web", "books")]
    return {
        "name": "docs", "type": "ixt", "data": {"sources": [{"path": paths[0], "weight": 4}, {"path": paths[1]}]},
        "feedback": {"template": "levels"}, "packing": {"capacity": 64}, "epochs": 2, "batch_size": 4,
        "optim": {"lr": 1e-3, "schedule": "cosine"}, "evaluation": {"every": 100, "holdout": 2}, "checkpoint_every": 1,
    }  # fmt: skip


def result(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "stages" / stage / "seed1" / "result.json").read_text())


@pytest.mark.parametrize("kind", ["documents", "prefixes"])
def test_passes_end_and_a_killed_stage_ends_where_the_straight_one_did(tmp_path, monkeypatch, kind):
    if kind == "documents":
        stage, model, module = on_files(tmp_path), MODEL, document_stage
    else:
        stage = sip("docs", data={"world": "chain", "passages": 5}, epochs=2, evaluation=None, checkpoint_every=1)
        model, module = {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64}}, sip_stage
        del stage["steps"]
    straight = run_config(config(tmp_path, [stage], name="straight", model=model))
    last = rows(straight)[-1]
    told = result(straight, "docs")
    if kind == "documents":
        assert told["documents"]["documents"] == 2 * 2 * (9 - 2)
        assert last["tokens"] == told["documents"]["tokens"]
        rows_of = last["step"]
        assert f"epochs: 2 are {rows_of} updates" in told["notes"] and rows_of > 3
    else:
        assert "epochs: 2 are 3 updates" in told["notes"] and last["step"] == 3
        assert last["rollouts"] == 2 * 5 * 2, "two prompts in the last update"
    run = config(tmp_path, [stage], name="killed", model=model)
    run_until(run, 2, monkeypatch, module)
    killed = run_config(run)
    assert timeless(rows(killed)) == timeless(rows(straight))
    paths = [folder / "stages" / "docs" / "seed1" for folder in (straight, killed)]
    theirs, mine = map(weights, paths)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
