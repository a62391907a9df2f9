"""`type: python`: a trainer of a user's own is looked into before anything is imported, and again before a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.config.load import dump_yaml, load_run, notes
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.methods.intro import IntroStage
from ixt_rl.methods.python import OwnTrainerStage
from ixt_rl.methods.registry import SPECS, spec_of
from ixt_rl.python_fields import class_fields, written_fields
from ixt_rl.python_names import PythonName, module_file
from ixt_rl.python_source import ClassSource, find, lineage

TRAINER = """
from dataclasses import dataclass, field
from typing import ClassVar, Literal

raise RuntimeError("check imports nothing")

from beside import Parent, ParentConfig

Mode = Literal["soft", "hard"]


@dataclass
class MyConfig(ParentConfig):
    power: float = 0.5
    rounds: int | None = None
    words: list[str] = field(default_factory=list)
    mode: Mode = "soft"
    weights: "dict[str, float] | None" = None
    made: int = field(default=0, init=False)


class MyInTRO(Parent):
    config_class: ClassVar[type] = MyConfig


class Nothing:
    pass


def function():
    pass
"""

BESIDE = """
import dataclasses

from ixt_rl import trainers
from ixt_rl.trainers import InTROConfig


@dataclasses.dataclass(kw_only=True)
class ParentConfig(InTROConfig):
    floor: float


Parent = trainers.InTROTrainer
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TRAINER)
    (tmp_path / "beside.py").write_text(BESIDE)
    return tmp_path


def loaded(folder: Path, **changes: Any):
    stage = {
        "name": "own",
        "type": "python",
        "trainer": "mine.py:MyInTRO",
        "options": {"floor": 0.1},
        "data": {"world": "addition"},
        "steps": 4,
        "rollouts_per_step": 16,
        "sampling": {"max_new_tokens": 34},
        "optim": {"lr": 1e-3},
        "rewards": [{"type": "world"}],
        **changes,
    }
    stages = [{key: value for key, value in stage.items() if value is not ...}]
    file = folder / "run.yaml"
    file.write_text(dump_yaml({"name": "own", "model": {"new": {}}, "stages": stages}))
    return load_run(file)


def problems(folder: Path, **changes: Any) -> dict[str, tuple[str, str]]:
    """Key below the stage -> reason and remedy."""
    with pytest.raises(InvalidConfig) as raised:
        loaded(folder, **changes)
    return {one.path.removeprefix("stages.own."): (one.reason, one.remedy) for one in raised.value.problems}


def test_a_file_beside_the_run_file_is_found_and_its_base_says_which_method(folder):
    config = loaded(folder)
    (stage,) = config.stages
    assert isinstance(stage, OwnTrainerStage)
    assert isinstance(stage, IntroStage)
    assert stage.like == "intro"
    assert stage.trainer == f"{folder / 'mine.py'}:MyInTRO"
    assert spec_of(stage).options(stage)["candidates"] == 5
    assert notes(config) == []


def test_the_current_folder_comes_first(folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(TRAINER.replace("MyInTRO", "Other"))
    (other / "beside.py").write_text(BESIDE)
    monkeypatch.chdir(other)
    assert loaded(folder, trainer="mine.py:Other").stages[0].trainer == "mine.py:Other"


def test_unknown_options_are_refused_with_the_one_that_was_meant(folder):
    reason, remedy = problems(folder, options={"floor": 0.1, "powr": 0.5})["options.powr"]
    assert reason == "MyConfig has no option `powr`"
    assert remedy.startswith("did you mean `power`? its options: ")
    assert "made" not in remedy


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"power": "0.5"}, "expected a number, got text"),
        ({"rounds": 2.5}, "expected a whole number, got a number with a fraction"),
        ({"rounds": True}, "expected a whole number, got true/false"),
        ({"words": "a"}, "expected a list, got text"),
        ({"words": ["a", 1]}, "expected text, got a whole number"),
        ({"mode": "sof"}, "not one of the known words"),
        ({"weights": {"a": "b"}}, "expected a number, got text"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_of_another_type_are_refused_in_the_words_of_every_key(folder, options, reason):
    ((key, (found, _)),) = problems(folder, options={"floor": 0.1, **options}).items()
    assert (key, found) == (f"options.{next(iter(options))}", reason)


@pytest.mark.parametrize("options", [{"rounds": None}, {"power": 1}, {"mode": "hard", "words": ["a"], "weights": {}}])
def test_options_that_fit_are_taken(folder, options):
    assert loaded(folder, options={"floor": 0, **options}).stages[0].options == {"floor": 0, **options}


def test_an_option_without_a_default_is_missed(folder):
    assert problems(folder, options={}) == {"options.floor": ("it has no default", "add `floor:` with a number")}


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("learning_rate", "optim.lr"),
        ("max_steps", "steps"),
        ("candidates", "intro.candidates"),
        ("posterior_decay", "intro.posterior.decay"),
    ],
)
def test_what_another_key_sets_is_refused_with_that_key(folder, option, key):
    found = problems(folder, options={"floor": 0.1, option: 1})
    assert found == {f"options.{option}": (f"`{key}` of the run file sets it", f"set `{key}` there")}


