"""Evaluation of a file asks the reward that decides what is right, wherever it stands in the list."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.errors import RewardError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.run.stages.online import nothing_learnt
from ixt_rl.run.stages.rewards import judge_of, measuring
from tests.unit.config.broken import GOOD

STYLE, MATH, LENGTH = "{type: python, path: 'r.py:style'}", "{type: math}", "{type: length, soft: 1, hard: 2}"


def stage_of(tmp_path, monkeypatch, method, rewards, changes=()) -> OnlineStage:
    monkeypatch.chdir(tmp_path)
    Path("r.py").write_text("def style(**kwargs): ...\n")
    Path("rows.jsonl").write_text('{"question": "q", "answer": "1"}\n')
    file = tmp_path / "run.yaml"
    file.write_text(GOOD)
    basics = [f"stages.rl.type={method}", f"stages.rl.rewards=[{', '.join(rewards)}]", "model.new.tokenizer=bytes"]
    basics += ["stages.rl.data={path: rows.jsonl}", "stages.rl.intro={}"]
    stage = load_run(file, [*basics, *changes]).stages[1]
    assert isinstance(stage, OnlineStage)
    return stage


@pytest.mark.parametrize(
    ("method", "rewards", "keep", "asked"),
    [
        ("intro", [STYLE, MATH], None, 1),
        ("grpo", [STYLE, MATH], None, 1),
        ("raft", [LENGTH, MATH, STYLE], "style", 2),
        ("raft", [MATH, LENGTH], "null", 0),
        ("grpo", [LENGTH], None, None),
    ],
)
def test_the_verifier_measures(tmp_path, monkeypatch, method, rewards, keep, asked):
    changes = [f"stages.rl.{method}.keep={keep}"] if keep else []
    stage = stage_of(tmp_path, monkeypatch, method, rewards, changes)
    functions = [lambda **kwargs: None for _ in rewards]
    assert judge_of(stage, functions) is (None if asked is None else functions[asked])


def test_what_fails_while_evaluating_is_undecided_saved_and_limited(tmp_path, monkeypatch):
    stage = stage_of(
        tmp_path, monkeypatch, "intro", [STYLE], ["stages.rl.reward_errors={max_total: 2, deadline_s: 0.2}"]
    )

    def slow(prompts, completions, **kwargs):
        time.sleep(0 if completions == ["right"] else 60)
        return [1.0]

    judge = measuring(stage, [slow], tmp_path / "failures.jsonl")
    assert [judge(["p"], [text])[0] for text in ("right", "slow", "slow")] == [1.0, None, None]
    (row, _) = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert (row["reward"], row["exception"]) == ("python_reward, in evaluation", "TimeoutError")
    with pytest.raises(RewardError, match="3 of 4"):
        judge(["p"], ["slow"])


def test_sources_have_names_that_differ():
    from ixt_rl.blocks.documents import FileCorpusBlock
    from ixt_rl.blocks.rows import source_names

    paths = ["a/web-1.5.jsonl.gz", "b/web-1.5.parquet", "corpus/*.jsonl", "./annotated", "owner/data-v2.1", "x/c.txt"]
    data = FileCorpusBlock.model_validate({"sources": [{"path": path} for path in paths]})
    assert source_names(data.sources) == ["web-1.5", "web-1.5-2", "corpus", "annotated", "data-v2.1", "c.txt"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"rollout/kept": 0.0}, {"rollout/kept": 0.0, "frac_reward_zero_std": 1.0}], "no rationale was kept"),
        ([{"rollout/kept": 0.0}, {"rollout/kept": 0.25}], None),
        ([{"frac_reward_zero_std": 1.0}, {"frac_reward_zero_std": 1.0}], "nothing to compare"),
        ([{"frac_reward_zero_std": 1.0}, {"frac_reward_zero_std": 0.5}], None),
        (
            [{"rollout/trained": 0.0, "rollout/undecided": 1.0, "frac_reward_zero_std": 0.0}],
            "undecided in every update",
        ),
        ([{"rollout/undecided": 1.0, "frac_reward_zero_std": 0.0}], "undecided in every update"),
        ([{"rollout/trained": 0.0, "rollout/undecided": 0.5, "frac_reward_zero_std": 0.0}], "nothing to compare"),
        # with rewards of the method's own, or all rationales trained, the stage's rewards may well be equal
        ([{"rollout/trained": 1.0, "rollout/undecided": 0.0, "frac_reward_zero_std": 1.0}], None),
        ([{"rollout/kept": 1.0, "rollout/undecided": 1.0, "frac_reward_zero_std": 1.0}], None),
        ([{"rollout/kept": 0.0, "rollout/trained": 0.5}], None),
        ([{"rollout/undecided": 1.0}], None),
        ([{"self_distillation/reprompt_sample_fraction": 0.0}] * 2, "the teacher saw nothing"),
        ([{"self_distillation/reprompt_sample_fraction": share} for share in (0.0, 0.25)], None),
        ([{"loss": 1.0}], None),
    ],
)
def test_a_training_that_had_nothing_to_learn_from_says_so(rows, says):
    notes = nothing_learnt([{"phase": "train", **row} for row in rows] + [{"phase": "eval", "rollout/kept": 1.0}])
    assert [says in note for note in notes] == ([True] if says else [])
