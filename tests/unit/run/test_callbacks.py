"""What joins a trainer to its stage."""

from __future__ import annotations

import time
from types import SimpleNamespace

from ixt_rl.ledger import Ledger
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.final_values import final_values
from ixt_rl.run.folder import StageFolder

PROGRESS = SimpleNamespace(step=lambda step: None, evaluation=lambda step, metrics: None)


def at(step: int) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=9, is_world_process_zero=True)


def test_seconds_of_a_stage_that_goes_on_count_what_it_took_before(tmp_path):
    folder = StageFolder(tmp_path, "grpo", "grpo", 1, "")
    for step, seconds in ((1, 400.0), (3, 1000.0)):
        folder.add_metrics("train", step, 0, 0.0, seconds, {"loss": 0.5})
    begun = time.perf_counter()
    callback = StageCallback(folder, PROGRESS, lambda: Ledger(1), evaluate=lambda: ({"sampled/checked": 0.5}, []))
    callback.on_train_begin(None, at(3), None)
    callback.on_log(None, at(4), None, logs={"loss": 0.25})
    *_, last = folder.metrics()
    assert 1000 <= last["seconds"] < 1000 + time.perf_counter() - begun + 1e-3
    assert final_values(folder)["seconds"] == last["seconds"]


def test_a_stage_that_starts_counts_from_there(tmp_path):
    folder = StageFolder(tmp_path, "grpo", "grpo", 1, "")
    callback = StageCallback(folder, PROGRESS, lambda: Ledger(1), evaluate=lambda: ({"sampled/checked": 0.5}, []))
    callback.on_train_begin(None, at(0), None)
    assert [row["seconds"] < 60 for row in folder.metrics()] == [True]