def test_all_problems_come_in_one_list(folder):
    found = problems(folder, options={"a": 1, "power": "x"}, steps=0, trainer="mine.py:MyInTRO")
    assert set(found) == {"options.a", "options.power", "options.floor", "steps"}


def test_the_block_of_the_method_is_checked(folder):
    reason, remedy = problems(folder, intro={"candidate": 3})["intro.candidate"]
    assert reason == "unknown key `candidate`"
    assert remedy.startswith("did you mean `candidates`?")


@pytest.mark.parametrize(
    ("trainer", "key", "words"),
    [
        ("mine.py:MyIntro", "trainer", "did you mean `MyInTRO`"),
        ("mime.py:MyInTRO", "trainer", "no such file"),
        ("broken.py:A", "trainer", "is no Python"),
        ("no.such:Trainer", "trainer", "no module 'no.such' is installed"),
        ("mine", "trainer", "it must name a file and a class in it"),
        (..., "trainer", "it names the class that trains"),
        ("mine.py:Nothing", "like", "no trainer of this library is in plain sight"),
        (
            "ixt_rl.trainers:PolicyGradientTrainer",
            "like",
            "PolicyGradientTrainer, a base of the class, is the trainer of no",
        ),
        ("ixt_rl.trainers:IXTTrainer", "like", "write `like:` with one of: pretrain, ixt, sft"),
    ],
)
def test_a_trainer_that_is_none_is_refused(folder, trainer, key, words):
    (folder / "broken.py").write_text("class A(:\n")
    found = problems(folder, trainer=trainer)
    assert list(found) == [key]
    assert words in " ".join(found[key])


def test_a_trainer_that_several_methods_share_is_told_which_they_are(folder):
    _, remedy = problems(folder, trainer="ixt_rl.trainers:PolicyGradientTrainer")["like"]
    offered = remedy.partition("one of: ")[2].split(", ")
    assert {"rloo", "gpg", "rlsd"} <= set(offered)
    assert not {"intro", "raft", "star", "sip", "ixt"} & set(offered)


def test_a_class_that_the_runner_could_not_train_with_is_refused(folder):
    reason, remedy = problems(folder, trainer="mine.py:Nothing", like="intro")["trainer"]
    assert reason == "a stage like intro trains with a subclass of OnlineTrainer, which this is not"
    assert "ixt_rl.trainers.online.OnlineTrainer" in remedy


def test_a_method_that_there_is_not_is_refused(folder):
    reason, remedy = problems(folder, like="into")["like"]
    assert reason == "no method that trains has that name"
    trained = dict.fromkeys(spec.type for spec in SPECS if spec.trainer is not None)
    assert remedy == f"did you mean `intro`? one of: {', '.join(trained)}"


def test_check_says_what_it_could_not_look_into(folder):
    (folder / "mine.py").write_text(TRAINER.replace("class MyInTRO(Parent)", "class MyInTRO(make_base())"))
    (line,) = notes(loaded(folder, like="intro"))
    assert line == (
        "stages.own.trainer: not looked into: make_base(), a base of MyInTRO; `run` checks it before the first stage"
    )


def test_check_says_which_options_it_could_not_look_into(folder):
    text = TRAINER.replace("mode: Mode", "mode: tuple[int, int]")
    (folder / "mine.py").write_text(text.replace("class MyConfig(ParentConfig)", "class MyConfig(base_config())"))
    (line,) = notes(loaded(folder, options={"mode": [1, 2], "other": 3}))
    assert "not looked into: base_config(), a base of MyConfig, the type of options.mode, options.other;" in line


