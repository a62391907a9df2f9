"""The table at the end of a run."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from ixt_rl.report.table import summary_table


def printed(summary: dict, width: int = 80) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(summary_table(summary))
    return capture.get()


@pytest.fixture
def summary(make_run) -> dict:
    folder = make_run(seeds=(1, 2, 3), views=("parity", "sum"), methods=("intro-n1", "grpo", "raft"))
    return json.loads((folder / "summary.json").read_text())


def test_rows_and_figures(summary):
    text = printed(summary)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    stage = summary["stages"][2]
    row = next(line for line in text.splitlines() if "intro-n1-pari" in line)
    spread = f"{stage['spread']['sampled/strict']:.3f}"
    assert f"{stage['mean']['sampled/strict']:.3f}±{spread[1:]}" in row
    assert f"{stage['mean']['sampled/checked']:.3f}" in row and f"{stage['mean']['told/strict']:.3f}" in row
    assert text.index("view: parity") < text.index("base") < text.index("intro-n1-pari") < text.index("view: sum")


def test_why_a_run_stopped_is_readable_where_no_stage_has_figures():
    reason = "sources['teacher'] gave text, where a candidate of one's own has ids, and the text that they decode to"
    text = printed({"name": "run", "status": "stopped", "reason": reason, "stages": []})
    assert len(text.split("Stopped: ")[1].strip().splitlines()) == 2


def test_a_trainer_of_one_s_own_is_an_arm_like_the_method_that_it_is_like(summary):
    """The terminal knows the summary alone, where nothing is resolved from the class."""
    own = next(stage for stage in summary["stages"] if stage["type"] == "intro")
    own |= {"name": "mine", "label": "mine", "type": "python", "trainer": "mine.py:Mine", "like": "intro"}
    text = printed(summary)
    assert text.index("base") < text.index("mine")
    row = next(line for line in text.splitlines() if line.strip().startswith("mine"))
    assert row.split()[-1] != "–"  # what it cost


def test_what_went_wrong_is_below_the_table(summary):
    summary["expectations"] = [
        {"text": "intro minus raft", "value": 0.05, "bound": ">= 0.12", "holds": False},
        {"text": "early lead", "value": None, "bound": ">= 0.05", "holds": None},
        {"text": "strict", "value": 0.7, "bound": ">= 0.65", "holds": True},
    ]
    text = printed(summary, width=120)
    assert "Does not hold: intro minus raft (0.05, expected >= 0.12)" in text
    assert "Could not be measured: early lead (–, expected >= 0.05)" in text
    assert "1 of 3 expectations hold." in text
    text = printed(summary | {"status": "stopped", "reason": "rewards failed [too often]"}, width=120)
    assert "Stopped: rewards failed [too often]" in text and "Does not hold: intro minus raft" in text
    assert "early lead" not in text and "1 of 3 expectations hold, 1 could not be measured yet." in text


def test_intervals_are_left_to_the_page(summary):
    for stage in summary["stages"]:
        stage["mean"] |= {"sampled/strict": 0.5, "sampled/strict_low": 0.123, "sampled/strict_high": 0.9}
        stage["spread"] = {}
    text = printed(summary)
    assert "0.500" in text and "0.123" not in text and "…" not in text


@pytest.mark.parametrize(
    "summary", [{}, {"name": "x", "status": "stopped", "reason": None, "stages": None, "expectations": None}]
)
def test_a_summary_with_nothing_in_it(summary):
    assert "model" in printed(summary)


def test_null_and_nan_are_dashes(summary):
    summary["stages"][2]["mean"]["sampled/strict"] = float("nan")
    summary["stages"][3]["mean"]["sampled/strict"] = None
    rows = {line.split()[0]: line.split() for line in printed(summary).splitlines() if line.strip()}
    assert rows["intro-n1-pari"][1] == "–" and rows["grpo-parity"][1] == "–"
    assert rows["raft-parity"][1] != "–" and rows["grpo-parity"][2] != "–"


def test_the_best_is_bold(summary):
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(summary_table(summary))
    best = max(s["mean"]["sampled/strict"] for s in summary["stages"] if s["view"] == "parity")
    assert f"\x1b[1m{best:.3f}" in capture.get()


def test_a_base_that_is_measured_in_two_ways_is_called_by_its_stages():
    stages = [
        {"name": name, "type": "evaluate", "label": name, "view": "golds.jsonl", "mean": {"sampled/checked": share}}
        for name, share in (("short", 0.25), ("long", 0.75))
    ]
    text = printed({"name": "told", "status": "finished", "stages": stages})
    assert [line.split()[0] for line in text.splitlines() if "0.250" in line or "0.750" in line] == ["short", "long"]
