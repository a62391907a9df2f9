"""An RL stage on several sources: shares in every batch, metrics and rewards by source, exact after a kill."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from ixt_rl.run import run_config
from tests.integration.run_helpers import config, online, rows, weights
from tests.integration.test_run_state import run_until, timeless
from tests.unit.data.files import write

REWARD = """
import zlib

def f(completions, source, hint, **kwargs):
    with open(PLACE, "a") as file:
        file.writelines(name + "\\n" for name in source)
    assert all((name == "easy") == (told == "add") for name, told in zip(source, hint))
    bits = [zlib.crc32(text.encode()) % 4 for text in completions]
    return [float(bit > (2 if name == "hard" else 0)) for name, bit in zip(source, bits)]
"""


def run_of(folder: Path, name: str, **changes):
    easy = [{"question": f"{n}+1", "answer": str(n + 1), "hint": "add"} for n in range(5)]
    hard = [{"problem": f"{n}*7", "solution": f"so\n#### {7 * n}"} for n in range(4)]
    sources = [
        {"path": write(folder / "easy.jsonl", easy), "columns": ["hint"], "weight": 3, "eval_rows": 2},
        {"path": write(folder / "x.jsonl", hard), "question": "problem", "answer": "solution", "eval_rows": 2,
         "answer_extract": "hashes", "name": "hard"},
    ]  # fmt: skip
    asked, reward = folder / "asked.txt", folder / "reward.py"
    reward.write_text(f"PLACE = {str(asked)!r}\n{REWARD}")
    stage = online(
        "rl", init="model", type="raft", data={"sources": sources}, rollouts_per_step=8, group_size=2,
        sampling={"max_new_tokens": 6}, rewards=[{"type": "python", "path": f"{reward}:f"}], checkpoint_every=2,
        evaluation={"every": 4, "problems": 3}, **{"steps": 4, **changes},
    )  # fmt: skip
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    return config(folder, [stage], name=name, model=model), asked


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


def test_every_batch_has_each_source_s_share_and_a_killed_run_goes_on_with_the_same_prompts(tmp_path, monkeypatch):
    run, asked = run_of(tmp_path, "straight")
    straight = run_config(run)
    trained = asked.read_text().split()[-(4 * 8 + 9) : -9]  # an evaluation asks 3 x 3 times
    batches = [Counter(trained[start : start + 8]) for start in range(0, 32, 8)]
    assert batches == [Counter(easy=6, hard=2)] * 4

    found = rows(straight)
    train, measured = (next(r for r in reversed(found) if r["phase"] == phase) for phase in ("train", "eval"))
    assert train["source/easy/reward"] > train["source/hard/reward"]
    both = 0.75 * train["source/easy/reward"] + 0.25 * train["source/hard/reward"]
    assert train["reward"] == pytest.approx(both) == pytest.approx(train["rollout/kept"])
    assert train["source/easy/kept"] == train["source/easy/reward"], "what is right is kept"
    assert Counter(r["mode"] for r in rows(straight, "samples.jsonl")) == {"sampled": 3 * 2}
    of = [measured[f"source/{name}/greedy/checked"] for name in ("easy", "hard")]
    assert measured["greedy/checked"] in [
        pytest.approx((2 * of[0] + of[1]) / 3),
        pytest.approx((of[0] + 2 * of[1]) / 3),
    ]
    notes = json.loads((straight / "stages" / "rl" / "seed1" / "result.json").read_text())["notes"]
    assert (
        "sources: easy 75% of the prompts, 4 passes over 3 problems; hard 25% of the prompts, 2 passes over 2 problems"
        in notes
    )

    run, _ = run_of(tmp_path, "killed")
    run_until(run, 3, monkeypatch)
    killed = run_config(run)
    assert timeless(rows(killed)) == timeless(rows(straight))
    mine, theirs = weights(killed), weights(straight)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_passes_are_over_the_problems_of_all_sources(tmp_path):
    stage = run_of(tmp_path, "passes", epochs=2, steps=None)[0].stages[0]
    assert stage.lasting(9).steps == 4, "of 9 problems two times 4 are a pass"
