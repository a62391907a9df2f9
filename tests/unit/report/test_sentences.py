"""What a page says of a run in sentences."""

from __future__ import annotations

import pytest

from ixt_rl.report.run_folder import RunRecord, StageRecord
from ixt_rl.report.sentences import arms, describe, uncertainty


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "on 320 rollouts (10 steps of 32)"),
        ({"num_iterations": 4, "steps_per_generation": 2}, "on 128 rollouts (10 steps of 32, each trained on 4 times)"),
        ({"dynamic_sampling": {"max_rounds": 8}}, "on at least 320 rollouts (10 steps of 32)"),
        ({"type": "star", "star": {"told": "failed"}}, "on at least 320 rollouts (10 steps of 32)"),
    ],
)
def test_rollouts_are_counted_once_however_often_they_are_trained_on(changes, said):
    config = {"type": "grpo", "steps": 10, "rollouts_per_step": 32, **changes}
    assert said in describe(run_of(config))


@pytest.mark.parametrize(
    ("data", "evaluation", "asked"),
    [
        ({"world": "addition"}, {"problems": 400}, 400),
        ({"path": "rows.jsonl", "eval_rows": 25}, {"problems": 200}, 25),
        ({"path": "rows.jsonl", "eval_rows": 500}, {"problems": 200}, 200),
        ({"sources": [{"path": "a", "eval_rows": 9}, {"path": "b", "eval_rows": 16}]}, {"problems": 200}, 25),
        ({"path": "rows.jsonl", "eval_rows": 25}, {"problems": 50, "data": {"path": "c", "eval_rows": 0}}, 50),
    ],
)
def test_no_more_problems_are_said_to_be_held_out_than_there_are(data, evaluation, asked):
    run = run_of({"type": "grpo", "data": data, "evaluation": evaluation})
    assert uncertainty(run).startswith(f"{asked} held-out problems: a share of 0.5 has a standard error of ")


@pytest.mark.parametrize(
    ("kind", "kept", "said"),
    [
        ("dpo", [], "of each pair the chosen reply over the rejected one"),
        ("sft", [], "both replies of each pair, without feedback"),
        ("sft", [5], "of each pair the chosen reply, without feedback"),
        ("sft", [1], "of each pair the rejected reply, without feedback"),
        ("sft", [1, 5], "both replies of each pair, without feedback"),
    ],
)
def test_what_an_arm_on_pairs_sees_is_said(kind, kept, said):
    config = {"data": {"pairs": {"path": "p"}} | ({"keep_levels": kept} if kept else {})}
    stage = StageRecord("arm", kind, "", "", learns_from="documents", config=config)
    assert arms(RunRecord("run", {}, "", [], [], {}, [stage], [])) == [("arm", said)]


def run_of(config) -> RunRecord:
    """A run of one online stage."""
    stage = StageRecord("rl", config["type"], "RL", "", learns_from="rollouts", role="arm", config=config)
    return RunRecord("run", {}, "", [], [], {}, [stage], [])
