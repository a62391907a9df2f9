"""A stage on documents that is stopped goes on with other ranks: the rows of every update are the straight run's."""

from __future__ import annotations

import pytest
import torch

from tests.integration.run_helpers import weights
from tests.integration.test_launch import forked, log, named

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
PASS = "ixt_rl.trainers.document_trainer:DocumentTrainer._loss"
DOCS = {
    "name": "docs", "type": "ixt", "init": "model", "data": {"world": "chain", "documents": 60}, "steps": 6,
    "packing": {"capacity": 128}, "feedback": {"template": "critique", "dropout": 0.2}, "batch_size": 4,
    "micro_batch_size": 2, "optim": {"lr": 1e-3}, "checkpoint_every": 2, "ema": 0.9, "evaluation": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other_ranks")
    jobs = [
        named("one", 1),
        named("fewer", 2, kill=[1, PASS, 4]), named("fewer", 1),
        named("more", 1, kill=[0, PASS, 11]), named("more", 2),
    ]  # fmt: skip
    return folder, forked(folder, [DOCS], jobs)


@pytest.mark.parametrize("name", ["fewer", "more"])
def test_other_ranks_go_on_to_the_weights_of_a_straight_run(runs, name):
    folder, statuses = runs
    assert statuses == [[0], [1, -9], [0], [-9], [0, 0]], log(folder, 0) + log(folder, 1)
    straight, other = folder / "runs" / "one", folder / "runs" / name
    for key, value in weights(straight / "stages/docs/seed1").items():
        torch.testing.assert_close(weights(other / "stages/docs/seed1")[key], value, rtol=0, atol=1e-5, msg=key)
