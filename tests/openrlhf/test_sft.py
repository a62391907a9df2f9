"""The real SFT trainer of OpenRLHF on CPUs: its step beside ours, and a whole run from a run file, killed once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from safetensors.torch import load_file

from ixt_rl.files import read_rows
from ixt_rl.integrations.openrlhf.token_files import write_token_files
from tests.openrlhf.helpers import Run, needs_openrlhf, on_two_ranks
from tests.unit.trainers.ixt_helpers import documents, make_trainer, tiny_model

pytestmark = needs_openrlhf
LONG = pytest.mark.long("tests/unit/integrations/test_openrlhf_documents.py")

STEPS, BATCH, MICRO, LR, EPS = 3, 8, 2, 1e-2, 1e-3


@LONG
def test_updates_on_two_ranks_are_those_of_our_trainer(tmp_path):
    """Two ZeRO-2 ranks with two micro-batches each beside one process with one, in float32: rows of uneven lengths."""
    model = tiny_model()
    options = {"max_steps": STEPS, "per_device_train_batch_size": BATCH, "pack": False, "max_length": 40,
               "learning_rate": LR, "adam_epsilon": EPS, "adam_beta2": 0.95, "max_grad_norm": 1.0,
               "train_feedback": False}  # fmt: skip
    trainer = make_trainer(tmp_path / "ours", documents(20), model, **options)
    model.save_pretrained(tmp_path / "model")
    trainer.processing_class.save_pretrained(tmp_path / "model")
    rows = list(zip(range(STEPS * BATCH), trainer.rows, strict=False))
    lengths = {len(row["input_ids"]) for _, row in rows}
    assert len(lengths) > 5, "a mean of micro-batches' means would be another loss"
    write_token_files(tmp_path / "rows", (row for _, row in rows))
    job = {"model": str(tmp_path / "model"), "rows": str(tmp_path / "rows"), "out": str(tmp_path / "theirs"),
           "metrics": str(tmp_path / "metrics.jsonl"), "steps": STEPS, "batch": BATCH, "micro": MICRO, "lr": LR,
           "eps": EPS, "length": 40}  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    on_two_ranks("sft_step.py", str(tmp_path / "job.json"))
    trainer.train()
    ours = [entry for entry in trainer.state.log_history if "loss" in entry]
    theirs = read_rows(job["metrics"])
    assert [row["step"] for row in theirs] == [1, 2, 3]
    for row, entry in zip(theirs, ours, strict=True):
        assert row["loss"] == pytest.approx(entry["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(entry["grad_norm"], rel=1e-5)
        assert row["learning_rate"] == entry["learning_rate"]
    trainer.save_model(str(tmp_path / "saved"))
    expected = load_file(tmp_path / "saved" / "model.safetensors")
    found = load_file(tmp_path / "theirs" / "model.safetensors")
    begun = load_file(tmp_path / "model" / "model.safetensors")
    for name, weight in expected.items():
        assert (weight - found[name]).abs().max() < 1e-5, name
    assert max((weight - begun[name]).abs().max() for name, weight in expected.items()) > 1e-2, "it has moved"


def on_documents() -> dict[str, Any]:
    return {
        "name": "ixt", "type": "ixt", "init": "model", "backend": "openrlhf", "openrlhf": {"actors": 2},
        "data": {"world": "chain", "documents": 2000}, "feedback": {"template": "levels", "train": False},
        "packing": {"capacity": 64, "packed": False}, "steps": 40, "batch_size": 16, "micro_batch_size": 4,
        "optim": {"lr": 4e-3, "warmup_steps": 5, "schedule": "cosine"}, "checkpoint_every": 15,
        "evaluation": {"problems": 40, "max_new_tokens": 24, "wishes": {"best": 5}, "temperatures": [0.0]},
    }  # fmt: skip


@LONG
def test_a_run_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    straight, killed = (Run(tmp_path, name, [on_documents()], hidden_size=64) for name in ("straight", "killed"))
    straight.finish()
    killed.kill_after(15)
    assert len(killed.rows()) < 40
    killed.finish()
    assert [row["step"] for row in killed.rows()] == [*range(1, 41)]
    columns = ("step", "loss", "grad_norm", "learning_rate", "tokens", "flops")
    rows = [[{name: row[name] for name in columns} for row in run.rows()] for run in (straight, killed)]
    assert rows[0] == rows[1]
    assert rows[0][-1]["loss"] < 0.6 * rows[0][0]["loss"]
    weights = [load_file(run.stage / "model" / "model.safetensors") for run in (straight, killed)]
    assert all((weights[0][name] == weight).all() for name, weight in weights[1].items())
    (measured,) = killed.rows("eval")
    assert measured["step"] == 40
    assert "greedy/checked" in measured
    assert json.loads((killed.stage / "ledger.json").read_text())["tokens"]["train"] == rows[0][-1]["tokens"]
    page = (killed.folder / "report.html").read_text()
    assert f"{rows[0][-1]['flops'] / 1e9:.1f} G" in page, "its FLOPs are in the report"


@LONG
def test_replies_under_zero_3_lower_the_loss_of_what_is_held_out(tmp_path):
    file = tmp_path / "replies.jsonl"
    rows = [
        {"question": f"{i} + {i}?", "text": f"The sum is {2 * i}.", "feedback_level": 1 + i % 5} for i in range(120)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = {
        "name": "sft", "type": "sft", "init": "model", "backend": "openrlhf",
        "openrlhf": {"actors": 2, "zero_stage": 3, "flags": {"ds.grad_accum_dtype": "fp32"}},
        "data": {"sources": [{"path": str(file), "prompt": "question"}]}, "feedback": {"template": "levels"},
        "template": "plain", "packing": {"capacity": 96, "packed": False}, "epochs": 1, "batch_size": 8,
        "optim": {"lr": 1e-2}, "evaluation": {"holdout": 8},
    }  # fmt: skip
    run = Run(tmp_path, "sft", [stage], hidden_size=64, tokenizer="bytes")
    run.finish()
    assert [row["step"] for row in run.rows()] == [*range(1, 15)], "112 replies in one pass"
    before, after = run.rows("eval")
    assert (before["step"], after["step"]) == (0, 14)
    assert after["heldout/loss"] < 0.7 * before["heldout/loss"]
    assert "epochs: 1 are 14 updates" in json.loads((run.stage / "result.json").read_text())["notes"]
