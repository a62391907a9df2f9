"""A stage on documents for OpenRLHF's SFT trainer: its flags, what is refused, its rows, and what comes back.

What stands in for OpenRLHF here hands back the model that it was given; tests/openrlhf has the real one.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ixt_rl.blocks.openrlhf_sft_flags import TRAIN_SFT
from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.files import read_json
from ixt_rl.integrations.openrlhf.environment import PINS, VARIABLE
from ixt_rl.integrations.openrlhf.flags import JobSettings, sft_flags
from ixt_rl.integrations.openrlhf.token_files import TokenFiles, write_token_files
from ixt_rl.run import run_config
from ixt_rl.run.folder import StageFolder
from ixt_rl.trainers.self_checks import CHECKS
from tests.integration.run_helpers import config, rows

SETTINGS = JobSettings("m", "sdpa", 3, Path("c"), Path("o"), resume=True)

STANDIN = """\
#!{python}
import json, os, shutil, sys
from pathlib import Path

if sys.argv[1] == "-c":
    print({pins!r})
    sys.exit()
assert sys.argv[1:3] == ["-m", "ixt_rl.integrations.openrlhf.sft_driver"], sys.argv
assert "LOCAL_RANK" not in os.environ, "no variable of this process's own rank"
job = json.loads(Path(sys.argv[3]).read_text())
flag = dict(zip(job["command"], job["command"][1:]))
shutil.copytree(flag["--model.model_name_or_path"], flag["--ckpt.output_dir"])
shutil.copytree(flag["--data.dataset"], {rows!r})
with open(job["metrics"], "w") as file:
    for step in range(1, job["steps"] + 1):
        file.write(json.dumps({{"step": step, "loss": 2.0 / step, "grad_norm": 1.0, "learning_rate": 1e-3}}) + "\\n")
