"""summary.json: totals, expectations and claims, from the rows of a run's stages."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ixt_rl.config.schema import RunConfig
from ixt_rl.report.arms import named_efficiency
from ixt_rl.report.run_folder import read_run
from ixt_rl.run.folder import RunFolder, StageFolder
from ixt_rl.run.summary import summarise
from tests.unit.report.document_maker import STEPS, DocumentRun

SEEDS = [0, 1, 2]


def config(expect: list[dict], claims: list[dict]) -> RunConfig:
    shared = {"data": {"world": "chain"}, "init": "model", "steps": STEPS, "optim": {"lr": 2e-3}}
    shared["evaluation"] = {"problems": 600, "curve_problems": 200}
    stages = [
        {"name": "plain", "type": "pretrain", **shared},
        {"name": "levels", "type": "ixt", "feedback": {"template": "levels"}, **shared},
    ]
    model = {"new": {"architecture": "qwen3"}}
    return RunConfig.model_validate(
        {"name": "made", "seeds": SEEDS, "model": model, "stages": stages, "expect": expect, "claims": claims}
    )


@pytest.fixture
def made(tmp_path):
    """(the synthetic run, a RunFolder whose stages hold its rows)."""
    source = DocumentRun(tmp_path / "source")(arms=("plain", "levels"))
    folder = RunFolder(tmp_path, "run")
    rows = [json.loads(line) for line in (source / "metrics.jsonl").read_text().splitlines()]
    for name, kind in (("plain", "pretrain"), ("levels", "ixt")):
        for seed in SEEDS:
            stage = StageFolder(folder.path / "stages" / name / f"seed{seed}", name, kind, seed, "")
            stage.path.mkdir(parents=True)
            own = [row for row in rows if (row["stage"], row["seed"]) == (name, seed)]
            (stage.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
            (stage.path / "done.json").write_text("{}")
            folder.stages.append(stage)
    return read_run(source), folder


def test_claims_are_checked_like_expectations_and_say_what_they_are(made):
    run, folder = made
    bound = {"metric": "sampled/strict", "stage": "levels", "minus": "plain", "at_least": 0.9}
    summary = summarise(config([bound], [{**bound, "says": "a lead of 0.9"}]), folder, None, 1.0)
    (expected,), (claimed,) = summary["expectations"], summary["claims"]
    assert claimed == {**expected, "says": "a lead of 0.9"}
    means = [fmean_of(run, name) for name in ("levels", "plain")]
    assert expected["value"] == pytest.approx(means[0] - means[1]) and expected["holds"] is False
    assert json.loads((folder.path / "summary.json").read_text())["claims"] == summary["claims"]


def test_of_a_stage_that_has_not_ended_nothing_is_decided(made):
    _, folder = made
    (folder.stages[-1].path / "done.json").unlink()
    value = {"metric": "sampled/strict", "stage": "levels", "at_least": 0.0}
    difference = {"metric": "sampled/strict", "stage": "plain", "minus": "levels", "at_least": 0.0}
    at_once = {**value, "at_step": STEPS}
    found = summarise(config([value, difference, at_once], []), folder, "stopped", 1.0)["expectations"]
    assert [(one["holds"], one["note"]) for one in found] == [*[(None, "levels has not ended")] * 2, (True, "")]


def test_an_expectation_of_a_ratio(made):
    run, folder = made
    bound = {"metric": "sampled/strict", "stage": "levels", "over": "plain", "at_least": 1.0}
    (found,) = summarise(config([bound], []), folder, None, 1.0)["expectations"]
    assert found["value"] == pytest.approx(fmean_of(run, "levels") / fmean_of(run, "plain"))
    assert found["text"] == "levels: sampled/strict, over plain" and found["holds"] is True
    with pytest.raises(ValidationError, match="a difference or a ratio"):
        config([{**bound, "minus": "plain"}], [])


def fmean_of(run, name: str) -> float:
    stage = next(stage for stage in run.stages if stage.name == name)
    return stage.summary["mean"]["sampled/strict"]


def test_efficiency_is_a_metric_of_expectations(made):
    run, folder = made
    metrics = ["efficiency@0.3/sampled/strict", "efficiency-without-annotation@0.3/sampled/strict"]
    expect = [{"metric": metric, "stage": "levels", "at_least": 1.1} for metric in metrics]
    expect.append({"metric": "efficiency@0.9/sampled/strict", "stage": "levels", "at_least": 1.0})
    expect.append({"metric": "efficiency@0.35/greedy/strict", "stage": "levels", "at_most": 10.0})
    *found, never, _ = summarise(config(expect, []), folder, None, 1.0)["expectations"]
    for item, metric in zip(found, metrics, strict=True):
        assert item["value"] == pytest.approx(named_efficiency(run, metric, "levels").ratio)
        assert item["holds"] is True and item["note"] == ""
    assert (never["value"], never["holds"], never["note"]) == (None, None, "plain never reaches it")


def test_a_fragile_ratio_is_checked_and_named(made):
    _, folder = made
    expect = [{"metric": "efficiency@0.4/greedy/strict", "stage": "levels", "at_least": 0.5}]
    (item,) = summarise(config(expect, []), folder, None, 1.0)["expectations"]
    assert item["holds"] is True and item["note"] == "fragile: at the maximum of plain"


def test_what_only_grows_is_the_last_and_not_a_mean(made):
    _, folder = made
    stage = summarise(config([], []), folder, None, 1.0)["stages"][1]
    assert stage["mean"]["tokens"] == STEPS * 1000 and stage["spread"]["tokens"] == 0
    assert stage["mean"]["flops"] == stage["mean"]["flops/train"] + stage["mean"]["flops/annotate"]
    assert stage["view"] == "full" and stage["type"] == "ixt"
