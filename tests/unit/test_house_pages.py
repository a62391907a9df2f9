"""README's tree and ways through it, and CONTRIBUTING's table of layers, against the tree itself."""

from __future__ import annotations

import re

import pytest

from tests.house import ROOT
from tests.unit.test_layers import LAYERS

README = (ROOT / "README.md").read_text(encoding="utf-8")

JOURNEYS = {
    "An InTRO update": (
        *("trainers/online.py", "trainers/kept.py", "trainers/intro.py", "trainers/head.py"),
        "ixt_rl/kernels/intro/loss.py",
    ),
    "A row of IXT": (
        *("ixt_rl/data/stream.py", "ixt_rl/data/document_source.py", "ixt_rl/conditioning/conditioner.py"),
        *("ixt_rl/data/token_rows.py", "trainers/ixt.py"),
    ),
    "A prompt of SIP": (
        *("ixt_rl/data/suffixes.py", "trainers/sip/trainer.py", "trainers/sip/groups.py"),
        *("trainers/sip/objectives.py", "trainers/sip/losses.py"),
    ),
}
"""What has to be read to follow one item from the data to the loss: files of ours, in order."""

LONGEST = 300


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_journey_is_five_short_files_that_readme_names_in_order(name):
    files = JOURNEYS[name]
    assert len(files) <= 5
    for file in files:
        assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= LONGEST, file
    (told,) = re.findall(rf"- \*\*{name}\*\*:(.*?)\n(?:-|\n)", README, re.DOTALL)
    assert tuple(re.findall(r"`([\w/]+\.py)`", told)) == files


def test_readme_draws_every_room_and_nothing_else():
    tree = README.split("## The house")[1].split("```")[1]
    names = [re.match(r"( *)((?:[\w.]+/?(?: |$))+)", line) for line in tree.strip().splitlines()[1:]]
    drawn = {name for found in names if found and found[1] for name in found[2].split()}
    inside = {file.name for file in (ROOT / "ixt_rl").glob("*.py")} - {"__init__.py", "__main__.py"}
    inside |= {f"{file.parent.name}/" for file in (ROOT / "ixt_rl").glob("*/__init__.py")}
    assert drawn == inside
    beside = {name for found in names if found and not found[1] for name in found[2].split()}
    assert {"trainers/", "rewards/", "configs/"} <= beside
    assert all((ROOT / name).is_dir() for name in beside)


def test_contributing_has_the_layers_from_the_bottom_up():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| Layer, from the bottom up |")[1]
    rows = table.split("\n\n")[0].splitlines()[2:]
    assert [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in rows] == LAYERS


def test_blocks_of_a_run_file_are_called_so():
    """A class beside what it describes, such as `MathRewardBlock` and `MathReward`, says which of the two it is."""
    named = re.compile(r"^class (\w+)\([^)]*\b(?:Strict|\w+Block|\w*Stage)\b[^)]*\):", re.MULTILINE)
    found = [
        name
        for folder in ("blocks", "methods", "config")
        for file in sorted((ROOT / "ixt_rl" / folder).glob("*.py"))
        for name in named.findall(file.read_text(encoding="utf-8"))
    ]
    assert len(found) > 50
    assert [name for name in found if not name.endswith(("Block", "Stage"))] == ["RunConfig"]
    assert len(set(found)) == len(found)
