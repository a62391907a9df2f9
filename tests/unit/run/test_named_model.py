"""The model that a command names."""

from __future__ import annotations

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.run.named_model import named_model


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
