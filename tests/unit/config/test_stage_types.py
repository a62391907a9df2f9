"""docs/configuration.md lists the stage types that the table of methods has, in its words and with keys that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ixt_rl.methods import python
from ixt_rl.methods.registry import SPECS, described, types

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def rows() -> list[tuple[str, str, str]]:
    """(type, what it does, its blocks) of the page's table; links to other pages left out."""
    table = PAGE.read_text(encoding="utf-8").split("| Stage `type` |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(kind.strip("`"), re.sub(r" \(\[[^)]*\)\)$", "", does), blocks) for kind, does, blocks in cells]


def test_the_table_is_that_of_the_methods():
    assert [row[:2] for row in rows()] == described()
    assert list(dict.fromkeys(kind for kind, _ in described())) == types()


@pytest.mark.parametrize("place", range(len(SPECS)), ids=lambda place: f"{place}-{SPECS[place].type}")
def test_the_keys_named_there_are_keys_of_the_stage(place):
    kind, _, blocks = rows()[place]
    like = re.match(r"as `(\w+)`", blocks)
    if like:
        blocks += next(others for other, _, others in rows() if other == like[1])
    named = set(re.findall(r"`(\w+)`", blocks)) - set(types()) | ({SPECS[place].block} - {""})
    assert kind == SPECS[place].type
    assert len(named) > 1
    assert named <= set(SPECS[place].stage.model_fields)


def test_every_description_is_a_sentence():
    for kind, line in described():
        assert line.endswith("."), kind
        assert len(line) > 40, kind
    assert described()[-1] == (python.PYTHON, python.ABOUT)
