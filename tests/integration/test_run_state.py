"""What happens to a run between two commands: changed files, kills, full disks, damaged state, a second process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from ixt_rl.config.load import dump_yaml, resolved
from ixt_rl.errors import ConfigError, FileError, RewardError
from ixt_rl.locks import locked
from ixt_rl.run import run_config
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.plan import plan
from ixt_rl.run.stages import online as stages
from tests.integration.run_helpers import base, config, gap, online, rows, weights
from tests.unit.test_files import SmallFiles

TIMES = re.compile(r"seconds|step_time|rss_gib")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the runs of this file lie, with the base they share."""
    place = tmp_path_factory.mktemp("state")
    run_config(config(place, [base(2)], name="base-alone"))
    return place


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    """Drawing takes most of a small run's time, and is tested elsewhere; tests named after reports keep it."""
    if "report" not in request.node.name:
        monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


@pytest.fixture
def reward(tmp_path) -> Path:
    path = tmp_path / "reward.py"
    path.write_text("VALUE = 0.0\ndef f(completions, **kwargs):\n    return [VALUE] * len(completions)\n")
    return path


def small(name: str, **changes):
    return online(name, **{"steps": 3, "rollouts_per_step": 8, "evaluation": {"every": 2, "problems": 2}, **changes})


def timeless(value):
    """A summary or a list of rows without its times."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if not TIMES.search(key)}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


class Stop(TrainerCallback):
    """Ends the run in the middle of a step, as a kill would: nothing after it is written."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def run_until(run, step: int, monkeypatch, module=stages) -> None:
    train = module.train

    def stopped(trainer, callback, folder):
        if folder.type != "pretrain":
            trainer.add_callback(Stop(step))
        train(trainer, callback, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train", stopped)
        run_config(run)


# --------------------------------------------------------------------------------- what changed


def test_a_changed_reward_file_is_trained_on_and_named(place, reward, capfd):
    spec = [{"type": "python", "path": f"{reward}:f"}]
    run = config(place, [base(2), gap(), small("rl", rewards=spec)], name="reward")
    folder = run_config(run)
    assert summary(folder)["stages"][2]["mean"]["reward"] == 0.0
    assert plan(run) == ["base: reused", "gap: reused", "rl, seed 1: reused"]
    reward.write_text(reward.read_text().replace("0.0", "1.0"))
    assert plan(run)[2] == f"rl, seed 1: done again: {reward} changed"
    capfd.readouterr()
    run_config(run)
    assert summary(folder)["stages"][2]["mean"]["reward"] == 1.0
    said = capfd.readouterr().err.replace("\n", " ")
    assert f"rl (intro), seed 1: done again from its start: {reward} changed" in said
    assert "gap (evaluate): finished before, reused" in said

    other = config(place, [base(3), gap(), small("rl", rewards=spec)], name="reward")
    assert plan(other) == [
        "base: done again: steps: 2, now 3",
        "gap: done again: it starts from the model of base",
        "rl, seed 1: done again: it starts from the model of base",
    ]


# ------------------------------------------------------------------------------ stopped, damaged


def test_a_stage_stopped_without_a_checkpoint_has_the_rows_of_an_undisturbed_one(place, monkeypatch):
    straight = run_config(config(place, [base(2), small("rl")], name="straight"))
    run = config(place, [base(2), small("rl")], name="stopped")
    folder = place / "runs" / "stopped"
    run_until(run, 2, monkeypatch)
    assert len(rows(folder)) > 1
    assert summary(folder)["status"] == "stopped"
    assert plan(run)[1] == "rl, seed 1: done again: it was stopped before its first checkpoint"
    run_config(run)
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert timeless(rows(folder, name)) == timeless(rows(straight, name))
    assert timeless(summary(folder)) | {"name": ""} == timeless(summary(straight)) | {"name": ""}
    assert same_weights(folder, straight)


def test_an_evaluation_that_was_cut_is_not_added_to_the_next(place):
    run = config(place, [base(2), gap()], name="cut-evaluation")
    folder = run_config(run)
    (folder / "stages" / "gap" / "done.json").unlink()  # killed between the rows and `done`
    run_config(run)
    assert len(rows(folder / "stages" / "gap")) == 1


@pytest.mark.parametrize("of", ["stage", "base"])
def test_a_damaged_finished_run_goes_on_with_the_same_command(of: str, place):
    run = config(place, [base(2), small("rl")], name=f"damaged-{of}")
    folder = run_config(run)
    before = timeless(rows(folder))
    kept = place / f"kept-{of}"
    shutil.copytree(folder / "model", kept / "model")
    (cached,) = [p for p in (place / "runs" / ".cache").iterdir() if len(rows(p)) == 2]
    damaged = folder / "stages" / "rl" / "seed1" if of == "stage" else cached
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (damaged / name).open("ab") as file:
            file.write(b'{"stage": "rl", "ty')
    run_config(run)
    assert timeless(rows(folder)) == before

    model = damaged / "model" / "model.safetensors"
    os.truncate(model, model.stat().st_size // 2)
    (damaged / "result.json").write_bytes(b"")
    assert "model.safetensors is cut" in "".join(plan(run))
    run_config(run)
    assert timeless(rows(folder)) == before
    assert same_weights(folder, kept)

    if of == "base":
        return
    (damaged / "metrics.jsonl").unlink()
    (damaged / "started.json").write_bytes(b"{")
    run_config(run)
    assert timeless(rows(folder)) == before


def test_a_stage_stopped_after_a_checkpoint_goes_on_to_the_same_summary_and_without_its_rows_starts_over(
    place, tmp_path, monkeypatch
):
    reward = tmp_path / "reward.py"
    reward.write_text("def f(completion_ids, **kwargs):\n    return [1.0 / (len(ids) % 3) for ids in completion_ids]\n")
    spec = {"rewards": [{"type": "python", "path": f"{reward}:f"}], "reward_errors": {"max_share": 1.0}}
    stage = small("rl", checkpoint_every=1, **spec)
    straight = run_config(config(place, [base(2), stage], name="kept"))
    assert summary(straight)["stages"][1]["reward_errors"] > 0
    for name in ("goes-on", "lost"):
        run = config(place, [base(2), stage], name=name)
        run_until(run, 2, monkeypatch)
        folder = place / "runs" / name
        if name == "lost":
            (folder / "stages" / "rl" / "seed1" / "metrics.jsonl").unlink()
        run_config(run)
        assert timeless(rows(folder)) == timeless(rows(straight))
        assert timeless(summary(folder)) | {"name": ""} == timeless(summary(straight)) | {"name": ""}
        assert same_weights(folder, straight)


# ------------------------------------------------------------------------------------- one writer


def test_a_second_process_in_a_run_folder_is_refused_and_the_report_is_not(place):
    from ixt_rl.report.build import build_report

    run = config(place, [base(2)], name="held")
    folder = run_config(run)
    before = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    with locked(folder, "running in it"):
        with pytest.raises(ConfigError, match=rf"another process is running in it: pid {os.getpid()} on ") as caught:
            run_config(run, fresh=True)
        assert "name" in caught.value.remedy
        build_report(folder)
    assert {path: path.read_bytes() for path in before} == before
    run_config(run, fresh=True)


def test_a_base_that_another_run_makes_is_waited_for_and_reused(place, capfd):
    run = config(place, [base(2)], name="waiting")
    found = RunFolder(place / "runs", "waiting").stage(run, run.stages[0], None, str(place / "runs/waiting/initial"))
    made = (found.path / "done.json").stat().st_mtime_ns
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(found.path, "making this base"):
            held.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    threading.Timer(1.0, over.set).start()
    run_config(run)
    holder.join()
    assert over.is_set()
    said = capfd.readouterr().err.replace("\n", " ")
    assert f"base (pretrain): waits for another run that makes it (pid {os.getpid()}" in said
    assert (found.path / "done.json").stat().st_mtime_ns == made


# ------------------------------------------------------------------- disks, wrong places, clocks


class Fill(TrainerCallback):
    """No file may grow beyond `size` from a step on, as where a disk fills."""

    def __init__(self, limit: SmallFiles):
        self.limit = limit

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.limit.__enter__()


@pytest.mark.parametrize(("size", "what"), [(1_500, "metrics.jsonl"), (20_000, "File too large")])
def test_a_disk_that_fills_is_one_error_after_which_the_same_run_goes_on(size: int, what: str, place, monkeypatch):
    """It fills in a row, or in the weights, which another library writes."""
    run, train, limit = config(place, [base(2), small("rl")], name=f"full-{size}"), stages.train, SmallFiles(size)

    def filling(trainer, callback, folder):
        trainer.add_callback(Fill(limit))
        train(trainer, callback, folder)

    with monkeypatch.context() as patch, pytest.raises(FileError) as caught:
        patch.setattr(stages, "train", filling)
        try:
            run_config(run)
        finally:
            limit.__exit__()
    assert what in caught.value.what
    assert "ulimit -f" in caught.value.remedy
    folder = run_config(run)
    straight = run_config(config(place, [base(2), small("rl")], name="not-full"))
    assert timeless(rows(folder)) == timeless(rows(straight))
    assert same_weights(folder, straight)


def test_a_disk_that_is_full_at_the_start_is_one_error(place):
    run = config(place, [base(2), gap()], name="full")
    with SmallFiles(400), pytest.raises(FileError, match=r"config\.yaml|lock"):
        run_config(run)
    assert summary(run_config(run))["status"] == "finished"


@pytest.mark.parametrize("taken", ["config.yaml", "summary.json", "stages", "", "lock"])
def test_what_lies_in_the_place_of_a_file_or_folder_is_named(taken: str, place):
    name = f"taken-{taken[:5]}"
    folder = place / "runs" / name
    run = config(place, [base(2), gap()], name=name)
    if taken in ("", "stages"):
        folder.parent.mkdir(exist_ok=True)
        (folder if not taken else folder / taken).parent.mkdir(exist_ok=True)
        (folder / taken if taken else folder).write_text("in the way")
    else:
        (folder / taken).mkdir(parents=True)
    with pytest.raises(FileError) as caught:
        run_config(run)
    assert (taken or name) in caught.value.what
    assert "move that" in caught.value.remedy
    assert not isinstance(caught.value.__cause__, FileError)
    place_taken = folder / taken if taken else folder
    shutil.rmtree(place_taken) if place_taken.is_dir() else place_taken.unlink()
    assert summary(run_config(run))["status"] == "finished"


def test_the_first_error_is_not_hidden_by_those_it_leads_to(place, tmp_path, capfd):
    reward = tmp_path / "reward.py"
    reward.write_text("def f(**kwargs):\n    raise RuntimeError('the first error')\n")
    spec = [{"type": "python", "path": f"{reward}:f"}]
    run = config(place, [base(2), small("rl", rewards=spec)], name="first-error")
    (place / "runs" / "first-error" / "summary.json").mkdir(parents=True)
    with pytest.raises(RewardError, match="the first error"):
        run_config(run)
    assert "summary and report could not be written" in capfd.readouterr().err


def test_a_clock_that_is_set_back_does_not_change_how_long_a_run_took(place, monkeypatch):
    real, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() - 3600.0 * next(calls))
    folder = run_config(config(place, [base(2), gap()], name="clock"))
    found = summary(folder)
    assert 0 <= found["seconds"] < 3600
    assert all(0 <= stage["seconds"] < 3600 for stage in found["stages"])
    assert all(row["seconds"] >= 0 for row in rows(folder))


# ---------------------------------------------------------------------------------------- signals


@pytest.mark.slow
def test_sigterm_leaves_summary_and_report_and_the_same_command_goes_on(place):
    number, status = signal.SIGTERM, 143
    run = config(place, [base(2), small("rl", steps=40, checkpoint_every=1)], name=f"signal-{status}")
    folder, file = place / "runs" / run.name, place / f"signal-{status}.yaml"
    file.write_text(dump_yaml(resolved(run)))
    command = [sys.executable, "-m", "ixt_rl", "run", str(file)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    with child.stderr:
        while not list(folder.rglob("checkpoints/checkpoint-*/complete.json")):
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.1)
        with pytest.raises(ConfigError, match=f"pid {child.pid} on"):
            run_config(run)
        child.send_signal(number)
        said = child.stderr.read()
        assert child.wait(120) == status
    assert f"stopped by {number.name}; the same command goes on from here" in said
    assert "Traceback" not in said
    assert summary(folder)["status"] == "stopped"
    assert number.name in summary(folder)["reason"]
    assert (folder / "report.html").is_file()
    assert rows(folder)
    assert "rl, seed 1: goes on from checkpoint-" in plan(run)[1]
