"""Whole runs: files written, stages reused, a stopped stage goes on exactly, failures are reported."""

from __future__ import annotations

import html
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from ixt_rl.errors import ConfigError, PreconditionError, RewardError
from ixt_rl.run import run_config
from ixt_rl.run.stages import online as stages
from tests.integration.run_helpers import base, config, gap, online, rows, weights


def test_every_stage_type_runs_and_the_folder_is_complete(tmp_path):
    run = config(
        tmp_path,
        [
            *(base(), gap(posterior={"problems": 2, "samples": 8})),
            *(online("intro"), online("grpo", type="grpo"), online("raft", type="raft")),
        ],
        seeds=[1, 2],
        expect=[{"metric": "sampled/length", "stage": "intro", "at_least": 0, "at_most": 34}],
    )
    folder = run_config(run)
    for name in ("config.yaml", "metrics.jsonl", "samples.jsonl", "summary.json", "report.html"):
        assert (folder / name).stat().st_size > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert [s["name"] for s in summary["stages"]] == ["base", "gap", "intro", "grpo", "raft"]
    assert set(summary["stages"][2]["seeds"]) == {"1", "2"}
    assert summary["expectations"][0]["holds"] is True
    told = summary["stages"][1]
    modes = ["sampled", "told", "told_form", "told_random", "told_wrong"]
    assert [one["mode"] for one in told["told"]["0"]] == modes and {f"{mode}/length" for mode in modes} <= {
        *told["mean"]
    }
    assert told["posterior"]["0"]["questions"] == 2 and "posterior/undecided" in told["mean"]
    assert "another problem's answer" in html.unescape((folder / "report.html").read_text())
    evals = [r for r in rows(folder) if r["stage"] == "intro" and r["phase"] == "eval" and r["seed"] == 1]
    assert [r["step"] for r in evals] == [0, 2, 4]
    assert [r["rollouts"] for r in evals] == [0, 32, 64]
    assert evals[0]["flops"] == 0 < evals[1]["flops"] < evals[2]["flops"]
    losses = [r for r in rows(folder) if r["stage"] == "base"]
    assert [r["step"] for r in losses] == [1, 5, 10, 15, 20]
    assert losses[-1]["flops"] > losses[0]["flops"] > 0
    trained = [r for r in rows(folder) if r["stage"] == "intro" and r["phase"] == "train"][-1]
    for metric in ("rollout/kept", "factor/kl", "entropy", "factor/taken", "factor/clipped", "rollout/strict"):
        assert metric in trained
    AutoModelForCausalLM.from_pretrained(folder / "model")  # an ordinary Hugging Face folder

    # a second run finds everything done: same files, nothing trained
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors") if "initial" not in p.parts}
    run_config(run)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_another_run_shares_the_pretrained_base_and_other_steps_do_not(tmp_path):
    run_config(config(tmp_path, [base(5)], name="one"))
    run_config(config(tmp_path, [base(5)], name="two"))
    assert len(list((tmp_path / "runs" / ".cache").iterdir())) == 1
    run_config(config(tmp_path, [base(6)], name="three"))
    assert len(list((tmp_path / "runs" / ".cache").iterdir())) == 2


