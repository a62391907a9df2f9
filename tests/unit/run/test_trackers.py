"""What trackers are told: read back from the files that they write, where they are installed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from ixt_rl import backends
from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.run.trackers import OPENERS, STATE, TENSORBOARD, About, Reporting, as_markdown, reporting
from tests.integration.run_helpers import base, config

ROW = {"stage": "rl", "type": "grpo", "seed": 1, "phase": "eval", "step": 3, "greedy/checked": 0.25, "flops": 8}
SAMPLE = {"stage": "rl", "step": 3, "mode": "greedy", "prompt": "1+1=", "completion": "a | b\n\n# c", "checked": True}


def needs(name: str):
    found = backends.is_installed(name)
    return pytest.mark.skipif(not found, reason=f"needs {name}: {backends.BACKENDS[name].install_command}")


def about(folder: Path, **changes) -> About:
    folder = folder / "demo" / "stages" / "rl"
    folder.mkdir(parents=True, exist_ok=True)
    return About(**{"run": "demo", "name": "rl-seed1", "settings": {"steps": 4}, "folder": folder} | changes,
                 outputs=folder.parents[2])  # fmt: skip


def tell(name: str, of: About, *rows: dict, samples: tuple[dict, ...] = ()) -> None:
    said: list[str] = []
    with reporting([name], of, said.append) as told:
        assert told is not None
        for row in rows:
            told.metrics(row)
        told.samples(3, samples)
    assert said == []


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


@needs("tensorboard")
def test_tensorboard_has_the_rows_under_their_names(tmp_path):
    tell("tensorboard", about(tmp_path), {**ROW, "label": "text", "unmeasured": None}, samples=(SAMPLE,))
    found = events(about(tmp_path).folder / TENSORBOARD)
    assert found.Tags()["scalars"] == ["greedy/checked", "flops"]
    assert [(event.step, event.value) for event in found.Scalars("greedy/checked")] == [(3, 0.25)]
    (text,) = found.Tensors("samples/text_summary")
    assert text.step == 3
    assert text.tensor_proto.string_val[0].decode() == as_markdown([SAMPLE])


@needs("tensorboard")
def test_tensorboard_forgets_what_was_written_after_the_checkpoint(tmp_path):
    tell("tensorboard", about(tmp_path), ROW, {**ROW, "step": 5, "greedy/checked": 0.5})
    tell("tensorboard", about(tmp_path, resumed=4), {**ROW, "step": 5, "greedy/checked": 0.75})
    found = events(about(tmp_path).folder / TENSORBOARD).Scalars("greedy/checked")
    assert [(event.step, event.value) for event in found] == [(3, 0.25), (5, 0.75)]


@needs("tensorboard")
def test_rows_of_a_stage_folder_reach_its_tracker(tmp_path):
    from ixt_rl.run.folder import StageFolder

    folder = StageFolder(about(tmp_path).folder, "rl", "grpo", 1, "mark")
    with reporting(["tensorboard"], about(tmp_path), pytest.fail) as folder.reporting:
        folder.add_metrics("train", 2, 16, 1e6, 0.5, {"loss": 1.5})
        folder.add_samples(2, [{"completion": "2"}])
    found = events(folder.path / TENSORBOARD)
    (row,) = folder.metrics()
    numbers = {name: value for name, value in row.items() if name not in ("stage", "type", "seed", "phase", "step")}
    assert {name: found.Scalars(name)[0].value for name in found.Tags()["scalars"]} == pytest.approx(numbers)
    assert found.Tensors("samples/text_summary")[0].step == 2


@needs("trackio")
def test_trackio_has_the_rows_and_goes_on_with_a_resumed_stage(tmp_path, monkeypatch):
    from trackio import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setenv("TRACKIO_PROJECT", "p")
    tell("trackio", about(tmp_path), ROW, samples=(SAMPLE,))
    tell("trackio", about(tmp_path, resumed=3), {**ROW, "step": 5, "greedy/checked": 0.5})
    rows = [row for row in SQLiteStorage.get_logs("p", "demo-rl-seed1") if "greedy/checked" in row]
    assert [(row["step"], row["greedy/checked"], row["flops"]) for row in rows] == [(3, 0.25, 8), (5, 0.5, 8)]
    assert "1+1=" in json.dumps(SQLiteStorage.get_logs("p", "demo-rl-seed1"))


@needs("wandb")
def test_wandb_without_a_key_writes_beside_the_run(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    tell("wandb", about(tmp_path), ROW, samples=(SAMPLE,))
    first = json.loads((about(tmp_path).folder / STATE).read_text())["wandb"]
    tell("wandb", about(tmp_path, resumed=3), {**ROW, "step": 5})
    assert json.loads((about(tmp_path).folder / STATE).read_text())["wandb"] == first
    files = sorted((tmp_path / "demo" / "wandb").glob(f"offline-run-*/run-{first}.wandb"))
    assert files
    assert any(b"greedy/checked" in file.read_bytes() for file in files)
    (table,) = (tmp_path / "demo" / "wandb").glob("offline-run-*/files/media/table/*.json")
    found = json.loads(table.read_text())
    assert found["columns"] == ["mode", "prompt", "completion", "checked"]
    assert found["data"] == [["greedy", "1+1=", "a | b\n\n# c", "True"]]


@needs("mlflow")
@pytest.mark.slow  # its database takes half a minute to make
def test_mlflow_has_the_rows_in_a_database_beside_the_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tell("mlflow", about(tmp_path), ROW, samples=(SAMPLE,))
    tell("mlflow", about(tmp_path, resumed=3), {**ROW, "step": 5, "greedy/checked": 0.5})
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("SELECT key, step, value FROM metrics ORDER BY step, key").fetchall()
        assert database.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]
    assert rows == [("flops", 3, 8), ("greedy/checked", 3, 0.25), ("flops", 5, 8), ("greedy/checked", 5, 0.5)]
    (text,) = (tmp_path / "mlflow-artifacts").rglob("step-000003.md")
    assert text.read_text() == as_markdown([SAMPLE])


class Broken:
    def metrics(self, step, values):
        raise ConnectionError("the server is gone")

    def samples(self, step, rows):
        raise AssertionError("it failed before")

    close = samples


class Heard:
    def __init__(self):
        self.rows = []

    def metrics(self, step, values):
        self.rows.append((step, values))

    def samples(self, step, rows):
        self.rows.append((step, rows))

    def close(self):
        self.rows.append("closed")


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on():
    said, heard = [], Heard()
    told = Reporting({"wandb": Broken(), "trackio": heard}, said.append)
    told.metrics(ROW)
    told.metrics({**ROW, "step": 4})
    told.samples(4, [SAMPLE])
    told.close()
    assert said == [
        "wandb failed and is told no more of this stage, whose rows are in metrics.jsonl: "
        "ConnectionError: the server is gone"
    ]
    values = {"greedy/checked": 0.25, "flops": 8.0}
    assert heard.rows == [(3, values), (4, values), (4, [SAMPLE]), "closed"]


def test_a_tracker_that_does_not_open_is_named(tmp_path, monkeypatch):
    def refuse(about):
        raise OSError("no room")

    monkeypatch.setitem(OPENERS, "mlflow", refuse)
    said: list[str] = []
    with reporting(["mlflow"], about(tmp_path), said.append) as told:
        assert told is not None
        told.metrics(ROW)
    (text,) = said
    assert text.startswith("mlflow failed")
    assert "no room" in text


def test_without_trackers_nothing_is_written(tmp_path):
    with reporting([], about(tmp_path), pytest.fail) as told:
        assert told is None
    assert list(about(tmp_path).folder.iterdir()) == []


def test_a_missing_package_is_refused_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda name: name != "mlflow")
    with pytest.raises(InvalidConfig) as error:
        config(tmp_path, [base()], report_to=["mlflow"])
    assert "report_to.0" in str(error.value)
    assert 'pip install "mlflow>=' in str(error.value)


def test_an_unknown_tracker_is_refused_with_the_nearest(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: a\nmodel: {new: {}}\nreport_to: [tensorbord]\nstages: []\n")
    with pytest.raises(InvalidConfig, match="did you mean `tensorboard`"):
        load_run(path)