"""


def on_documents(**changes: Any) -> dict[str, Any]:
    return {
        "name": "ixt", "type": "ixt", "init": "model", "backend": "openrlhf", "openrlhf": {"actors": 2},
        "data": {"world": "chain", "documents": 60},
        "feedback": {"template": "critique", "train": False}, "packing": {"capacity": 48, "packed": False},
        "steps": 6, "batch_size": 8, "micro_batch_size": 2, "optim": {"lr": 1e-3, "warmup_steps": 2}, **changes,
    }  # fmt: skip


def of(tmp_path: Path, **changes: Any):
    return config(tmp_path, [on_documents(**changes)], model=MODEL)


MODEL = {
    "new": {"hidden_size": 32, "heads": 2, "layers": 1, "intermediate_size": 64, "tokenizer": "bytes"},
    "dtype": "bfloat16",
}


def test_keys_become_flags(tmp_path):
    (stage,) = of(tmp_path, openrlhf={"actors": 2, "flags": {"adam.eps": 1e-6}}, checkpoint_every=3).stages
    found = sft_flags(stage, SETTINGS, 6, Path("rows"))
    expected = {
        "data.dataset": "rows", "data.max_samples": 48, "train.max_epochs": 1, "train.batch_size": 8,
        "train.micro_batch_size": 2, "adam.lr": 1e-3, "adam.eps": 1e-6, "lr_scheduler": "constant_with_warmup",
        "ckpt.save_steps": 3, "ckpt.load_enable": True, "ds.zero_stage": 2, "data.max_len": 48, "max_norm": 1.0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert math.ceil(6 * found["lr_warmup_ratio"]) == 2
    assert {*found} <= {*TRAIN_SFT.set, *TRAIN_SFT.free}, "each flag is one that the table knows"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "pretrain", "feedback": {}}, "set type: ixt or sft"),
        ({"packing": {"capacity": 48}}, "packing.packed: false"),
        ({"lora": {"r": 2}}, "leave lora out"),
        ({"ema": 0.9}, "no average of the weights"),
        ({"optim": {"name": "sgd", "lr": 1e-3}}, "set optim.name: adamw"),
        ({"micro_batch_size": 8}, "whole micro-batches"),
        ({"openrlhf": {"engines": 2}}, "engines"),
        ({"openrlhf": {"flags": {"ds.packing_samples": True}}}, "split or pack rows"),
        ({"openrlhf": {"flags": {"actor.adam.eps": 1e-6}}}, "did you mean `adam.eps`"),
        ({"openrlhf": {"flags": {"data.dataset": "x"}}}, "data sets it"),
        ({"openrlhf": {"flags": {"ds.zpg": 2}}}, "only ZeRO-3"),
        ({"openrlhf": {"actors": 4, "zero_stage": 3, "flags": {"ds.zpg": 3}}}, "a multiple of ds.zpg"),
        ({"openrlhf": {"flags": {"model.gradient_checkpointing_reentrant": True}}}, "without gradient_checkpointing"),
        ({"backend": None}, "set backend: openrlhf"),
    ],
)
def test_what_its_trainer_cannot_honour_is_refused(tmp_path, changes, says):
    with pytest.raises((ConfigError, InvalidConfig), match=says):
        of(tmp_path, **changes)


def test_its_masters_are_of_bfloat16_weights(tmp_path):
    with pytest.raises((ConfigError, InvalidConfig), match=r"set model\.dtype: bfloat16"):
        config(tmp_path, [on_documents()], model={**MODEL, "dtype": "float32"})


def test_a_stage_without_a_backend_is_as_it_was(tmp_path):
    asked = on_documents()
    for key in ("backend", "openrlhf"):
        del asked[key]
    (stage,) = config(tmp_path, [asked], model=MODEL).stages
    assert not {"backend", "openrlhf"} & {*stage.model_dump()}


def test_evaluations_in_between_are_said_to_be_unread(tmp_path):
    (stage,) = of(tmp_path, evaluation={"problems": 3, "every": 2}).stages
    assert {key for _, key, _, why in stage.unread if why == "backend: openrlhf"} == {"every", "curve_problems"}


def test_rows_are_read_as_they_were_written(tmp_path):
    given = [([5, 6, 7], [IGNORED, 6, IGNORED]), ([8], [IGNORED]), ([1, 2], [IGNORED, 2])]
    write_token_files(tmp_path / "rows", ({"input_ids": ids, "labels": labels} for ids, labels in given))
    found = TokenFiles(tmp_path / "rows")
    assert len(found) == 3
    read = [(ids.tolist(), trained.tolist()) for ids, trained in (found[place] for place in range(3))]
    assert read == [(ids, [label != IGNORED for label in labels]) for ids, labels in given]
    with pytest.raises(DataError, match="the folder of the run"):
        TokenFiles(tmp_path)


@pytest.fixture
def python(tmp_path, monkeypatch) -> Path:
    """Stands in for OpenRLHF's interpreter; the rows that it was given are left in the folder that is returned."""
    file, kept = tmp_path / "python", tmp_path / "kept"
    file.write_text(STANDIN.format(python=sys.executable, pins=json.dumps(PINS), rows=str(kept)))
    file.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(file))
    return kept


