"""One batch = micro-batches = ranks: three updates in one process, accumulated, and on two ranks (gloo)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from ixt_rl.kernels.correction import Correction
from tests.unit.distributed import end_rank, keep, kept, run_ranks
from tests.unit.trainers.helpers import ScriptedEngine, make_trainer, rows


def train_and_keep(method: str, folder: str, per_device: int, accumulation: int) -> None:
    """Three updates in this process, or on this rank; the first rank keeps weights and logs."""
    options = {"candidates": "exact", "posterior": "frozen"} if method == "intro" else {}
    trainer = make_trainer(
        method, Path(folder, "trainer"), engine=ScriptedEngine(), data=rows(16), max_steps=3,
        per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation, **options,
        **({"ddp_backend": "gloo"} if "RANK" in os.environ else {}),
    )  # fmt: skip
    trainer.train()
    keep(trainer, folder, [row for row in trainer.state.log_history if "loss" in row])


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
    one, two = (tmp_path / name for name in ("one", "two"))
    one.mkdir()
    two.mkdir()
    train_and_keep(method, str(one), 2 * split[0] * split[1], 1)
    run_ranks(__name__, f"train_and_keep({method!r}, {str(two)!r}, {split[0]}, {split[1]})")
    (whole, whole_logs), (weights, logs) = kept(one), kept(two)
    assert len(logs) == len(whole_logs) == 3
    for parameter in whole:
        torch.testing.assert_close(weights[parameter], whole[parameter], rtol=1e-4, atol=2e-6, msg=parameter)
    for row, expected in zip(logs, whole_logs, strict=True):
        for name in (metric, "rollout/strict", "entropy", "flops/train", "flops/rollout"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name


IDLE = pytest.mark.long("tests/unit/trainers/test_ranks.py::test_a_rank_that_trains_nothing_logs_what_the_others_do")


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("rlsd", marks=IDLE), "intro"])
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
