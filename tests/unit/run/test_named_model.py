"""The model that a command names."""

from __future__ import annotations

from functools import partial

import pytest
from huggingface_hub import constants

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.errors import ConfigError
from ixt_rl.files import write_json
from ixt_rl.models import load_model, load_tokenizer
from ixt_rl.run.named_model import BASES, named_model, shared_base


@pytest.fixture
def runs(tmp_path):
    stages = tmp_path / "runs" / "try" / "stages"
    for model in (
        "base/model",
        "one/seed1/model",
        "two/seed1/model",
        "two/seed2/model",
        "cut/checkpoints/checkpoint-8",
    ):
        (stages / model).mkdir(parents=True)
        (stages / model / "config.json").write_text("{}")
    (tmp_path / "runs" / "try" / "model").symlink_to(stages / "one" / "seed1" / "model", target_is_directory=True)
    (tmp_path / "empty").mkdir()
    return tmp_path / "runs" / "try"


@pytest.mark.parametrize(
    ("words", "path", "name"),
    [
        ("", "model", "try"),
        ("stages/base", "stages/base/model", "try-base"),
        ("stages/base/model", "stages/base/model", "try-base"),
        ("stages/one", "stages/one/seed1/model", "try-one-seed1"),
        ("stages/two/seed2", "stages/two/seed2/model", "try-two-seed2"),
        ("stages/cut/checkpoints/checkpoint-8", "stages/cut/checkpoints/checkpoint-8", "try-cut-checkpoint-8"),
    ],
)
def test_what_a_run_has_made_is_a_model(runs, words, path, name):
    found = named_model(str(runs / words))
    assert (found.path, found.name) == (str(runs / path), name)


def test_a_base_that_runs_share_is_the_model_of_its_stage(runs):
    depends_on = {"settings": {"steps": 20, "optim": {"lr": 4e-3, "weight_decay": 0.0}}, "seed": None}
    write_json(runs / BASES, {"shared": depends_on, "gone": {"seed": 1}})
    model = shared_base(runs.parent, depends_on) / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    found = named_model(str(runs / "stages" / "shared"))
    assert (found.path, found.name) == (str(model), "try-shared")
    with pytest.raises(ConfigError, match="gone"):
        named_model(str(runs / "stages" / "gone"))


def test_any_other_name_is_of_the_hub():
    found = named_model("Qwen/Qwen3-1.7B")
    assert (found.path, found.name) == ("Qwen/Qwen3-1.7B", "Qwen3-1.7B")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stages/two", "seed1, .*seed2"),
        ("stages/cut", "checkpoint-8"),
        ("stages", "name a stage of it that is done: .*stages/base"),
        ("../../empty", "save_pretrained"),
        ("stages/bose", "did you mean `base`"),
        ("stages/base/model/config.json", "a model is a folder"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_name(runs, words, said):
    with pytest.raises(ConfigError, match=said):
        named_model(str(runs / words))


@pytest.mark.parametrize("load", [load_tokenizer, partial(load_model, train=False), partial(load_model, train=True)])
def test_what_cannot_be_loaded_is_named(load, tmp_path, monkeypatch):
    """An id that is no folder here, and a folder without its files."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for path, reason in (("models/smolm2", "no folder of that name is here"), (str(tmp_path), "cannot read its files")):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        with pytest.raises(ConfigError) as caught:
            load(path, ModelBlock(path=path))
        assert caught.value.what == f"model {path}"
        assert reason in caught.value.reason
