"""Optimizers by name and passes in place of steps: what reaches transformers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.optimization import Adafactor

from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.blocks.model import ModelBlock, SelfChecksBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import DataError
from ixt_rl.run.stages.train import training_arguments
from tests.integration.run_helpers import base, config, online


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adafactor", Adafactor),
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_an_optimizer_is_the_one_of_its_name(name, kind, tmp_path):
    at = SimpleNamespace(
        folder=SimpleNamespace(checkpoints=tmp_path),
        model=ModelBlock(path="x"),
        self_checks=SelfChecksBlock(),
        launch=LaunchBlock(),
    )
    given = training_arguments(OptimBlock(name=name, lr=0.25), 3, 0, at, None)
    del given["self_checks"]
    found, options = Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(**given, use_cpu=True))
    assert found is kind
    assert options["lr"] == 0.25
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([2.0])
    found([weight], **options).step()
    assert weight.item() < 1


def test_sgd_is_plain_gradient_descent():
    options = Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(optim="sgd", learning_rate=0.25, use_cpu=True))[1]
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    descent = torch.optim.SGD([weight], **options)
    for _ in range(2):
        weight.grad = torch.tensor([2.0])
        descent.step()
    assert weight.item() == 1 - 2 * 0.25 * 2


def problems(folder: Path, count: int = 8) -> dict:
    file = folder / "problems.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(count)))
    return {"path": str(file)}


def passes(folder: Path, **changes):
    stage = online("rl", init="model", data=problems(folder), rewards=[{"type": "math"}], rollouts_per_step=8)
    del stage["steps"], stage["evaluation"]
    return {**stage, **changes}


def of(folder: Path, **changes):
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    return config(folder, [passes(folder, **changes)], model=model).stages[0]


@pytest.mark.parametrize(
    ("changes", "rows", "updates"),
    [
        ({"epochs": 1}, 8, 4),
        ({"epochs": 1.5}, 8, 6),
        ({"epochs": 2}, 9, 8),
        ({"epochs": 0.01}, 8, 1),
        ({"epochs": 1, "num_iterations": 3, "intro": {"importance_ratio": True}}, 8, 12),
        ({"epochs": 1, "steps_per_generation": 2, "intro": {"importance_ratio": True}}, 10, 4),
        ({"steps": 5}, 8, 5),
    ],
    ids=["one", "half", "the odd one out", "at least one", "used again", "sampled together", "steps"],
)
def test_passes_become_updates(changes, rows, updates, tmp_path):
    assert of(tmp_path, **changes).lasting(rows).steps == updates


def test_a_pass_without_an_update_is_refused(tmp_path):
    with pytest.raises(DataError, match="2 are sampled at once"):
        of(tmp_path, epochs=1).lasting(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 1, "steps": 2}, "steps=2 and epochs=1"),
        ({}, "add `steps:` with a whole number"),
        ({"steps": 2, "optim": {"lr": 0.1, "name": "sgd", "betas": [0.8, 0.9]}}, "betas=[0.8, 0.9] with name=sgd"),
        ({"steps": 2, "optim": {"lr": 0.1, "name": "adam"}}, "did you mean `adamw`"),
        ({"num_train_epochs": 2}, "epochs"),
    ],
    ids=["both", "neither", "betas", "a wrong name", "TRL's name"],
)
def test_what_cannot_be_meant_is_refused(changes, said, tmp_path):
    with pytest.raises(InvalidConfig) as error:
        of(tmp_path, **changes)
    assert said in str(error.value)


def test_editors_ask_for_neither():
    schemas = [s for s in RunConfig.model_json_schema()["$defs"].values() if "epochs" in s.get("properties", {})]
    assert schemas
    assert not any("steps" in schema["required"] for schema in schemas)


def test_a_world_has_no_end(tmp_path):
    with pytest.raises(InvalidConfig, match="a world has no end"):
        config(tmp_path, [base(), {**online("rl"), "steps": None, "epochs": 2}])
