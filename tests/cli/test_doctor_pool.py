"""`ixt-rl doctor --pool`: the pool is really started, and what breaks is found at the step where it breaks."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner

from ixt_rl.backends import BACKENDS, is_installed
from ixt_rl.cli.main import main
from ixt_rl.doctor.pool import check_pool

needs_pool = pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray")


@pytest.mark.slow
@needs_pool
def test_a_working_pool_passes_every_step():
    done = CliRunner().invoke(main, ["doctor", "--pool"], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for name in ("start", "generate", "parity with transformers", "weight update", "parity after the update", "end"):
        (row,) = [line for line in done.output.splitlines() if f" {name} " in line]
        assert " yes " in row
    assert "no process left" in done.output


@pytest.mark.long(
    "tests/cli/test_doctor_pool.py::test_a_working_pool_passes_every_step",
    "tests/integration/test_pool_training.py::test_a_planted_stale_head_is_refused",
)
@needs_pool
def test_an_engine_that_keeps_its_old_weights_is_found_out(monkeypatch):
    from ixt_rl.rollout.pool.ray_pool import RayPool

    monkeypatch.setattr(RayPool, "update_weights", lambda self, tensors, version: None)
    monkeypatch.setattr("ixt_rl.doctor.pool.PoolCheck.generate", lambda self: "")  # versions differ too
    steps = {step.name: step for step in check_pool()}
    assert [step.ok for step in steps.values()] == [True] * 5 + [False, None]
    assert "max |log-prob difference|" in steps["parity after the update"].detail
    assert "same weights" in steps["parity after the update"].detail


@pytest.mark.parametrize("package", ["vllm", "ray"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, monkeypatch):
    missing = dataclasses.replace(BACKENDS[package], module="no_such_module")
    monkeypatch.setitem(BACKENDS, package, missing)
    done = CliRunner().invoke(main, ["doctor", "--pool"], env={"COLUMNS": "400"}, catch_exceptions=False)
    assert done.exit_code == 1
    assert f"the pool needs {package}" in done.output
    assert missing.install_command in done.output
    assert "not tried" in done.output
