"""A run that is killed, stopped, torn and cut off at random moments ends as one that nothing happened to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long("tests/integration/test_chaos.py", "tests/integration/test_run_state.py")
@pytest.mark.timeout(900)
def test_disturbed_runs_end_as_undisturbed_ones(tmp_path):
    """In a process of its own: what forks should have no threads of a test runner."""
    command = [sys.executable, "-m", "tests.chaos.disturb", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("as undisturbed") == 1
