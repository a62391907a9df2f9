"""State files of a stage: whatever of them is damaged or gone, the stage goes on or starts over clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ixt_rl.errors import DataError
from ixt_rl.files import append_rows, read_rows
from ixt_rl.run.fingerprint import initial_path
from ixt_rl.run.folder import NOT_RUN, RunFolder, StageFolder
from ixt_rl.run.plan import plan
from ixt_rl.trainers.checkpoints import seal
from tests.integration.run_helpers import config, sip

MADE = ("model/config.json", "model/model.safetensors", "ledger.json", "continuations.jsonl")


def stage(tmp_path: Path, **depends_on: object) -> StageFolder:
    found = {"settings": {"steps": 4}, **depends_on}
    return StageFolder(tmp_path / "stage", "rl", "intro", 1, json.dumps(found), found)


def finished(tmp_path: Path) -> StageFolder:
    folder = stage(tmp_path)
    folder.start()
    write_rows(folder, 4)
    for name in MADE:
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text('{"n": 1}')
    folder.write_result({"seconds": 1.0})
    folder.finish()
    assert folder.is_done()
    return folder


def stopped(tmp_path: Path, steps: int = 3) -> StageFolder:
    """A stage that was stopped after `steps` steps, with checkpoints of the first two."""
    folder = stage(tmp_path)
    folder.start()
    write_rows(folder, steps)
    for step in (1, 2):
        checkpoint = folder.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        for name in ("trainer_state.json", "optimizer.pt", "rng_state.pth"):
            (checkpoint / name).write_text("{}")
        seal(checkpoint)
    return stage(tmp_path)  # as another process finds it


def write_rows(folder: StageFolder, steps: int) -> None:
    for step in range(1, steps + 1):
        folder.add_metrics("train", step, 0, 0.0, 0.0, {})
        folder.add_samples(step, [{"text": "a"}, {"text": "b"}])


def test_weights_of_a_stage_and_its_checkpoints_are_as_readable_as_the_rest(tmp_path):
    """safetensors lets their owner alone read them."""
    folder = stage(tmp_path)
    folder.start()
    kept = tmp_path / "kept" / "checkpoint-1"
    for place in (folder.model, folder.path / "adapter", kept):
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
        save_file({"a": torch.zeros(1)}, place / "model.safetensors")
    seal(kept)
    write_rows(folder, 1)
    folder.write_result({})
    folder.finish()
    for place in (folder.model, folder.path / "adapter", kept):
        assert (place / "model.safetensors").stat().st_mode == (place / "config.json").stat().st_mode
    assert folder.is_done()


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_finished_stage_without_what_it_made_is_done_again(name: str, damage: str, tmp_path):
    folder = finished(tmp_path)
    (folder.path / name).unlink() if damage == "gone" else (folder.path / name).write_text("{")
    assert f"{name} is {damage}" in folder.why_not_done()
    folder.start()
    assert [entry.name for entry in folder.path.iterdir()] == ["started.json"]


def test_a_finished_stage_whose_model_is_another_is_refused(tmp_path):
    folder = finished(tmp_path)
    (folder.model / "config.json").write_text('{"n": 2}')
    with pytest.raises(DataError, match=r"config\.json changed after stage rl was finished") as caught:
        folder.is_done()
    assert "delete" in caught.value.remedy
    (folder.model / "config.json").write_text('{"n": 1}')
    assert folder.is_done()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0\0", b'{"fingerprint": 1}'])
@pytest.mark.parametrize("name", ["done.json", "started.json"])
def test_a_damaged_state_file_starts_the_stage_over_and_is_named(name: str, content: bytes, tmp_path):
    folder = finished(tmp_path)
    (folder.path / name).write_bytes(content)
    if name == "started.json":
        assert folder.is_done()  # done.json says all
        (folder.path / "done.json").unlink()
    why = folder.why_not_done()
    assert why
    assert name in why or content.startswith(b'{"f')
    folder.start()
    assert folder.metrics() == []
    assert folder.last_checkpoint() is None


@pytest.mark.parametrize("made", [None, [], {"model/config.json": 1}, {"model/config.json": ["x", "y"]}])
def test_a_done_file_that_does_not_say_what_was_made_is_none(made: object, tmp_path):
    folder = finished(tmp_path)
    done = json.loads((folder.path / "done.json").read_text())
    (folder.path / "done.json").write_text(json.dumps({**done, "made": made}))
    assert "does not say what was made" in folder.why_not_done()


def test_a_damaged_result_is_a_note(tmp_path):
    folder = finished(tmp_path)
    (folder.path / "result.json").write_text('{"sec')
    (note,) = folder.result()["notes"]
    assert "result.json" in note


def test_a_result_that_is_gone_is_a_note_and_no_zero_by_silence(tmp_path):
    folder = finished(tmp_path)
    assert folder.result() == {"seconds": 1.0}
    (folder.path / "result.json").unlink()
    assert folder.result() == {"notes": [f"seconds and notes are not known: {folder.path / 'result.json'} is gone"]}


def test_a_stage_that_compares_with_one_that_is_done_again_is_planned_to_be_done_again(tmp_path):
    """Both start from the run's own model: only what they compare joins them."""
    stages = [sip("first"), sip("second", evaluation={"every": 2, "prefixes": 6, "against": "first"})]
    run = config(tmp_path, stages)
    folder = RunFolder(Path(run.output_dir), run.name)
    for stage in run.stages:
        made = folder.stage(run, stage, 1, str(initial_path(run)))
        made.start()
        (made.path / "continuations.jsonl").write_text('{"n": 1}\n')
        made.finish()
    assert plan(run) == ["first, seed 1: reused", "second, seed 1: reused"]
    stages[0]["optim"] = {"lr": 5e-3}
    assert plan(config(tmp_path, stages)) == [
        "first, seed 1: done again: optim.lr: 0.001, now 0.005",
        "second, seed 1: done again: it compares with the continuations of first",
    ]


