"""Adapters on a base in 4 bits, from a run file: on ranks, killed and gone on with, what is handed on."""

from __future__ import annotations

import json

import pytest
import torch

from ixt_rl.backends import is_installed
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.pretrained.merging import merge_adapter
from tests.integration.run_helpers import base, config, online, rows, weights
from tests.integration.test_launch import LOSS, REWARD, forked, log, named, train_rows

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not all(map(is_installed, ("peft", "bitsandbytes"))), reason="needs peft and bitsandbytes"),
]
LONG = pytest.mark.long("tests/unit/pretrained/test_quantizing.py", "tests/integration/test_lora_stages.py")
SIZES = ["model.new.hidden_size=64", "model.new.intermediate_size=64"]
DOCS = {
    "name": "docs", "type": "ixt", "init": "model", "data": {"world": "chain", "documents": 60}, "steps": 3,
    "packing": {"capacity": 128}, "feedback": {"template": "critique"}, "batch_size": 4, "optim": {"lr": 1e-2},
    "evaluation": None, "lora": {"r": 4, "quantize": "nf4"},
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qlora")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    rl = online(
        "rl", init="docs", data={"world": "chain"}, intro={"candidates": "exact", "posterior": {"source": "frozen"}},
        lora={"r": 4, "quantize": "nf4", "dora": True}, optim={"lr": 1e-2}, checkpoint_every=2, steps=4,
        rewards=[{"type": "python", "path": f"{folder}/reward.py:reward"}], sampling={"max_new_tokens": 12},
        evaluation={"every": 2, "problems": 5},
    )  # fmt: skip
    stages, jobs = [DOCS, rl], [named("one", 1), named("struck", 1, kill=[0, LOSS, 4]), named("struck", 1)]
    return folder, stages, of_jobs(folder, stages, jobs)


def of_jobs(folder, stages, jobs):
    for job in jobs:
        job["set"] += SIZES
    return forked(folder, stages, jobs)


@LONG
def test_ranks_train_what_one_process_trains(runs):
    folder, stages, _ = runs
    strategies = ("ddp", *(["zero2"] if is_installed("deepspeed") else []))
    jobs = [named(name, set=[f"name={name}", f"launch.strategy={name}"]) for name in strategies]
    assert of_jobs(folder, stages, jobs) == [[0, 0]] * len(strategies), log(folder, 0) + log(folder, 1)
    for name in strategies:
        for stage in ("docs", "rl"):
            one, two = (weights(folder / "runs" / run / "stages" / stage / "seed1") for run in ("one", name))
            for key, value in one.items():
                torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5, msg=f"{name}, {stage}: {key}")
    assert any(row["loss"] for row in rows(folder / "runs" / "one") if row["stage"] == "rl" and "loss" in row)


@LONG
def test_a_killed_stage_goes_on_to_the_same_weights(runs):
    folder, _, statuses = runs
    assert statuses == [[0], [-9], [0]], log(folder, 0)
    one, struck = (folder / "runs" / name for name in ("one", "struck"))
    for name, value in weights(one / "stages" / "rl" / "seed1").items():
        assert torch.equal(weights(struck / "stages" / "rl" / "seed1")[name], value), name
    assert train_rows(struck) == train_rows(one)


@LONG
def test_the_adapter_is_merged_into_the_base_as_it_is_stored(runs, tmp_path):
    folder, *_ = runs
    run = folder / "runs" / "one"
    said = merge_adapter(run / "stages" / "rl" / "seed1" / "adapter", tmp_path / "merged")
    assert said["base_verified"] and said["quantized"] == "nf4"
    assert said["base"] == json.loads((run / "stages" / "rl" / "seed1" / "adapter" / "base.json").read_text())["base"]


@pytest.mark.parametrize("strategy", ["zero3", "fsdp2"])
def test_sharded_weights_in_4_bits_are_refused(strategy, tmp_path):
    with pytest.raises(InvalidConfig, match=r"lora\.quantize: nf4 of stage rl with launch\.strategy") as refused:
        config(tmp_path, [base(2), online("rl", lora={"quantize": "nf4"})], launch={"ranks": 2, "strategy": strategy})
    assert "no parameters that could be spread" in str(refused.value)
