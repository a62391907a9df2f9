"""Run files in bfloat16 and with `model.dtype: auto`: stages train with all self-checks on, near float32's losses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ixt_rl.run import precision, run_config
from ixt_rl.run.stages import documents
from tests.integration.run_helpers import config, online, rows, sip, weights
from tests.integration.test_document_stages import on_chain
from tests.integration.test_run import StopAt

REWARD = '''
def early(completion_ids, **_):
    """Of any model, about half are kept."""
    return [float(ids[0] % 2) for ids in completion_ids]
'''


def rl(method: str, folder: Path) -> dict[str, Any]:
    (folder / "mine.py").write_text(REWARD, encoding="utf-8")
    return online(
        method, type=method, init="model", rewards=[{"type": "python", "path": f"{folder / 'mine.py'}:early"}], steps=2,
        rollouts_per_step=8, sampling={"max_new_tokens": 8}, evaluation={"every": 2, "problems": 2},
    )  # fmt: skip


def ixt(folder: Path) -> dict[str, Any]:
    evaluation = {"every": 3, "problems": 2, "max_new_tokens": 4}
    return on_chain("ixt", steps=3, evaluation=evaluation, checkpoint_every=1)


STAGES = {
    "online": lambda folder: [rl("intro", folder), rl("grpo", folder)],
    "ixt": lambda folder: [ixt(folder)],
    "sip": lambda folder: [sip("sip", steps=2, evaluation={"every": 2, "prefixes": 2, "curve_prefixes": 2})],
}
LIKE = {"ixt": "loss", "sip": "loss", "intro": "entropy", "grpo": "entropy"}
"""What is compared; the loss of what was sampled by the policy that it trains is about 0 whatever the dtype."""


def run_in(dtype: str, folder: Path, stages: list[dict[str, Any]], name: str = ""):
    run = config(folder, stages, name=name or dtype)
    return precision.with_dtype(run, dtype)


def series(folder: Path, stage: str, metric: str) -> list[float]:
    found = [row for row in rows(folder) if row["stage"] == stage and row["phase"] == "train"]
    return [row[metric] for row in found if row.get(metric) is not None]


@pytest.mark.parametrize("kind", STAGES)
def test_bfloat16_trains_as_float32_does(kind, tmp_path):
    stages = STAGES[kind](tmp_path)
    exact, rounded = (run_config(run_in(dtype, tmp_path, stages)) for dtype in ("float32", "bfloat16"))
    for stage in stages:
        name = stage["name"]
        expected, found = (series(folder, name, LIKE[name]) for folder in (exact, rounded))
        assert expected and found == pytest.approx(expected, rel=1e-2)
        assert found != expected  # it was another dtype
        norms = series(rounded, name, "grad_norm")
        assert norms and all(norm > 0 and math.isfinite(norm) for norm in norms)
    final = weights(rounded)
    assert {tensor.dtype for tensor in final.values()} == {torch.float32}


def test_auto_goes_on_in_the_dtype_that_it_began_with(tmp_path, monkeypatch):
    """Stopped after an update, and gone on with on a machine where the other dtype is faster."""
    straight = run_config(run_in("bfloat16", tmp_path, [ixt(tmp_path)]))
    monkeypatch.setattr(precision, "PROBE_SECONDS", 0.0)
    auto = run_in("auto", tmp_path, [ixt(tmp_path)])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        train = documents.train
        patch.setattr(precision, "_seconds", lambda bfloat16, *_: 1.0 if bfloat16 else 2.0)
        patch.setattr(
            documents, "train", lambda trainer, *rest: (trainer.add_callback(StopAt(2)), train(trainer, *rest))
        )
        run_config(auto)
    monkeypatch.setattr(precision, "_seconds", lambda bfloat16, *_: 2.0 if bfloat16 else 1.0)
    folder = run_config(auto)
    kept = json.loads((folder / "summary.json").read_text())["precision"]
    assert (kept["dtype"], kept["float32_ms"], kept["bfloat16_ms"]) == ("bfloat16", 2000.0, 1000.0)
    resumed, expected = weights(folder), weights(straight)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