def test_a_run_hands_out_our_rows_and_takes_back_model_metrics_and_cost(tmp_path, python):
    evaluation = {"problems": 3, "max_new_tokens": 4, "temperatures": [0.0], "wishes": {"best": 5}}
    here = on_documents(name="here", evaluation=evaluation)
    del here["backend"], here["openrlhf"]
    folder = run_config(config(tmp_path, [on_documents(evaluation=evaluation), here], model=MODEL))
    found = TokenFiles(python)
    assert len(found) == 6 * 8
    assert max(len(found[place][0]) for place in range(48)) <= 48
    tokenizer = AutoTokenizer.from_pretrained(folder / "stages" / "ixt" / "seed1" / "model")
    shown = [
        tuple(tokenizer.decode(ids[mask == of]) for of in (False, True))
        for ids, mask in map(found.__getitem__, range(48))
    ]
    assert sum("critique:" in untrained for untrained, _ in shown) > 5
    assert not any("critique:" in trained for _, trained in shown), "feedback is in the prompt, and not in the loss"
    of_theirs, of_ours = ([row for row in rows(folder) if row["stage"] == name] for name in ("ixt", "here"))
    theirs = {row["step"]: row for row in of_theirs if row["phase"] == "train"}
    ours = {row["step"]: row for row in of_ours if row["phase"] == "train"}
    assert [*theirs] == [1, 2, 3, 4, 5, 6]
    for column in ("tokens", "tokens/annotate", "flops", "flops/train", "flops/annotate"):
        assert theirs[6][column] == ours[6][column] > 0, column
    assert theirs[6]["tokens"] == sum(len(found[place][0]) for place in range(48))
    assert theirs[2]["loss"] == 1.0
    assert [row["step"] for row in of_theirs if row["phase"] == "eval"] == [6]
    (measured,) = (row for row in of_theirs if row["phase"] == "eval")
    assert "greedy/checked" in measured
    stage = folder / "stages" / "ixt" / "seed1"
    assert (stage / "model" / "config.json").is_file()
    assert read_json(stage / "ledger.json") == read_json(folder / "stages" / "here" / "seed1" / "ledger.json")
    assert (read_json(stage / "result.json") or {})["documents"]["pieces"] >= 48
    assert not (stage / "openrlhf" / "rows").exists(), "rows may be large, and are made again"
    assert "ixt" in (folder / "report.html").read_text(encoding="utf-8")
    assert isinstance(load_run(folder / "config.yaml").stages[0].openrlhf.actors, int)


def test_ends_are_compared_before_it_trains_and_what_disagrees_is_said(tmp_path, python, monkeypatch):
    for name in ("head", "packing", "engine", "factor"):
        monkeypatch.setitem(CHECKS, name, lambda trainer: pytest.fail("what it compares is not what trains here"))
    monkeypatch.setitem(CHECKS, "ends", lambda trainer: "<eos> (tokenizer); the generation config says 7")
    folder = run_config(of(tmp_path))
    notes = (read_json(folder / "stages" / "ixt" / "seed1" / "result.json") or {})["notes"]
    assert "ends: <eos> (tokenizer); the generation config says 7" in notes


def test_documents_that_end_fill_their_last_update_with_nothing(tmp_path, python):
    changes = {"epochs": 1, "steps": None, "data": {"world": "chain", "documents": 41}}
    folder = run_config(of(tmp_path, packing={"capacity": 512, "packed": False}, **changes))
    assert max(row["step"] for row in rows(folder)) == 6
    found = TokenFiles(python)
    assert len(found) == 48
    assert [found[place][1].any() for place in range(48)] == [True] * 41 + [False] * 7


def test_a_stage_that_was_stopped_drops_rows_after_its_checkpoint(tmp_path):
    from ixt_rl.integrations.openrlhf.job import ACTOR
    from ixt_rl.integrations.openrlhf.recording import seal_written
    from ixt_rl.run.stages.openrlhf_job import go_on

    folder = StageFolder(tmp_path, "ixt", "ixt", 1, "fingerprint")
    for step in range(1, 6):
        folder.add_metrics("train", step, 0, 1.0, 0.1, {})
    written = folder.checkpoints / ACTOR / "global_step4"
    written.mkdir(parents=True)
    (written / "optim_states.pt").write_text("states")
    seal_written(folder.checkpoints / ACTOR, 4, 6)
    assert go_on(folder) == folder.checkpoints / "checkpoint-4"
    assert [row["step"] for row in folder.metrics()] == [1, 2, 3, 4]
    assert (folder.checkpoints / ACTOR / "global_step4" / "optim_states.pt").read_text() == "states"
