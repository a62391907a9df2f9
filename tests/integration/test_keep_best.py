"""A stage hands on the model of its best evaluation, also after a kill; and stops where nothing gets better."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ixt_rl.config.load import load_run
from ixt_rl.errors import ConfigError
from ixt_rl.report.run_folder import read_run, unfinished
from ixt_rl.run import run_config
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import CONTINUATIONS
from tests.integration.run_helpers import config, online, rows, sip, weights
from tests.integration.test_document_stages import on_chain

KEEP = {"metric": "scripted", "mode": "max"}


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


@pytest.fixture
def script(monkeypatch):
    """A function that gives evaluations values by step, for the metric `scripted`; returns the weights measured."""
    real = StageCallback._evaluate

    def play(values: dict[int, float | None], kill_after: int | None = None) -> dict[int, dict[str, torch.Tensor]]:
        seen: dict[int, dict[str, torch.Tensor]] = {}

        def evaluated(self, state, keep_samples):
            step, measure, best = state.global_step, self.evaluate, self.best
            assert measure is not None and best is not None

            def with_value():
                metrics, samples = measure()
                return {**metrics, "scripted": values[step]}, samples

            with best.averaged():
                seen[step] = {name: value.clone() for name, value in best.trainer.model.state_dict().items()}
            self.evaluate = with_value
            try:
                real(self, state, keep_samples)
            finally:
                self.evaluate = measure
            if step == kill_after:
                raise Killed

        monkeypatch.setattr(StageCallback, "_evaluate", evaluated)
        return seen

    return play


REWARD = "import zlib\ndef f(completions, **kwargs):\n    return [zlib.crc32(c.encode()) % 5 for c in completions]\n"


@pytest.fixture(scope="module")
def reward(tmp_path_factory) -> str:
    """Of any text, so that an untrained model learns in every update."""
    path = tmp_path_factory.mktemp("reward") / "reward.py"
    path.write_text(REWARD)
    return f"{path}:f"


@pytest.fixture
def rl(reward):
    return partial(_rl, [{"type": "python", "path": reward}])


def _rl(rewards: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    settings = {"init": "model", "type": "grpo", "rollouts_per_step": 8, "keep_best": KEEP, "rewards": rewards}
    return online("rl", **settings | {"evaluation": {"every": 1, "problems": 2}} | changes)


def result(folder: Path, stage: str = "rl") -> dict[str, Any]:
    return json.loads((folder / "stages" / stage / "seed1" / "result.json").read_text())


def evaluated_at(folder: Path) -> list[int]:
    return [row["step"] for row in rows(folder) if row["phase"] == "eval"]


def same(folder: Path, seen: dict[str, torch.Tensor]) -> bool:
    found = weights(folder)
    return all(torch.equal(value, seen[name]) for name, value in found.items())


def test_the_best_evaluation_decides_what_is_handed_on(tmp_path, script, rl):
    seen = script({0: 0.1, 1: 0.2, 2: 0.6, 3: None, 4: 0.4})
    folder = run_config(config(tmp_path, [rl()]))
    assert same(folder, seen[2])
    assert not same(folder, seen[4])
    assert result(folder)["best"] == {"metric": "scripted", "step": 2, "value": 0.6, "updates": 4}
    assert "handed on: the model of step 2, scripted 0.6" in result(folder)["notes"]
    summary = json.loads((folder / "summary.json").read_text())["stages"][0]
    assert summary["mean"]["scripted"] == 0.6
    assert sorted({row["step"] for row in rows(folder, "samples.jsonl")}) == [0, 2]
    assert not (folder / "stages" / "rl" / "seed1" / "best").exists()


@pytest.mark.parametrize("best", [1, 3])
def test_a_killed_stage_hands_on_what_the_straight_one_does(best, tmp_path, script, rl):
    values = {step: 0.5 if step == best else 0.1 for step in range(5)}
    seen = script(values)
    straight = run_config(config(tmp_path, [rl()], name="straight"))
    run = config(tmp_path, [rl(checkpoint_every=2)], name="killed")
    script(values, kill_after=3)
    with pytest.raises(Killed):
        run_config(run)
    script(values)
    folder = run_config(run)
    assert same(folder, seen[best])
    assert same(straight, seen[best])
    assert evaluated_at(folder) == [0, 1, 2, 3, 4]
    assert result(folder)["best"] == result(straight)["best"]


def test_only_what_a_checkpoint_needs_stays_beside_the_best(tmp_path, script, rl):
    script({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5}, kill_after=3)
    with pytest.raises(Killed):
        run_config(config(tmp_path, [rl(checkpoint_every=2)]))
    kept = tmp_path / "runs" / "run" / "stages" / "rl" / "seed1" / "best"
    assert sorted(path.name for path in kept.iterdir()) == ["checkpoint-2", "checkpoint-3"]


def test_patience_ends_a_stage(tmp_path, script, rl):
    values = {0: 0.1, 1: 0.6, 2: 0.6, 3: 0.5}
    early = {"steps": 9, "early_stopping": {"patience": 2}}
    seen = script(values)
    folder = run_config(config(tmp_path, [rl(**early)]))
    assert evaluated_at(folder) == [0, 1, 2, 3]
    assert same(folder, seen[1])
    assert result(folder)["notes"][-1] == "stopped at step 3 of 9: 2 evaluations in a row no better"
    assert rows(folder)[-1]["step"] == 3
    run = read_run(folder)
    assert [unfinished(run, stage) for stage in run.stages] == [""]


def test_a_stage_killed_after_its_patience_has_ended_only_writes_its_model(tmp_path, script, monkeypatch, rl):
    values = {0: 0.1, 1: 0.6, 2: 0.6, 3: 0.5}
    run = config(tmp_path, [rl(steps=9, early_stopping={"patience": 2}, checkpoint_every=3)])
    seen = script(values)

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("ixt_rl.run.stages.online.save_model", killed)
        run_config(run)
    weights_of_best = seen[1]
    again = script({})  # an evaluation would fail
    folder = run_config(run)
    assert again == {}
    assert same(folder, weights_of_best)
    assert result(folder)["best"]["step"] == 1


def test_adapters_of_the_best_evaluation_are_merged(tmp_path, script, rl):
    pytest.importorskip("peft")
    seen = script({0: 0.1, 1: 0.6, 2: 0.5})
    found = weights(run_config(config(tmp_path, [rl(steps=2, lora={"r": 2, "alpha": 4})])))
    a_s = [name for name in seen[1] if name.endswith("lora_A.default.weight")]
    assert a_s
    for name in a_s:
        layer = name.removesuffix(".lora_A.default.weight")
        merged = {
            step: of[f"{layer}.base_layer.weight"] + 2 * of[f"{layer}.lora_B.default.weight"] @ of[name]
            for step, of in seen.items()
        }
        written = found[layer.removeprefix("base_model.model.") + ".weight"]
        assert torch.allclose(written, merged[1], rtol=0, atol=1e-7)
        assert not torch.allclose(written, merged[2], rtol=0, atol=1e-7)


def test_documents_hand_on_the_averaged_weights_that_were_measured(tmp_path, script):
    stage = on_chain("docs", ema=0.5, keep_best=KEEP)
    stage["evaluation"] = {"every": 1, "problems": 4, "curve_problems": 2, "max_new_tokens": 4, "temperatures": [0.0]}
    seen = script({1: 0.1, 2: 0.7, 3: 0.2, 4: 0.3})
    folder = run_config(config(tmp_path, [stage]))
    assert same(folder, seen[2])
    assert result(folder, "docs")["best"]["step"] == 2


def test_sip_keeps_the_continuations_of_the_best(tmp_path, script):
    stage = {key: value for key, value in sip("s", objective="nll", keep_best=KEEP).items()
             if key not in ("sources", "group_size", "rewriter", "judge")}  # fmt: skip
    seen = script({0: 0.1, 2: 0.7, 4: 0.2})
    folder = run_config(config(tmp_path, [stage], name="kept"))
    assert same(folder, seen[2])
    kept = rows(folder / "stages" / "s" / "seed1", CONTINUATIONS)
    script({0: 0.1, 2: 0.7, 4: 0.8})
    last = rows(run_config(config(tmp_path, [stage], name="last")) / "stages" / "s" / "seed1", CONTINUATIONS)
    assert len(kept) == len(last) == 2 * 6
    assert kept != last


def test_a_metric_that_is_not_measured_is_refused_before_the_first_update(tmp_path, rl):
    run = config(tmp_path, [rl(keep_best={"metric": "greedy/cheked", "mode": "max"})])
    with pytest.raises(ConfigError, match="did you mean `greedy/checked`"):
        run_config(run)
    assert all(row["phase"] == "eval" for row in rows(tmp_path / "runs" / "run"))
    assert load_run(tmp_path / "run.yaml") == run
