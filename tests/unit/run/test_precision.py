"""`model.dtype: auto`: what the probe decides, that it is kept, and that nothing else moves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from ixt_rl.config.load import load_run
from ixt_rl.run import precision
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.precision import with_kept_dtype, with_measured_dtype


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "addition").mkdir()
    return RunFolder(tmp_path, "addition")


def probe_of(monkeypatch, **milliseconds):
    """The real probe, on times that are given."""
    monkeypatch.setattr(precision, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(
        precision, "_seconds", lambda bfloat16, *_: milliseconds["narrow" if bfloat16 else "wide"] / 1e3
    )


@pytest.mark.parametrize(("wide", "narrow", "dtype"), [(3, 1, "bfloat16"), (1.1, 1, "float32"), (1, 4, "float32")])
def test_the_faster_dtype_is_taken_if_it_is_clearly_faster(monkeypatch, folder, wide, narrow, dtype):
    probe_of(monkeypatch, wide=wide, narrow=narrow)
    said: list[str] = []
    config = load_run("demo/addition", ["model.dtype=auto"])
    assert with_measured_dtype(config, folder, said.append).model.dtype == dtype
    assert config.model.dtype == "auto"
    assert f"dtype: auto: {dtype}" in said[0]
    kept = json.loads((folder.path / "precision.json").read_text())
    assert (kept["dtype"], kept["shapes"]) == (dtype, [512, 128, 384])
    assert (kept["float32_ms"], kept["bfloat16_ms"]) == (pytest.approx(wide), pytest.approx(narrow))


def test_what_was_chosen_is_kept_when_the_machine_changes(monkeypatch, folder):
    config = load_run("demo/addition", ["model.dtype=auto"])
    probe_of(monkeypatch, wide=3, narrow=1)
    with_measured_dtype(config, folder, lambda text: None)
    probe_of(monkeypatch, wide=1, narrow=3)
    said: list[str] = []
    assert with_measured_dtype(config, folder, said.append).model.dtype == "bfloat16"
    assert with_kept_dtype(config, folder).model.dtype == "bfloat16"
    assert said == []


def test_a_dtype_that_is_said_is_not_measured(monkeypatch, folder):
    monkeypatch.setattr(precision, "probe", None)
    for dtype in ("float32", "bfloat16"):
        config = load_run("demo/addition", [f"model.dtype={dtype}"])
        assert with_measured_dtype(config, folder, print) is config
    assert load_run("demo/addition").model.dtype == "float32"
    assert not (folder.path / "precision.json").exists()


def test_the_probe_runs_both_dtypes_and_draws_no_random_numbers(monkeypatch):
    monkeypatch.setattr(precision, "PROBE_SECONDS", 0.0)
    before = torch.get_rng_state()
    found = precision.probe(32, 96)
    assert torch.equal(torch.get_rng_state(), before)
    assert found["dtype"] in ("float32", "bfloat16")
    assert found["float32_ms"] > 0 and found["bfloat16_ms"] > 0


def test_what_is_kept_is_read_without_torch():
    code = "import ixt_rl.run.precision, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
