"""One tiny run file, and each method that trains on rollouts by its `type` alone: two steps, and a model that moved."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ixt_rl.config.load import load_run
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.registry import SPECS
from ixt_rl.run import run_config
from tests.integration.run_helpers import check_adapter, rows, weights

TYPES = [spec.type for spec in SPECS if issubclass(spec.stage, OnlineStage)]

REWARD = """
def odd(completion_ids, **_):
    return [float(sum(ids) % 2) for ids in completion_ids]
"""

RUN = """
name: NAME
output_dir: FOLDER/runs
model: {new: {hidden_size: 16, heads: 2, intermediate_size: 32, layers: 1}}
stages:
  - name: rl
    type: intro
    data: {world: addition, view: parity}
    steps: 2
    rollouts_per_step: 8
    sampling: {max_new_tokens: 8}
    optim: {lr: 1e-2}
    rewards: [{type: python, path: "FOLDER/reward.py:odd"}]
    evaluation: null
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    (folder / "reward.py").write_text(REWARD)
    (folder / "run.yaml").write_text(RUN.replace("FOLDER", str(folder)))
    return folder / "run.yaml"


@pytest.mark.parametrize("method", TYPES)
def test_a_method_trains_by_its_type_alone(method, file):
    folder = run_config(load_run(file, [f"name={method}", f"stages.rl.type={method}"]))
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    losses = [row["loss"] for row in rows(folder) if row["phase"] == "train"]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    begun, ended = load_file(folder / "initial" / "model.safetensors"), weights(folder)
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)


AVERAGING = ("rlp", "sdpo")  # by default; an average of adapters is refused
COVERED = pytest.mark.long("tests/integration/test_lora_stages.py")
ADAPTED = [pytest.param(m, marks=[COVERED] if m != "intro" else []) for m in TYPES if m not in AVERAGING]


@pytest.mark.parametrize("method", ADAPTED)
def test_a_method_trains_adapters_that_plain_peft_loads(method, file):
    lora = "stages.rl.lora={r: 3, alpha: 4, rslora: true, dora: true, modules_to_save: [norm]}"
    folder = run_config(load_run(file, [f"name={method}-lora", f"stages.rl.type={method}", lora]))
    check_adapter(folder / "initial", folder)


@pytest.mark.parametrize("method", TYPES)
def test_a_method_runs_from_the_demo_by_its_type_alone(method):
    config = load_run("demo/addition", [f"stages.grpo.type={method}"])
    assert config.named["grpo"].type == method
