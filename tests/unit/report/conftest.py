"""Run folders to report on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixt_rl.report.build import build_report
from tests.unit.report.run_maker import EXPECTATIONS, METHODS, VIEWS, RunMaker


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    return RunMaker(tmp_path)


@pytest.fixture(scope="package")
def full_run(tmp_path_factory) -> Path:
    """Four methods in two views over three seeds, its report written; not to be changed."""
    make = RunMaker(tmp_path_factory.mktemp("full"))
    folder = make(seeds=(1, 2, 3), expectations=EXPECTATIONS, views=VIEWS, methods=tuple(METHODS))
    build_report(folder)
    return folder
