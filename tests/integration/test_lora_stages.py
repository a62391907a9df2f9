"""Stages on documents and on suffixes train adapters, and keep them; merging them gives the stage's model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from ixt_rl.pretrained.merging import merge_adapter
from ixt_rl.run import run_config
from tests.integration.run_helpers import check_adapter, config, sip, weights

pytest.importorskip("peft")
LORA = {"r": 2, "alpha": 4, "dora": True}
IXT = {
    "name": "ixt", "type": "ixt", "data": {"world": "chain"}, "feedback": {"template": "levels"}, "steps": 2,
    "batch_size": 4, "optim": {"lr": 1e-2}, "evaluation": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["documents", "sip"])
def test_a_stage_keeps_its_adapter(kind, tmp_path):
    stage = IXT if kind == "documents" else sip("sip", steps=2, evaluation=None)
    folder = run_config(config(tmp_path, [stage | {"lora": LORA}]))
    check_adapter(folder / "initial", folder)
    said = merge_adapter(folder, tmp_path / "merged")
    assert said["base_verified"]
    merged, written = load_file(tmp_path / "merged" / "model.safetensors"), weights(folder)
    assert merged.keys() == written.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-7, msg=name)
