"""An RL stage on problems whose pass rate lies within bounds: by a field, or measured once and never again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from ixt_rl.errors import DataError
from ixt_rl.run import run_config
from ixt_rl.run.stages import difficulty
from tests.integration.run_helpers import config, online, rows, weights
from tests.integration.test_run_state import run_until, timeless
from tests.unit.data.files import write

COUNT = 8
REWARD = '''
import os, zlib

def f(completions, question, **kwargs):
    """Problem n is solved by n of 7 completions, up to chance; the first byte of some is undecided."""
    calls = os.path.getsize(PLACE) if os.path.exists(PLACE) else 0
    if calls >= int(os.environ.get("STOP_AFTER", 10**9)):
        raise KeyboardInterrupt
    with open(PLACE, "a") as file:
        file.write(":" * len(question))
    values = []
    for text, told in zip(completions, question):
        drawn = zlib.crc32(text.encode())
        values.append(None if drawn % 5 == 0 else float(drawn % 7 < int(told.split("+")[0])))
    return values
'''


def run_of(folder: Path, name: str, bounds: dict, **changes):
    problems = [{"question": f"{n}+1", "answer": str(n + 1), "rate": n / 10} for n in range(COUNT)]
    asked, reward = folder / f"{name}.asked", folder / f"{name}.py"
    reward.write_text(f"PLACE = {str(asked)!r}\n{REWARD}")
    stage = online(
        "rl", init="model", type="raft", data={"path": write(folder / "p.jsonl", problems)}, difficulty=bounds,
        steps=2, rollouts_per_step=4, group_size=2, sampling={"max_new_tokens": 6}, checkpoint_every=1,
        rewards=[{"type": "python", "path": f"{reward}:f"}, {"type": "length", "soft": 2, "hard": 4}],
        evaluation=None, **changes,
    )  # fmt: skip
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    return config(folder, [stage], name=name, model=model), asked


def notes(folder: Path) -> list[str]:
    return json.loads((folder / "stages" / "rl" / "seed1" / "result.json").read_text())["notes"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")
    monkeypatch.setattr(difficulty, "AT_ONCE", 12)


def test_rates_are_measured_once_counted_and_exact_after_kills(tmp_path, monkeypatch):
    bounds = {"rollouts": 6, "at_least": 0.2, "at_most": 0.8}
    run, asked = run_of(tmp_path, "straight", bounds)
    straight = run_config(run)
    found = rows(straight / "stages" / "rl" / "seed1", "difficulty.jsonl")
    assert sorted(row["question"] for row in found) == [f"{n}+1" for n in range(COUNT)]
    for row in found:
        assert row["rate"] == (row["right"] / row["decided"] if row["decided"] else None)
    kept = [row["question"] for row in found if row["rate"] is not None and 0.2 <= row["rate"] <= 0.8]
    undecided = sum(6 - row["decided"] for row in found)
    assert 0 < len(kept) < COUNT and undecided
    said = notes(straight)
    assert any(f"{len(kept)} of {COUNT} problems from 0.2 to 0.8" in note for note in said), said
    assert f"difficulty: {undecided} of {6 * COUNT} completions undecided, in no rate" in said
    assert asked.stat().st_size == 6 * COUNT + 2 * 4

    first = next(row for row in rows(straight) if row["phase"] == "train")
    measuring = sum(row["spent"].get("rollout", 0) for row in found)
    assert measuring > 6 * COUNT and first["rollouts"] == 6 * COUNT + 4
    parameters = sum(value.numel() for value in weights(straight).values())
    assert 2 * parameters * measuring < first["flops/rollout"] < 2 * parameters * (measuring + 4 * 32)

    run, asked = run_of(tmp_path, "killed", bounds)
    monkeypatch.setenv("STOP_AFTER", "36")  # three parts of two problems are written
    with pytest.raises(KeyboardInterrupt):
        run_config(run)
    assert len(rows(tmp_path / "runs" / "killed" / "stages" / "rl" / "seed1", "difficulty.jsonl")) == 6
    monkeypatch.delenv("STOP_AFTER")
    run_until(run, 1, monkeypatch)  # measures what is missing, and is stopped in training
    assert asked.stat().st_size == 6 * COUNT + 4
    killed = run_config(run)
    assert asked.stat().st_size <= 6 * COUNT + 2 * 4
    assert timeless(rows(killed)) == timeless(rows(straight)), "tokens of the measurement are counted once"
    assert rows(killed / "stages" / "rl" / "seed1", "difficulty.jsonl") == found
    mine, theirs = weights(killed), weights(straight)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_field_chooses_and_the_reward_need_not_ask_for_it(tmp_path):
    run, _ = run_of(tmp_path, "field", {"field": "rate", "at_most": 0.3})
    assert "difficulty, by rate: 4 of 8 problems at most 0.3 (4 above)" in notes(run_config(run))


def test_nothing_left_says_what_was_seen(tmp_path):
    run, _ = run_of(tmp_path, "none", {"field": "rate", "at_least": 0.9})
    with pytest.raises(DataError, match=r"none of 8 problems has a rate at least 0\.9") as caught:
        run_config(run)
    assert "by rate: 8 below; lowest 0, median 0.35, highest 0.7" in str(caught.value)


def test_too_few_for_a_batch_are_refused(tmp_path):
    run, _ = run_of(tmp_path, "few", {"field": "rate", "at_least": 0.7})
    with pytest.raises(DataError, match="1 problems") as caught:
        run_config(run)
    assert "2 are sampled at once" in str(caught.value) and "widen the bounds" in str(caught.value)


def test_what_is_no_number_is_refused(tmp_path):
    run, _ = run_of(tmp_path, "text", {"field": "question", "at_least": 0.9})
    with pytest.raises(DataError, match=r"difficulty.field 'question' is '\d\+1'"):
        run_config(run)


def test_what_a_problem_gets_does_not_depend_on_what_was_measured_before(tmp_path, monkeypatch):
    """Rows of another file are not taken for those of this one."""
    file = tmp_path / "difficulty.jsonl"
    there = [{"question": f"{n}", "rollouts": 4, "rate": 0.5, "spent": {}} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in there))
    same = [{"question": f"{n}"} for n in range(6)]
    read = difficulty._measured_before
    assert read(file, same, 4, 4) == there, "all of it is whole"
    changed = [*same[:5], {"question": "other"}]
    assert read(file, changed, 4, 4) == there[:4], "a part is measured as a whole"
    assert Counter(row["question"] for row in rows(tmp_path, "difficulty.jsonl")) == {f"{n}": 1 for n in range(4)}
    assert read(file, same, 8, 4) == []