def test_a_class_that_a_file_takes_by_a_star_is_found(folder):
    (folder / "all_of_it.py").write_text("from math import *\nfrom mine import *\n")
    (stage,) = loaded(folder, trainer="all_of_it.py:MyInTRO").stages
    assert stage.like == "intro"
    assert "defines no 'MyIntro'" in problems(folder, trainer="mine.py:MyIntro")["trainer"][0]
    (folder / "all_of_it.py").write_text("from beside import *\n")
    assert "defines no 'MyInTRO'" in problems(folder, trainer="all_of_it.py:MyInTRO")["trainer"][0]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("from .mine import MyInTRO", "write `from mine import MyInTRO`, or name it as package.module:MyInTRO"),
        ("from . import MyInTRO", "name it as package.module:MyInTRO"),
    ],
)
def test_a_file_that_imports_as_only_a_package_s_module_can_is_refused(folder, line, remedy):
    (folder / "inside.py").write_text(f"import os\n{line}\n")
    reason, said = problems(folder, trainer="inside.py:MyInTRO")["trainer"]
    assert reason == f"line 2 of {folder / 'inside.py'} is `{line}`, and a file is no part of a package"
    assert said == remedy


def test_an_installed_class_is_found_by_its_dotted_name(folder):
    (stage,) = loaded(folder, trainer="ixt_rl.trainers:InTROTrainer", options={"disable_dropout": False}).stages
    assert stage.like == "intro"


TRAINERS = [
    "GRPOConfig", "IXTConfig", "InTROConfig", "OPSDConfig", "PretrainConfig", "RAFTConfig", "SDFTConfig", "SDPOConfig",
    "SIPConfig", "STaRConfig",
    "LaTROConfig", "RLPConfig",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAINERS)
def test_fields_are_read_as_the_class_has_them(name):
    from ixt_rl import trainers

    source = find(module_file("ixt_rl.trainers") or Path(), name)
    if source is None:  # not among what the package shows
        pytest.fail(f"{name} is not in plain sight")
    assert isinstance(source, ClassSource)
    assert written_fields(lineage(source)) == class_fields(getattr(trainers, name))


ALIASED = """
from __future__ import annotations

import typing as t
from dataclasses import InitVar, dataclass as data, field as given
from typing import Annotated, ClassVar as Shared, Literal as Words, Optional as Maybe

from beside import ParentConfig as Parent


@data
class Config(Parent):
    shared: Shared[int] = 3
    made: float = given(init=False, default=1.0)
    needed: int = given(kw_only=True)
    maybe: Maybe[int] = None
    word: Words["u", "v"] = "u"
    share: Words[0.5, 1.0] = 1.0
    far: t.Optional["t.Union[int, str]"] = None
    told: Annotated[float, "of the ratio"] = 1.0
    first: InitVar[float] = 2.0
    items: list[Words["a"]] = given(default_factory=list)
    mode: tuple[int, int] = (1, 2)

    def __post_init__(self, first):
        super().__post_init__()
"""


def test_names_that_a_file_imports_under_others_are_followed(folder, monkeypatch):
    from ixt_rl.import_path import load_named

    monkeypatch.setattr("sys.path", list(sys.path))
    (folder / "aliased.py").write_text(ALIASED)
    source = find(folder / "aliased.py", "Config")
    assert isinstance(source, ClassSource)
    written = written_fields(lineage(source))
    assert written == class_fields(load_named(f"{folder / 'aliased.py'}:Config", "trainer"))
    own = {name: one for name, one in written.items() if one.owner == "Config"}
    assert list(own) == ["needed", "maybe", "word", "share", "far", "told", "first", "items", "mode"]
    assert [name for name, one in own.items() if one.required] == ["needed"]
    assert [name for name, one in own.items() if one.annotation is None] == ["mode"]


def test_a_decorator_that_may_make_a_dataclass_is_named_and_its_fields_are_left_to_the_run(folder):
    text = TRAINER.replace("@dataclass\n", "@options\n").replace("\n\nMode =", "\nfrom beside import options\n\nMode =")
    (folder / "mine.py").write_text(text)
    (folder / "beside.py").write_text(BESIDE + "\n\ndef options(one):\n    return dataclasses.dataclass(one)\n")
    (line,) = notes(loaded(folder, options={"floor": 0.1, "power": 0.2}))
    assert "not looked into: @options of MyConfig, options.power;" in line


def test_every_method_that_trains_has_a_stage_of_this_type():
    trained = [spec for spec in SPECS if spec.trainer is not None]
    assert len(OwnTrainerStage.__subclasses__()) == len(trained)
    for spec in trained:
        assert PythonName.parse(str(spec.trainer)).file is not None


CHECK = """
import sys
from click.testing import CliRunner
from ixt_rl.cli import main
for words in ({file!r} and ["check", {file!r}], ["schema"], ["--help"], ["run", "--help"]):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, (words, result.output)
heavy = [name for name in ("torch", "trl", "transformers", "vllm", "ray", "matplotlib") if name in sys.modules]
assert not heavy, heavy
"""


def test_check_schema_and_help_import_nothing_heavy(folder):
    loaded(folder)
    done = subprocess.run([sys.executable, "-c", CHECK.format(file=str(folder / "run.yaml"))], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
