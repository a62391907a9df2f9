"""DPO on preference pairs over two ranks, plain and with adapters: the weights and rows of one process."""

from __future__ import annotations

import json

import pytest
import torch

from ixt_rl.backends import is_installed
from tests.integration.run_helpers import rows, weights
from tests.integration.test_launch import forked, log, named

pytestmark = pytest.mark.timeout(1200)
STRATEGIES = ("ddp", "fsdp2")
KINDS = ("plain", *(("adapted",) if is_installed("peft") else ()))
MEASURED = {"loss", "grad_norm", "rewards/chosen", "rewards/margins", "rewards/accuracies", "pairs/accuracy", "flops"}


def stage(name: str, pairs: dict, **changes) -> dict:
    return {
        "name": name, "type": "dpo", "init": "model", "data": {"pairs": pairs}, "epochs": 1, "batch_size": 4,
        "micro_batch_size": 1, "optim": {"lr": 1e-3}, "checkpoint_every": 2, "evaluation": {"every": 2, "pairs": pairs},
        "template": {"prompt": "Q: {question}\nA: ", "told": "Q: {question} ({answer})\nA: "}, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dpo")
    pairs = {"path": str(folder / "pairs.jsonl"), "holdout": 0.3, "max_prompt_tokens": 40, "max_reply_tokens": 8}
    made = [{"prompt": f"{n} + {n % 7}", "chosen": str(n + n % 7), "rejected": str(n)} for n in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    stages = [stage("plain", pairs), stage("adapted", pairs, lora={"r": 4, "alpha": 8})][: len(KINDS)]
    jobs = [named("one", 1), *(named(name, set=[f"name={name}", f"launch.strategy={name}"]) for name in STRATEGIES)]
    for job in jobs:
        job["set"].append("model.new.tokenizer=bytes")
    return folder, forked(folder, stages, jobs)


@pytest.mark.long(
    "tests/unit/trainers/test_strategies.py::test_every_method_and_what_runs_need",
    "tests/integration/test_preference_stages.py",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_train_what_one_process_trains(runs, strategy, kind):
    folder, statuses = runs
    assert statuses == [[0], *[[0, 0]] * len(STRATEGIES)], log(folder, 0) + log(folder, 1)
    one, two = (folder / "runs" / name for name in ("one", strategy))
    place = f"stages/{kind}/seed1"
    for name, value in weights(one / place).items():
        torch.testing.assert_close(weights(two / place)[name], value, rtol=0, atol=1e-5, msg=name)
    found, expected = ([row for row in rows(run) if row["stage"] == kind] for run in (two, one))
    assert any(row["phase"] == "train" for row in expected) and any(row["phase"] == "eval" for row in expected)
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() & MEASURED:
            assert row[name] == pytest.approx(other[name], abs=1e-4), (row["step"], name)
