"""A run over a file in passes, with another optimizer: each problem once a pass, and exact after a kill."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from ixt_rl.run import run_config
from tests.integration.run_helpers import config, online, rows, weights
from tests.integration.test_run_state import run_until, timeless

COUNT = 8
REWARD = """
import zlib

def f(completions, question, **kwargs):
    with open(PLACE, "a") as file:
        file.writelines(q + "\\n" for q in question)
    return [zlib.crc32(c.encode()) % 5 for c in completions]
"""


def run_of(folder: Path, name: str):
    problems = folder / "problems.jsonl"
    lines = [json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) for n in range(COUNT)]
    problems.write_text("\n".join(lines) + "\n")
    asked, reward = folder / "asked.txt", folder / "reward.py"
    reward.write_text(f"PLACE = {str(asked)!r}\n{REWARD}")
    stage = online("rl", init="model", type="grpo", data={"path": str(problems)}, epochs=1.5, rollouts_per_step=8,
                   sampling={"max_new_tokens": 6}, rewards=[{"type": "python", "path": f"{reward}:f"}],
                   optim={"name": "adafactor", "lr": 1e-3}, checkpoint_every=2)  # fmt: skip
    del stage["steps"], stage["evaluation"]
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    return config(folder, [stage], name=name, model=model), asked


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


def test_passes_show_every_problem_once_and_are_exact_after_a_kill(tmp_path, monkeypatch):
    run, asked = run_of(tmp_path, "straight")
    straight = run_config(run)
    shown = asked.read_text().split()
    assert len(shown) == 6 * 8
    assert Counter(shown[: 4 * COUNT]) == {f"{n}+1": 4 for n in range(COUNT)}
    assert rows(straight)[-1]["step"] == 6
    notes = json.loads((straight / "stages" / "rl" / "seed1" / "result.json").read_text())["notes"]
    assert "epochs: 1.5 of 8 problems are 6 updates" in notes

    run, _ = run_of(tmp_path, "killed")
    run_until(run, 3, monkeypatch)
    killed = run_config(run)
    assert timeless(rows(killed)) == timeless(rows(straight))
    mine, theirs = weights(killed), weights(straight)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
