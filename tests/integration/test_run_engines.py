"""Whole runs whose rollouts come from vLLM: nothing else in the YAML changes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ixt_rl.backends import is_installed
from tests.integration.run_helpers import base, config, gap, online, rows, sip, weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray"),
]


STAGES = {
    "addition": [
        *(base(), gap(), online("intro"), online("grpo", type="grpo")),
        online("stops", sampling={"max_new_tokens": 34, "stop": ["C", "5 K"]}),
    ],
    "chain": [sip("dpo", objective="dpo")],
    "stops": [base(), online("stops", sampling={"max_new_tokens": 34, "stop": ["C", "5 K"]})],
}
SAMPLED = {"addition": ("intro", "grpo", "stops"), "chain": ("dpo",), "stops": ("stops",)}
MORE = {"vllm": [], "ray-vllm": ["engine.pool.weight_transfer=broadcast"]}


LONG = pytest.mark.long("tests/integration/test_run_engines.py::test_a_run_with_another_engine")


@pytest.mark.parametrize(
    ("engine", "stages"),
    [
        *(("vllm", "addition"), ("ray-vllm", "stops")),
        *(pytest.param(*case, marks=LONG) for case in (("ray-vllm", "addition"), ("vllm", "chain"))),
    ],
)
def test_a_run_with_another_engine(tmp_path, engine, stages):
    """Evaluation and online stages share one engine; each stage's policy is what it samples from."""
    model = {
        "new": {"hidden_size": 64, "heads": 2, "intermediate_size": 64}
    }  # head_dim 32, which vLLM's CPU build takes
    config(tmp_path, STAGES[stages], model=model)
    done = subprocess.run(
        [sys.executable, "-m", "ixt_rl", "run", str(tmp_path / "run.yaml"), f"engine.type={engine}", *MORE[engine]],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    logged = rows(tmp_path / "runs" / "run")
    for stage in SAMPLED[stages]:
        train = [row for row in logged if row["stage"] == stage and row["phase"] == "train"]
        parity = [row["parity/logp_abs_max"] for row in train if "parity/logp_abs_max" in row]
        assert parity
        assert max(parity) <= 1e-3
        assert all(row["rollout/staleness"] == 0 for row in train if "rollout/staleness" in row)
    samples = rows(tmp_path / "runs" / "run", "samples.jsonl")
    stopped = {sample["stage"] for sample in samples if sample.get("finish_reason") == "stop"}
    assert stopped == {"stops"} & {*SAMPLED[stages]}
    assert f"type: {engine}" in (tmp_path / "runs" / "run" / "config.yaml").read_text()


ODD = '''
def reward(prompts, completions, completion_ids, **columns):
    """Half of all completions."""
    return [float(sum(ids) % 2) for ids in completion_ids]
'''


def test_two_ranks_share_a_pool_and_train_what_one_process_trains(tmp_path):
    """By the launcher, whose variables Ray's processes must not see."""
    (tmp_path / "reward.py").write_text(ODD, encoding="utf-8")
    model = {"new": {"layers": 1, "hidden_size": 64, "heads": 2, "intermediate_size": 64}}
    short = {"steps": 2, "sampling": {"max_new_tokens": 16}, "evaluation": {"every": 2, "problems": 4},
             "rewards": [{"type": "python", "path": f"{tmp_path}/reward.py:reward"}]}  # fmt: skip
    config(
        tmp_path,
        [base(2), gap(sampling={"max_new_tokens": 16}, problems=4),
         online("intro", **short, intro={"candidates": "exact"}), online("grpo", type="grpo", **short)],
        model=model, engine={"type": "ray-vllm", "vllm": {"eager": True, "kv_cache_gib": 0.125}},
    )  # fmt: skip
    for name, words in (("one", []), ("two", ["launch.ranks=2"])):
        done = subprocess.run(
            [sys.executable, "-m", "ixt_rl", "run", str(tmp_path / "run.yaml"), f"name={name}", *words],
            capture_output=True, text=True, timeout=400, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    parity = [row["parity/logp_abs_max"] for row in rows(two) if "parity/logp_abs_max" in row]
    assert len(parity) == 4
    assert max(parity) <= 1e-3
    assert rows(two, "samples.jsonl") == rows(one, "samples.jsonl")
    for expected, row in zip(rows(one), rows(two), strict=True):
        for name in row.keys() & {"loss", "grad_norm", "entropy", "greedy/length", "sampled/length", "rollout/kept"}:
            assert row[name] == pytest.approx(expected[name], abs=1e-4), (row["stage"], row["step"], name)
    for stage in ("intro", "grpo"):
        learnt = weights(one / "stages" / stage / "seed1")
        for name, value in weights(two / "stages" / stage / "seed1").items():
            torch.testing.assert_close(value, learnt[name], rtol=0, atol=1e-5, msg=f"{stage}: {name}")