def test_a_result_is_written_whatever_ends_the_stage_and_hides_no_error(tmp_path):
    folder = stage(tmp_path)
    folder.start()
    with pytest.raises(KeyboardInterrupt), folder.recording(lambda: {"seconds": 1.0}):
        raise KeyboardInterrupt
    assert folder.result() == {"seconds": 1.0}
    (folder.path / "result.json").unlink()
    (folder.path / "result.json").mkdir()
    with pytest.raises(RuntimeError, match="the first"), folder.recording(lambda: {"seconds": 1.0}):
        raise RuntimeError("the first")
    with pytest.raises(OSError), folder.recording(lambda: {"seconds": 1.0}):
        pass


@pytest.mark.parametrize("tail", [b'{"stage": "rl", "ty', b"\0" * 40, b"\0" * 40 + b"\n"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_cut_row_of_a_finished_stage_is_taken_out(name: str, tail: bytes, tmp_path):
    folder = finished(tmp_path)
    before = read_rows(folder.path / name)
    with (folder.path / name).open("ab") as file:
        file.write(tail)
    assert folder.is_done()
    assert [name in said for said in folder.mend()] == [True]
    assert read_rows(folder.path / name) == before


def test_rows_that_are_gone_make_a_finished_stage_be_done_again(tmp_path):
    folder = finished(tmp_path)
    (folder.path / "metrics.jsonl").unlink()
    assert "metrics.jsonl" in folder.why_not_done()


def test_a_broken_row_in_the_middle_names_file_and_line(tmp_path):
    folder = finished(tmp_path)
    file = folder.path / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:9], *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        folder.is_done()


# ------------------------------------------------------------------------------- stopped, started over


def test_a_stopped_stage_goes_on_from_its_last_checkpoint_with_its_rows(tmp_path):
    folder = stopped(tmp_path)
    folder.start()
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-2"
    assert len(folder.metrics()) == 3
    failures = [{"reward": "r", "step": step} for step in (0, 1, 2, 2, None)]
    append_rows(folder.path / "reward_failures.jsonl", failures)
    folder.drop_rows_after(2)
    assert [row["step"] for row in read_rows(folder.path / "reward_failures.jsonl")] == [0, 1, None]
    assert [row["step"] for row in folder.metrics()] == [1, 2]
    assert [row["step"] for row in read_rows(folder.path / "samples.jsonl")] == [1, 1, 2, 2]


def test_a_checkpoint_beyond_the_rows_is_not_gone_on_from(tmp_path):
    folder = stopped(tmp_path, steps=1)
    told: list[str] = []
    assert folder.last_checkpoint(told.append).name == "checkpoint-1"
    assert "checkpoint-2: rows of its updates are missing" in told[0]
    (folder.path / "metrics.jsonl").unlink()
    again = stage(tmp_path)
    assert again.last_checkpoint() is None
    again.start()
    assert not again.checkpoints.exists()


def test_a_damaged_checkpoint_is_passed_over_and_without_another_the_stage_starts_over(tmp_path):
    folder = stopped(tmp_path)
    (folder.checkpoints / "checkpoint-2" / "optimizer.pt").unlink()
    told: list[str] = []
    folder.start(told.append)
    assert folder.last_checkpoint().name == "checkpoint-1"
    assert "no optimizer.pt" in told[0]
    assert len(folder.metrics()) == 3
    (folder.checkpoints / "checkpoint-1" / "optimizer.pt").unlink()
    again = stage(tmp_path)
    again.start()
    assert again.metrics() == []


def test_a_stage_without_a_checkpoint_starts_with_no_rows_and_keeps_replies(tmp_path):
    folder = stage(tmp_path)
    folder.start()
    write_rows(folder, 3)
    (folder.path / "judge.sqlite").write_text("replies")
    (folder.path / "reward_failures.jsonl").write_text("{}\n")
    assert "stopped before its first checkpoint" in folder.why_not_done()
    folder.start()
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["judge.sqlite", "started.json"]


def test_another_setting_starts_over_and_is_named(tmp_path):
    stopped(tmp_path)
    other = stage(tmp_path, settings={"steps": 5})
    assert other.why_not_done() == "steps: 4, now 5"
    (other.path / "lock").write_text("{}")
    other.start()
    assert sorted(entry.name for entry in other.path.iterdir()) == ["lock", "started.json"]
    assert stage(tmp_path, settings={"steps": 6}).why_not_done() == "steps: 5, now 6"


def test_a_stage_that_was_never_run_says_so(tmp_path):
    assert stage(tmp_path).why_not_done() == NOT_RUN