class StopAt(TrainerCallback):
    """Breaks the run like a kill would, after the checkpoint of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step == state.max_steps:
            raise KeyboardInterrupt


LONG = pytest.mark.long("tests/integration/test_run.py::test_a_stopped_stage_goes_on_to_the_same_weights")


@pytest.mark.parametrize(
    ("method", "stop"),
    [
        *(("intro", 2), ("grpo", 3), ("window", 2), ("intro", 4)),  # 4: before the model is saved
        *(pytest.param(*cell, marks=LONG) for cell in (("intro", 3), ("raft", 2), ("raft", 3), ("grpo", 2))),
    ],
)
def test_a_stopped_stage_goes_on_to_the_same_weights(tmp_path, monkeypatch, method, stop):
    keep = {"keep_reward": -0.3}
    length = [{"type": "length", "soft": 5, "hard": 34}]  # varied rewards, some kept
    changes = {"rewards": length, "intro": keep, "raft": keep, "micro_batch_size": 8}
    if method == "window":  # one generation for all updates, each rollout trained on twice
        method = "intro"
        changes |= {"steps_per_generation": 3, "num_iterations": 2, "intro": {**keep, "importance_ratio": True}}
    stage = online("train", type=method, checkpoint_every=1, **changes)
    straight = run_config(config(tmp_path, [base(), stage], name="straight"))

    train = stages.train

    def interrupted(trainer, callback, folder):
        if folder.stage == "train":
            trainer.add_callback(StopAt(stop))
        train(trainer, callback, folder)

    stopped = config(tmp_path, [base(), stage], name="stopped")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "train", interrupted)
        run_config(stopped)
    report = json.loads((tmp_path / "runs" / "stopped" / "summary.json").read_text())
    assert report["status"] == "stopped"
    folder = run_config(stopped)
    kept = [row["rollout/kept"] for row in rows(folder) if row.get("rollout/kept") is not None]
    assert method == "grpo" or max(kept) > 0
    resumed, expected = weights(folder), weights(straight)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    (cached,) = (tmp_path / "runs" / ".cache").iterdir()
    assert any(not torch.equal(weights(cached)[name], expected[name]) for name in expected)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "step_time", "rss_gib")} for row in rows(f)]
        for f in (folder, straight)
    ]
    assert timeless[0] == timeless[1]


def test_a_told_gap_that_is_missing_stops_the_run_and_says_so(tmp_path):
    with pytest.raises(PreconditionError, match=r"gap -?0\.\d+ < min_told_gap=0\.5"):
        run_config(config(tmp_path, [base(2), gap(min_told_gap=0.5), online("intro")]))
    folder = tmp_path / "runs" / "run"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert "min_told_gap" in summary["reason"]
    assert not (folder / "stages" / "intro").exists()
    assert "min_told_gap" in (folder / "report.html").read_text()


def test_a_throwing_reward_costs_samples_and_beyond_its_budget_the_run(tmp_path):
    reward = tmp_path / "reward.py"
    reward.write_text(
        "def odd(prompts, completions, completion_ids, **kwargs):\n"
        "    if len(completions) == 1 and len(completion_ids[0]) % 2 == 0:\n"
        "        raise RuntimeError('even length')\n"
        "    if any(len(ids) % 2 == 0 for ids in completion_ids):\n"
        "        raise RuntimeError('even length')\n"
        "    return [1.0] * len(completions)\n"
    )
    stage = online("intro", rewards=[{"type": "python", "path": f"{reward}:odd"}], steps=1)
    lenient = run_config(config(tmp_path, [base(5), {**stage, "reward_errors": {"max_share": 1.0}}]))
    failures = rows(lenient / "stages" / "intro" / "seed1", "reward_failures.jsonl")
    assert failures
    assert all("even length" in json.dumps(f) for f in failures)
    (summary,) = [s for s in json.loads((lenient / "summary.json").read_text())["stages"] if s["name"] == "intro"]
    assert summary["reward_errors"] == len(failures)
    assert "even length" in summary["notes"][0]
    trained = [r for r in rows(lenient) if r["stage"] == "intro" and r["phase"] == "train"][-1]
    assert trained["rollout/undecided"] == pytest.approx(len(failures) / 16)
    assert trained["rollout/kept"] == pytest.approx(1 - len(failures) / 16)

    with pytest.raises(RewardError, match="even length"):
        run_config(config(tmp_path, [base(5), {**stage, "reward_errors": {"max_total": 0}}], name="strict"))


@pytest.mark.parametrize("data_suffix", ["jsonl", "parquet"])
def test_file_data_with_math_rewards(tmp_path, data_suffix):
    from datasets import Dataset

    problems = [{"q": f"{i} + {i}?", "a": f"It is\n#### {2 * i}", "level": i % 2} for i in range(40)]
    path = tmp_path / f"data.{data_suffix}"
    dataset = Dataset.from_list(problems)
    dataset.to_json(path) if data_suffix == "jsonl" else dataset.to_parquet(path)
    data = {
        "path": str(path), "question": "q", "answer": "a", "answer_extract": "hashes", "where": {"level": [1]},
        "eval_rows": 4,
    }  # fmt: skip
    stage = online(
        "train", init=None, data=data, rewards=[{"type": "math"}], steps=2, micro_batch_size=8,
        sampling={"max_new_tokens": 8, "max_prompt_tokens": 128}, evaluation={"every": 2, "problems": 4},
    )  # fmt: skip
    model = {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}}
    untrained = {"name": "base", "type": "evaluate", "data": data, "sampling": {"max_new_tokens": 8}, "problems": 4}
    folder = run_config(config(tmp_path, [untrained, stage], model=model))
    measured, summary = json.loads((folder / "summary.json").read_text())["stages"]
    assert summary["prompt_lengths"]["count"] == 16
    assert "sampled/checked" in summary["mean"]
    assert {"told/checked_lower", "told/undecided"} <= measured["mean"].keys()


def test_another_number_of_ranks_than_the_launchers_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="started 2 times"):
        run_config(config(tmp_path, [base(2)], launch={"ranks": 4}))
    assert not (tmp_path / "runs").exists()
