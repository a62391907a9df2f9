"""What a run looks at when it has imported the trainers of a user's own, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError
from ixt_rl.run import run_config
from ixt_rl.run.trainers import check_own_trainers, configured, trainer_class
from tests.integration.run_helpers import config, online, sip

HEAD = """
from dataclasses import dataclass
from ixt_rl.trainers import InTROConfig, InTROTrainer

def hidden(base):
    return base

@dataclass
class MyConfig(InTROConfig):
    power: float = 0.5
"""

TRAINER = """
class MyInTRO(hidden(InTROTrainer)):
    config_class = hidden(MyConfig)
"""


def own(tmp_path: Path, source: str, **changes):
    (tmp_path / "mine.py").write_text(source)
    stage = online("own", type="python", trainer="mine.py:MyInTRO", like="intro", init="model", **changes)
    return config(tmp_path, [stage])


def problems(run) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as raised:
        check_own_trainers(run.name, run.stages)
    return {one.path.removeprefix("stages.own."): one.reason for one in raised.value.problems}


def test_options_are_checked_against_the_class_itself_where_its_source_did_not_tell(tmp_path):
    run = own(tmp_path, HEAD + TRAINER, options={"power": "high", "powr": 1})
    found = problems(run)
    assert found == {
        "options.power": "expected a number, got text",
        "options.powr": "MyConfig has no option `powr`",
    }


def test_a_trainer_is_imported_before_the_first_model_is_made(tmp_path):
    run = own(tmp_path, HEAD + TRAINER + "raise KeyError('of mine')\n")
    with pytest.raises(InvalidConfig, match="importing it raised KeyError: 'of mine'"):
        run_config(run)
    assert not (tmp_path / "runs" / "run" / "initial").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class MyInTRO(hidden(object)):\n    config_class = MyConfig\n", "trains with a subclass of OnlineTrainer"),
        ("MyInTRO = hidden(print)\n", "trains with a subclass of OnlineTrainer"),
        ("class MyInTRO(hidden(InTROTrainer)):\n    config_class = dict\n", "fields of that dataclass"),
        (
            "from ixt_rl.trainers import GRPOConfig\n"
            "class MyInTRO(hidden(InTROTrainer)):\n    config_class = GRPOConfig\n",
            "stages like intro set candidates, include_taken, clip, importance_ratio, posterior, posterior_decay, keep",
        ),
        (TRAINER + "    def factor(self, logp, logq):\n        return logp\n", "the hook is called as factor"),
    ],
    ids=["no-trainer", "no-class", "no-dataclass", "other-config", "old-hook"],
)
def test_a_class_that_cannot_train_the_stage_is_refused(tmp_path, source, reason):
    assert reason in problems(own(tmp_path, HEAD + source))["trainer"]


def test_options_reach_the_config_and_never_replace_what_a_key_sets(tmp_path):
    run = own(tmp_path, HEAD + TRAINER, options={"power": 0.25})
    (stage,) = run.stages
    trainer = trainer_class(stage)
    assert configured(stage, trainer, output_dir=str(tmp_path), bf16=False).power == 0.25
    with pytest.raises(ConfigError, match=r"stages\.own\.options\.power"):
        configured(stage, trainer, output_dir=str(tmp_path), bf16=False, power=1.0)


def test_what_a_config_class_refuses_is_said_at_its_stage(tmp_path):
    refusing = (
        "    def __post_init__(self):\n        super().__post_init__()\n"
        "        if self.power < 0:\n            raise ValueError('power must not be negative')\n"
    )
    source = (HEAD + TRAINER).replace("    power: float = 0.5\n", "    power: float = 0.5\n" + refusing)
    (stage,) = own(tmp_path, source, options={"power": -1.0}).stages
    with pytest.raises(ConfigError) as caught:
        configured(stage, trainer_class(stage), output_dir=str(tmp_path), bf16=False)
    assert caught.value.what == "stages.own.options: {'power': -1.0}"
    assert "MyConfig refuses them, or another key: ValueError: power must not be negative" in caught.value.reason


TAUGHT = """
from ixt_rl.trainers import SIPTrainer

def teacher(items):
    return [None for _ in items]

class Taught(SIPTrainer):
    sources = {"teacher": teacher}
"""


def test_sources_of_candidates_are_those_of_the_trainer(tmp_path):
    (tmp_path / "taught.py").write_text(TAUGHT)
    own = {"type": "python", "trainer": "taught.py:Taught", "rewriter": None}
    check_own_trainers("run", config(tmp_path, [sip("sip", **own, sources=["rollout", "teacher"])]).stages)
    run = config(tmp_path, [sip("sip", **own, sources=["rollout", "teacer"])])
    with pytest.raises(InvalidConfig, match="did you mean `teacher`") as raised:
        check_own_trainers("run", run.stages)
    assert raised.value.problems[0].path == "stages.sip.sources"
    with pytest.raises(InvalidConfig, match="choose of original, rewrite, rollout"):
        config(tmp_path, [sip("sip", sources=["rollout", "teacher"], rewriter=None)])
