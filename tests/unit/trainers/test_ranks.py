"""One batch = micro-batches = ranks: three updates in one process, accumulated, and on two ranks (gloo)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ixt_rl.kernels.correction import Correction
from tests.unit.distributed import end_rank, run_ranks
from tests.unit.trainers.helpers import ScriptedEngine, make_trainer, rows

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


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rlsd", "intro"])
def test_a_rank_that_trains_nothing_logs_what_the_others_do(tmp_path, method):
    """The second rank's rewards are level, and none is kept: it has no factor, and no ratio to a sampler."""
    first, second = run_ranks(__name__, f"idle_rank({method!r}, {str(tmp_path)!r})", timeout_s=240)
    name = "factor/taken" if method == "rlsd" else "sampler/ratio"
    values = [re.findall(rf"{name}=(\S+)", output) for output in (first, second)]
    assert len(values[0]) == 1
    assert values[0] == values[1]


def idle_rank(method: str, folder: str) -> None:
    """One update, of which the second rank trains nothing."""

    def reward(prompts, **_):
        return [float(rank == 0 and place % 2) for place in range(len(prompts))]

    rank = int(os.environ["RANK"])
    correction = Correction() if method == "intro" else None
    trainer = make_trainer(
        method, Path(folder, str(rank)), engine=ScriptedEngine(), data=rows(8), reward=reward, correction=correction,
        max_steps=1, per_device_train_batch_size=4, ddp_backend="gloo",
    )  # fmt: skip
    trainer.train()
    for row in trainer.state.log_history:
        for name in ("factor/taken", "sampler/ratio"):
            if name in row:
                print(f"{name}={row[name]:.6f}", flush=True)
    end_rank()
