"""The table of methods: what it names is there, and a new method is a file and a line of it, nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_rl.import_path import load
from ixt_rl.methods.registry import SPECS, STAGES, find, types
from tests.house import ROOT
from tests.unit.config.test_own_trainer import loaded

NAMES = [f"{place}-{spec.type}" for place, spec in enumerate(SPECS)]


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_what_a_method_names_is_there(spec):
    assert callable(load(spec.runner))
    assert spec.precondition is None or callable(load(spec.precondition))
    if spec.trainer is not None:
        assert isinstance(load(spec.trainer).config_class, type)


@pytest.mark.parametrize("stage", STAGES, ids=[f"{place}-{stage.__name__}" for place, stage in enumerate(STAGES)])
def test_every_stage_says_what_it_is(stage):
    assert stage.__doc__


FILE = '''
"""A method of a test."""

from typing import ClassVar, Literal

from ixt_rl.blocks.strict import PositiveFloat, Strict
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import MethodReport, MethodSpec, Panel


class NewBlock(Strict):
    """Keys of the new method."""

    strength: PositiveFloat = 1.0


class NewStage(OnlineStage):
    """A method that is new."""

    type: Literal["new"]
    new: NewBlock = NewBlock()
    block: ClassVar[str] = "new"


SPEC = MethodSpec(
    type="new",
    stage=NewStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.intro:InTROTrainer",
    options=lambda stage: {"clip": stage.new.strength},
    needs=frozenset({"engine"}),
    block="new",
    report=MethodReport(
        label=lambda block: "Brand new",
        learns_from="rollouts",
        title="The new method's own",
        caption="How strong it is.",
        panels=(Panel("strength of the new", (("new/strength", "-", ""),)),),
        glossary={"new/strength": "how strong the new method is"},
    ),
)
'''


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The library with a method more: links to its files, but for the table."""
    package = tmp_path / "ixt_rl"
    (package / "methods").mkdir(parents=True)
    for source, target in ((ROOT / "ixt_rl", package), (ROOT / "ixt_rl" / "methods", package / "methods")):
        for path in source.iterdir():
            if path.name not in ("methods", "registry.py", "__pycache__"):
                (target / path.name).symlink_to(path)
    for name in ("trainers", "rewards", "setup.cfg"):
        (tmp_path / name).symlink_to(ROOT / name)
    table = (ROOT / "ixt_rl" / "methods" / "registry.py").read_text()
    with_line = table.replace("    intro.SPEC,\n", "    intro.SPEC,\n    new.SPEC,\n")
    assert with_line != table
    (package / "methods" / "registry.py").write_text(with_line.replace("    ixt,\n", "    ixt,\n    new,\n", 1))
    (package / "methods" / "new.py").write_text(FILE)
    return tmp_path


def ran(house: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=house, env={"PYTHONPATH": str(house), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


RUN = """
name: trial
model: {new: {}}
stages:
  - name: mine
    type: new
    data: {world: addition, view: parity}
    steps: 4
    rollouts_per_step: 16
    sampling: {max_new_tokens: 34}
    optim: {lr: 1e-3}
    rewards: [{type: world}]
    new: {strength: 2.0}
    grpo: {beta: 0.1}
"""


def test_a_new_method_is_a_file_and_a_line_of_the_table(house):
    schema = json.loads(ran(house, "-m", "ixt_rl", "schema"))
    assert schema["$defs"]["NewStage"]["description"] == "A method that is new."
    assert "OwnNewStage" in schema["$defs"]
    assert "A method that is new." in ran(house, "-m", "ixt_rl", "methods")
    (house / "run.yaml").write_text(RUN)
    said = ran(house, "-m", "ixt_rl", "check", "run.yaml")
    assert "ok - mine (new)" in said
    assert "stages.mine.grpo is not read by type: new" in said

    folder = house / "runs" / "trial"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(RUN)
    rows = [
        {"stage": "mine", "type": "new", "seed": 1, "phase": phase, "step": step, "rollouts": 16 * step, "flops": step,
         "new/strength": 2.0, "sampled/strict": 0.5, "sampled/checked": 0.5, "greedy/strict": 0.5}
        for phase in ("train", "eval") for step in (0, 2, 4)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran(house, "-m", "ixt_rl", "report", "runs/trial")
    page = (folder / "report.html").read_text()
    for words in ("Brand new", "The new method&#39;s own, view parity", "how strong the new method is"):
        assert words in page.replace("'", "&#39;"), words


def test_a_trainer_of_ones_own_is_shown_as_what_it_is_like():
    block = {"type": "python", "like": "intro", "trainer": "gone.py:MyInTRO", "intro": {"candidates": 5}}
    spec = find("python", block.get)
    assert spec is not None
    assert spec.like is find("intro", {}.get)
    assert spec.report.label(block) == "MyInTRO"
    assert spec.report.panels == spec.like.report.panels
    assert "python" in types()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("raise KeyError('lost')", "importing it raised KeyError: 'lost'"),
        ("SPEC = 3", "it is a int, no ixt_rl.methods"),
        ("from ixt_rl.methods.grpo import SPEC", "has type 'grpo'\n  reason: that is a type of ixt-rl"),
    ],
    ids=["broken", "no-spec", "taken"],
)
def test_a_broken_plug_in_is_named_with_its_distribution(tmp_path, module, words):
    loaded_run = tmp_path / "run"
    loaded_run.mkdir()
    loaded(loaded_run, trainer="ixt_rl.trainers:InTROTrainer", options={})
    (tmp_path / "lab_method.py").write_text(module)
    info = tmp_path / "lab_methods-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-methods\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[ixt_rl.methods]\nlab = lab_method:SPEC\n")
    done = subprocess.run(
        [sys.executable, "-m", "ixt_rl", "check", str(loaded_run / "run.yaml")],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "ConfigError: the method 'lab' of lab-methods 1.2 (ixt_rl.methods: lab_method:SPEC)" in done.stderr
    assert words in done.stderr
    assert "uninstall lab-methods 1.2" in done.stderr
