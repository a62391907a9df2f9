"""Thinking mid-training end to end: the shipped pipeline in miniature, and prefixes of files with a judge."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ixt_rl.blocks.data import PrefixDataBlock
from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.report.results import results
from ixt_rl.report.run_folder import read_run
from ixt_rl.report.table import summary_table
from ixt_rl.run import run_config
from tests.integration.run_helpers import config, rows, weights

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "configs" / "sip" / "thinking.yaml"
DOCUMENT_STAGES, ONLINE_STAGES = (
    ("base", "thought-sft", "plain-more"),
    ("thought-rl", "rlvr", "plain-more-rlvr", "thought-sft-rlvr", "thinking-rlvr"),
)


def small(tmp_path: Path) -> list[str]:
    """The shipped pipeline with a model and steps of a test."""
    overrides = [f"output_dir={tmp_path / 'runs'}", "model.new.hidden_size=32", "model.new.intermediate_size=64"]
    for name in DOCUMENT_STAGES:
        overrides += [f"stages.{name}.data.documents=300", f"stages.{name}.steps=4"]
        overrides += [f"stages.{name}.evaluation.every=2", f"stages.{name}.evaluation.problems=6"]
        overrides += [f"stages.{name}.evaluation.curve_problems=6"]
    for name in ONLINE_STAGES:
        overrides += [f"stages.{name}.steps=2", f"stages.{name}.rollouts_per_step=8", f"stages.{name}.group_size=4"]
        overrides += [f"stages.{name}.evaluation.every=2", f"stages.{name}.evaluation.problems=6"]
        overrides += [f"stages.{name}.micro_batch_size=null"]
    return overrides


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    return run_config(load_run(SHIPPED, small(tmp_path_factory.mktemp("thinking"))))


def test_every_arm_of_the_pipeline_is_trained_from_the_model_it_names(shipped):
    summary = json.loads((shipped / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert {stage["name"] for stage in summary["stages"]} == {*DOCUMENT_STAGES, *ONLINE_STAGES}
    evaluations = {
        name: [row for row in rows(shipped) if row["stage"] == name and row["phase"] == "eval"]
        for name in (*DOCUMENT_STAGES, *ONLINE_STAGES)
    }
    for arm, before in (("rlvr", "base"), ("plain-more-rlvr", "plain-more"), ("thought-sft-rlvr", "thought-sft")):
        start, end = evaluations[arm][0], evaluations[before][-1]
        assert start["step"] == 0
        for metric in ("greedy/checked", "greedy/length", "sampled/length"):
            assert start[metric] == end[metric], (arm, metric)
    # a rollout so short has no reward, and RL changes nothing: the arms end as they began
    ends = {
        name: weights(shipped / "stages" / name / "seed1") for name in ("thinking-rlvr", "thought-sft-rlvr", "rlvr")
    }
    for name in ("thinking-rlvr", "thought-sft-rlvr"):
        assert any((ends[name][key] != ends["rlvr"][key]).any() for key in ends["rlvr"])


def test_the_report_shows_accuracy_after_rl_with_and_without_mid_training(shipped):
    page = (shipped / "report.html").read_text(encoding="utf-8")
    assert "0.12 without thinking mid-training and 0.38 with it" in page  # the paper's claim, beside what was measured
    assert "thinking-rlvr: sampled/checked, minus rlvr" in page
    groups = {group.view: group for group in results(read_run(shipped))}
    accuracy = {row.name: row.cells["sampled/checked"].value for row in groups["problems"].rows}
    assert accuracy.keys() == {*DOCUMENT_STAGES, *ONLINE_STAGES} - {"thought-rl"}
    assert None not in accuracy.values()
    assert [row.label for row in groups["prefixes"].rows] == ["thought-sft", "GRPO"]  # before and after
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(json.loads((shipped / "summary.json").read_text())))
    text = console.export_text()
    assert "checked" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_feedback_in_a_world_without_a_judge(tmp_path):
    with pytest.raises(InvalidConfig, match="no judge reads that world's documents"):
        load_run(SHIPPED, ["stages.base.data.keep_levels=[5]"])


# ------------------------------------------------------------------------------------ prefixes of files

JUDGE = '''"""A judge that is a rule."""

import io
import json
from pathlib import Path


def starts_alike(fields):
    with (Path(__file__).parent / "asked.jsonl").open("a") as file:
        file.write(json.dumps(dict(fields)) + "\\n")
    if not fields["predicted"]:
        return None
    return fields["predicted"][0] in fields["suffix"]
'''


def on_files(folder: Path, **changes):
    (folder / "judge.py").write_text(JUDGE)
    documents = folder / "documents.jsonl"
    documents.write_text("".join(json.dumps({"text": f"{i} and {i} is {2 * i}"}) + "\n" for i in range(40)))
    stage = {
        "name": "mid",
        "type": "grpo",
        "data": {"path": str(documents), "suffix_tokens": 3, "eval_rows": 4},
        "steps": 2,
        "rollouts_per_step": 8,
        "sampling": {"max_new_tokens": 24},
        "optim": {"lr": 1e-3},
        "rewards": [{"type": "judge", "judge": f"python:{folder / 'judge.py'}:starts_alike"}],
        "grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
        "evaluation": {"every": 2, "problems": 4},
        **changes,
    }
    model = {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}}
    return config(folder, [stage], model=model, self_checks={"engine": False})  # `thinks` replaces what it samples


@pytest.fixture
def thinks(monkeypatch):
    """A policy whose every rollout thinks, closes its thought, and says a digit; the last of a call never closes it."""
    from ixt_rl.models import byte_tokenizer
    from ixt_rl.rollout.transformers_engine import TransformersEngine

    tokenizer, generate = byte_tokenizer(), TransformersEngine.generate

    def written(self, prompts, sampling, n=1):
        groups = generate(self, prompts, sampling, n)
        texts = [f"<think>{i}</think>{i % 10}" for i in range(len(groups) - 1)] + ["<think>8"]
        return [
            [type(one)(one.prompt_ids, tuple(ids), (-1.0,) * len(ids), "eos", one.policy_version) for one in group]
            for group, text in zip(groups, texts, strict=True)
            for ids in [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]]
        ]

    monkeypatch.setattr(TransformersEngine, "generate", written)


def test_prefixes_of_files_are_trained_by_a_judge(tmp_path, thinks):
    folder = run_config(on_files(tmp_path))
    asked = rows(tmp_path, "asked.jsonl")
    assert set(asked[0]) == {"prefix", "predicted", "suffix"}
    assert all((one["prefix"] + one["suffix"]).split()[0] == one["prefix"].split()[0] for one in asked)
    assert len(asked) == 2 * 7 + 2 * 3 * 3  # of 8 rollouts a step, and of 4 in 3 modes at both evaluations, one is cut
    train = [row for row in rows(folder) if row["phase"] == "train"]
    alike = [one["predicted"][0] in one["suffix"] for one in asked]
    assert 0 < sum(alike) < len(alike)
    assert all(0 <= row["reward"] <= 1 for row in train)
    final = [row for row in rows(folder) if row["phase"] == "eval"][-1]
    assert final["sampled/undecided"] == 0
    assert weights(folder)


def test_undecided_is_excluded(tmp_path, thinks, monkeypatch):
    monkeypatch.setattr("tests.integration.test_thinking.JUDGE", "def starts_alike(fields):\n    return None\n")
    folder = run_config(on_files(tmp_path))
    train = [row for row in rows(folder) if row["phase"] == "train"]
    assert train[0]["rollout/undecided"] == 7 / 8  # the one without a thought is 0, not undecided
    final = [row for row in rows(folder) if row["phase"] == "eval"][-1]
    assert (final["sampled/undecided"], final["sampled/checked"]) == (0.75, 0.0)


@pytest.mark.parametrize("method", ["grpo", "rlp"])
def test_prefixes_are_trained_without_a_judge(tmp_path, thinks, method):
    """RPT: right where the suffix begins so; RLP: by how much likelier a thought makes it."""
    folder = run_config(on_files(tmp_path, type=method, rewards=[{"type": "continuation"}]))
    train = [row for row in rows(folder) if row["phase"] == "train"]
    assert all(0 <= row["rewards/continuation_reward/mean"] <= 1 for row in train)
    told = [row["self_reward"] for row in train if "self_reward" in row]
    assert len(told) == (2 if method == "rlp" else 0)
    assert all(told)
    final = [row for row in rows(folder) if row["phase"] == "eval"][-1]
    assert final["sampled/undecided"] == 0
    begun = weights(folder)["model.norm.weight"]
    assert (begun != 1).any() or method == "grpo"  # digits of a script are seldom right


def test_prefixes_need_a_judge_and_no_template(tmp_path):
    data = PrefixDataBlock.model_validate({"path": "x.jsonl", "suffix_tokens": 3})
    with pytest.raises(ConfigError, match="no judge"):
        make_task(data, None)
    with pytest.raises(ConfigError, match="template"):
        make_task(data, "math", lambda **_: [])


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        ({"judge": "python:nowhere.py:f"}, "no such file"),
        ({"judge": "world"}, "a world's own judge"),
        ({"judge": "openai:m", "rubric": "suffix-macht"}, "did you mean `suffix-match`"),
    ],
)
def test_a_judge_that_is_not_there_is_refused_before_anything_loads(tmp_path, reward, says):
    with pytest.raises(InvalidConfig, match=says):
        on_files(tmp_path, rewards=[{"type": "judge", **reward}])
