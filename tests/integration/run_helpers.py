"""A run of seconds: every stage type on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ixt_rl.config.load import dump_yaml, load_run


def online(name: str, **changes: Any) -> dict[str, Any]:
    stage = {
        "name": name,
        "type": "intro",
        "init": "base",
        "data": {"world": "addition", "view": "parity"},
        "steps": 4,
        "rollouts_per_step": 16,
        "sampling": {"max_new_tokens": 34},
        "optim": {"lr": 1e-3},
        "rewards": [{"type": "world"}],
        "evaluation": {"every": 2, "problems": 8},
    }
    return {**stage, **changes}


def base(steps: int = 20) -> dict[str, Any]:
    data = {"world": "addition"}
    return {"name": "base", "type": "pretrain", "data": data, "steps": steps, "batch_size": 16, "optim": {"lr": 4e-3}}


def gap(**changes: Any) -> dict[str, Any]:
    data, sampling = {"world": "addition", "view": "parity"}, {"max_new_tokens": 34}
    return {"name": "gap", "type": "evaluate", "data": data, "sampling": sampling, "problems": 8, **changes}


def sip(name: str, /, **changes: Any) -> dict[str, Any]:
    """A SIP stage on the chain world, from a new model."""
    stage = {
        "name": name,
        "type": "sip",
        "init": "model",
        "data": {"world": "chain", "passages": 40},
        "objective": "rf-nll",
        "sources": ["original", "rewrite", "rollout"],
        "group_size": 2,
        "rewriter": {"error": 0.5},
        "judge": {},
        "steps": 4,
        "batch_size": 4,
        "sampling": {"max_new_tokens": 24},
        "optim": {"lr": 1e-3},
        "evaluation": {"every": 2, "prefixes": 6, "curve_prefixes": 4},
    }
    return {**stage, **changes}


def config(tmp_path: Path, stages: list[dict[str, Any]], name: str = "run", **changes: Any):
    value = {
        "name": name,
        "output_dir": str(tmp_path / "runs"),
        "model": {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64}},
        "stages": stages,
        **changes,
    }
    path = tmp_path / f"{name}.yaml"
    path.write_text(dump_yaml(value), encoding="utf-8")
    return load_run(path)


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def check_adapter(base: Path, folder: Path) -> None:
    """The adapter that a run's last stage left computes with plain peft, on `base`, what its merged model does."""
    import pytest
    import torch
    from transformers import AutoModelForCausalLM

    peft = pytest.importorskip("peft")
    ids = torch.arange(8)[None]
    stage = (folder / "model").resolve().parent
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(stage / "model").eval()(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(base).eval()
        begun = plain(ids).logits
        adapted = peft.PeftModel.from_pretrained(plain, str(stage / "adapter")).eval()(ids).logits
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged, begun, rtol=1e-4, atol=1e-5)
    made = json.loads((stage / "done.json").read_text())["made"]
    assert {"adapter/adapter_model.safetensors", "adapter/base.json", "model/model.safetensors"} <= made.keys()
