"""Examples that need a pool, run as a reader runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_rl.backends import is_installed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long("tests/integration/test_pool_training.py::test_logprobs_agree_after_every_large_update")
@pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray")
def test_plain_trl_learns_on_the_pool():
    done = subprocess.run(
        [sys.executable, "examples/trl_grpo_pool.py", "--engines", "1", "--steps", "20"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = re.findall(r"step +(\d+)  reward (\S+)  parity (\S+)", done.stdout)
    assert [int(step) for step, _, _ in rows] == [5, 10, 15, 20]
    rewards, parity = [float(row[1]) for row in rows], [float(row[2]) for row in rows]
    assert rewards[-1] > rewards[0] + 0.1, rewards
    assert max(parity) <= 1e-3
