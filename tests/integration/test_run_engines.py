"""Whole runs whose rollouts come from vLLM: nothing else in the YAML changes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ixt_rl.backends import is_installed
from tests.integration.run_helpers import base, config, gap, online, rows, sip

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


LONG = pytest.mark.long(
    "tests/integration/test_run_engines.py::test_a_run_with_another_engine", "tests/integration/test_launch.py"
)


@pytest.mark.parametrize(
    ("engine", "stages"),
    [
        ("vllm", "stops"),
        *(pytest.param("ray-vllm", stages, marks=LONG) for stages in ("stops", "addition")),
        *(pytest.param("vllm", stages, marks=LONG) for stages in ("addition", "chain")),
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
