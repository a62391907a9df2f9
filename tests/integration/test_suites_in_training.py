"""Suites of benchmarks measured while a model trains: metrics, the best model by them, and what is refused before."""

from __future__ import annotations

import json

import pytest

from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.errors import ConfigError
from ixt_rl.run import run_config
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.plan import plan
from tests.integration.run_helpers import rows

NAMES = ("checked_lower", "length", "truncated", "undecided", "unextracted")


@pytest.fixture
def place(tmp_path):
    sums = [{"question": f"{n} + {n}", "answer": str(2 * n)} for n in range(4)]
    for name, found in (
        ("gsm8k", sums),
        ("svamp", [{**row, "Body": "So", "Question": "2", "Answer": 2.0} for row in sums]),
    ):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"text": f"{n} + {n} is {2 * n}"}) + "\n" for n in range(40))
    )
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    return tmp_path


def loaded(place, stage, **suites):
    block = {"names": ["gsm8k", "svamp"], "data": str(place / "data"), "limit": 3, "max_new_tokens": 6, **suites}
    value = {
        "name": "run",
        "output_dir": str(place / "runs"),
        "model": {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}},
        "stages": [{**stage, "evaluation": {**stage["evaluation"], "suites": block}}],
    }
    (place / "run.yaml").write_text(dump_yaml(value))
    return load_run(place / "run.yaml")


def online(place, **changes):
    stage = {
        "name": "rl",
        "type": "raft",
        "data": {"path": str(place / "problems.jsonl"), "eval_rows": 0},
        "steps": 2,
        "rollouts_per_step": 4,
        "group_size": 2,
        "sampling": {"max_new_tokens": 4},
        "optim": {"lr": 1e-3},
        "rewards": [{"type": "math"}],
        "evaluation": {"every": 1},
        "keep_best": {"metric": "suite/average/checked_lower", "mode": "max"},
    }
    return {**stage, **changes}


def documents(place, **changes):
    stage = {
        "name": "docs",
        "type": "pretrain",
        "data": {"sources": [{"path": str(place / "train.jsonl")}]},
        "steps": 2,
        "batch_size": 2,
        "packing": {"capacity": 64},
        "optim": {"lr": 1e-3},
        "evaluation": {"every": 1},
        "keep_best": {"metric": "suite/gsm8k/truncated", "mode": "min"},
        "early_stopping": {"patience": 1},
    }
    return {**stage, **changes}


@pytest.mark.parametrize(("stage", "steps"), [(online, [0, 1, 2]), (documents, [1, 2])])
def test_every_evaluation_measures_the_suites_and_the_best_may_be_by_them(stage, steps, place):
    folder = run_config(loaded(place, stage(place)))
    measured = [row for row in rows(folder) if row["phase"] == "eval"]
    assert [row["step"] for row in measured] == steps
    for row in measured:
        for suite in ("gsm8k", "svamp"):
            assert all(f"suite/{suite}/{name}" in row for name in NAMES)
            assert 0 < row[f"suite/{suite}/length"] <= 6
        assert row["suite/average/checked_lower"] == pytest.approx(
            (row["suite/gsm8k/checked_lower"] + row["suite/svamp/checked_lower"]) / 2
        )
    summary = json.loads((folder / "summary.json").read_text())
    assert any("suite gsm8k: 4 rows, where 1319" in note for note in summary["stages"][0]["notes"]), summary["stages"][
        0
    ]["notes"]
    samples = [row for row in rows(folder, "samples.jsonl") if row["mode"] == "suite/gsm8k"]
    assert {row["question"] for row in samples} == {"0 + 0", "1 + 1", "2 + 2"}


def test_another_file_of_a_suite_makes_another_stage_and_none_the_same_as_before(place):
    def mark(config):
        stage = config.stages[0]
        return RunFolder(place / "runs", "run").stage(config, stage, 1, "model").fingerprint

    before = mark(loaded(place, online(place)))
    assert mark(loaded(place, online(place))) == before
    (place / "data" / "gsm8k" / "test.jsonl").write_text('{"question": "1", "answer": "1"}\n')
    assert mark(loaded(place, online(place))) != before
    settings = loaded(place, online(place)).stages[0].evaluation.model_copy(update={"suites": None})
    assert "suites" not in settings.model_dump(mode="json"), "folders begun before know their stage again"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": ["gsm8q"]}, "did you mean `gsm8k`"),
        ({"preset": "papr"}, "did you mean `paper`"),
        ({"data": "nowhere"}, "no such file or folder"),
        ({"lmit": 3}, "did you mean `limit`"),
    ],
)
def test_what_is_wrong_is_said_by_check(changes, said, place):
    with pytest.raises(ConfigError, match=said):
        loaded(place, online(place), **changes)


def test_answers_that_do_not_fit_are_refused_before_training(place):
    with pytest.raises(ConfigError, match=r"evaluation.suites.max_new_tokens: 20"):
        run_config(loaded(place, online(place), max_new_tokens=2048))


def test_files_that_are_not_there_are_said_before_the_first_stage(place):
    """Not when the stage that asks them begins, and in the words of a run file."""
    config = loaded(place, online(place), names=["gsm8k", "math500"])
    for begin in (plan, run_config):
        with pytest.raises(ConfigError) as caught:
            begin(config)
        assert "stages.rl.evaluation.suites: suite math500: not in" in str(caught.value)
    config = loaded(place, online(place), data=None)
    with pytest.raises(ConfigError, match="give data: DIR, with"):
        run_config(config)
    assert not (place / "runs" / "run" / "stages").exists()
