"""A run file of every kind of stage, on whatever device there is."""

from __future__ import annotations

import math

import pytest

from ixt_rl.run import run_config
from tests.integration.run_helpers import base, config, gap, online, rows, sip
from tests.integration.test_document_stages import on_chain

STAGES = {
    "online": lambda: [base(20), gap(init="base"), online("intro", steps=2), online("grpo", type="grpo", steps=2)],
    "documents": lambda: [on_chain("ixt", steps=2, evaluation={"every": 2, "problems": 2, "max_new_tokens": 4})],
    "sip": lambda: [sip("sip", steps=2, evaluation={"every": 2, "prefixes": 2, "curve_prefixes": 2})],
}


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_runs_to_its_end(device, tmp_path, kind, dtype):
    run = config(
        tmp_path,
        STAGES[kind](),
        model={"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64}, "dtype": dtype},
    )
    folder = run_config(run)
    trained = [row for row in rows(folder) if row["phase"] == "train"]
    assert trained and all(math.isfinite(row["loss"]) for row in trained if "loss" in row)
    assert (folder / "report.html").exists()
