"""The notebooks run as scripts, in order and in one folder, and marimo finds nothing wrong with them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "examples" / "notebooks"

SAYS = {
    "01_first_run": ["share of right answers", "expectation holds: True - intro: sampled/checked"],
    "02_your_own_factor": ["softness 1.0", "softness 0.0"],
    "03_your_own_judge": ["6+3 #### 8     level 3, score 0.5: 1 of 2 steps are right", "[1.0, 0.5, None]"],
    "04_annotate_and_train": ["6,000 judged, 0 undecided", "levels, asked for level 5"],
    "05_read_a_report": ["factor of drawn candidates", "intro: sampled/checked >= 0.55"],
}
"""What each prints, among other things; later ones go on with the run of the first."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the notebooks run, with nothing of a run in it."""
    if not importlib.util.find_spec("marimo") and "CI" not in os.environ:
        pytest.skip("no marimo: make setup-docs")
    place = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(NOTEBOOKS, place / "notebooks")
    return place


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_notebook_is_here():
    assert sorted(SAYS) == sorted(file.stem for file in NOTEBOOKS.glob("[0-9]*.py"))


def test_marimo_opens_them(folder):
    run(folder, "-m", "marimo", "check", "--strict", *(f"notebooks/{name}.py" for name in SAYS))


LONG = pytest.mark.long(
    "tests/integration/test_notebooks.py::test_it_runs_as_a_script",
    "tests/integration/test_run.py",
    "tests/integration/test_own_method.py",
    "tests/integration/test_document_stages.py",
)
FAST = ("03_your_own_judge",)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else LONG) for name in SAYS])
def test_it_runs_as_a_script(folder, name):
    said = run(folder, f"notebooks/{name}.py")
    for text in SAYS[name]:
        assert text in said
