"""One batch = micro-batches = ranks: three updates in one process, accumulated, and on two ranks (gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("ranks_worker.py")


def run(out: Path, method: str, ranks: int, per_device: int, accumulation: int):
    out.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    command = launcher if ranks > 1 else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [*command, str(WORKER), method, str(out), str(per_device), str(accumulation)],
        check=True, env=environment, cwd=ROOT, timeout=240, capture_output=True,
    )  # fmt: skip
    return torch.load(out / "weights.pt"), torch.load(out / "logs.pt")


LONG = pytest.mark.long(
    "tests/unit/trainers/test_ranks.py::test_one_process_and_micro_batches_on_two_ranks_reach_the_same_weights"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "split", "metric"),
    [
        ("intro", (4, 2), "rollout/kept"),
        pytest.param("gpg", (2, 3), "gpg/alpha", marks=LONG),  # ranks have one and a half groups each
        pytest.param("rlcsd", (2, 3), "factor/moved", marks=LONG),
    ],
)
def test_one_process_and_micro_batches_on_two_ranks_reach_the_same_weights(tmp_path, method, split, metric):
    whole, whole_logs = run(tmp_path / "whole", method, ranks=1, per_device=2 * split[0] * split[1], accumulation=1)
    weights, logs = run(tmp_path / "ranks", method, 2, *split)
    assert len(logs) == len(whole_logs) == 3
    for parameter in whole:
        torch.testing.assert_close(weights[parameter], whole[parameter], rtol=1e-4, atol=2e-6, msg=parameter)
    for row, expected in zip(logs, whole_logs, strict=True):
        for name in (metric, "rollout/strict", "entropy", "flops/train", "flops/rollout"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
