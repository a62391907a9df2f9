"""A checkpoint is whole, or it is passed over with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixt_rl.errors import DataError
from ixt_rl.trainers.checkpoints import SEAL, damage, last_whole_checkpoint, remove, rotate, seal

NAMES = [
    "trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "state-0.pt",
    "cursor.json", "weight_average.safetensors", "sub/more.bin",
]  # fmt: skip


def checkpoint(folder: Path, step: int, names=NAMES, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(f"{name} after {step}".encode())
    if sealed:
        seal(path)
    return path


def test_the_newest_whole_one_by_number(tmp_path):
    assert last_whole_checkpoint(tmp_path / "none") is None
    for step in (2, 10, 9):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-99").write_text("a file")
    said: list[str] = []
    assert last_whole_checkpoint(tmp_path, said.append) == tmp_path / "checkpoint-10"
    assert said == []


@pytest.mark.parametrize("name", [*NAMES, SEAL])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "changed"])
def test_any_damage_falls_back_to_the_one_before_and_says_what(tmp_path, name, how):
    checkpoint(tmp_path, 1)
    file = checkpoint(tmp_path, 2) / name
    before = file.read_bytes()
    after = {"empty": b"", "cut": before[:-3], "changed": before[:-1] + bytes([before[-1] ^ 1])}
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(after[how])
    said: list[str] = []
    assert last_whole_checkpoint(tmp_path, said.append) == tmp_path / "checkpoint-1"
    assert len(said) == 1
    assert "checkpoint-2" in said[0] and name in said[0]
    remove(tmp_path / "checkpoint-1")
    assert last_whole_checkpoint(tmp_path, said.append) is None


@pytest.mark.parametrize("missing", ["optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_states_are_never_replaced_by_fresh_ones(tmp_path, missing):
    """`save_only_model` writes such checkpoints: whole, and nothing to go on from."""
    found = damage(checkpoint(tmp_path, 1, [name for name in NAMES if name != missing]))
    assert isinstance(found, DataError)
    assert found.what.endswith(f"no {missing.split('.')[0] if missing != 'trainer_state.json' else missing}")
    assert found.remedy


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": 1}}', b"\xff", b"null"])
def test_a_seal_of_another_kind_is_damage(tmp_path, content):
    path = checkpoint(tmp_path, 1)
    (path / SEAL).write_bytes(content)
    assert damage(path) is not None


@pytest.mark.parametrize("written", range(len(NAMES) + 1))
def test_a_kill_at_any_file_leaves_the_one_before(tmp_path, written):
    checkpoint(tmp_path, 1)
    checkpoint(tmp_path, 2, NAMES[:written], sealed=False)
    (tmp_path / "checkpoint-2").mkdir(exist_ok=True)
    assert last_whole_checkpoint(tmp_path, lambda _: None) == tmp_path / "checkpoint-1"


def test_rotation_keeps_the_newest_sealed_and_what_is_protected(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
    torn = checkpoint(tmp_path, 5, sealed=False)
    newest = checkpoint(tmp_path, 6)
    rotate(tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 6
    rotate(tmp_path, 3, (newest, tmp_path / "checkpoint-1"))  # the best is the first
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-4", "checkpoint-6"}
    assert not torn.exists()
    rotate(tmp_path, 1, (newest,))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-6"]
