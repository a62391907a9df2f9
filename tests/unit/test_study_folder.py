"""The study's folder when a call is not the one before: other sizes, stops, failures, rates that no rule chose."""

from __future__ import annotations

import json
import signal
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from ixt_rl.signals import Stopped
from tests.unit.test_study import evaluation, finished

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "study"))

import plan
import study as command
from measured import read_measured, write_measured
from store import Store
from study import Study

CELL = plan.Cell("clean", "grpo", 4e-4, 1, 1)


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr("page.draw", lambda *_: None)
    monkeypatch.setattr(command, "machine", lambda: {"cpu": "one"})


def args(out: Path, **given) -> Namespace:
    small = {"worlds": ["clean"], "arms": ["grpo"], "bases": [1], "seeds": [1], "jobs": 1, "minutes": None}
    rest = {"short": False, "tune": False, "known": None, "collect": False, "steps": 100, "base_steps": 1900}
    return Namespace(out=out, **{**small, **rest, **given})


def test_a_run_file_written_anew_leaves_nothing_done_that_an_older_one_measured(tmp_path):
    """Stopped between the writing of a run file and the end of its run, the next call takes no older result for it."""
    for what in (CELL, CELL.of):
        finished(Store(tmp_path, steps=3, base_steps=50), what, [evaluation(3, 0.1)])
    later = Store(tmp_path)
    for what in (CELL, CELL.of):
        assert later.missing([what]) == [what]
        later.write(what)
        assert later.missing([what]) == [what]
        assert later.measured(what) is None


def test_a_cell_is_not_done_where_its_base_would_be_another(tmp_path):
    other = plan.Cell("wrong-keys", "grpo", 4e-4, 1, 1)  # of the same base
    apart = plan.Cell("clean", "grpo", 4e-4, 2, 1)
    small = Store(tmp_path, base_steps=50)
    for what in (CELL.of, apart.of, CELL, other, apart):
        finished(small, what, [evaluation(100, 0.1)])
    large = Store(tmp_path)
    assert large.missing([CELL, other, apart]) == [CELL, other, apart]
    finished(large, CELL.of, [evaluation(0, 0.4)])
    assert large.missing([CELL, other, apart]) == [CELL, other, apart]  # they started from the base before
    finished(large, CELL, [evaluation(100, 0.8)])
    assert large.missing([CELL, other]) == [other]
    large.write(CELL)  # by the file that is there
    assert large.missing([CELL]) == []


def test_a_cell_whose_base_was_removed_stays_done(tmp_path):
    store = Store(tmp_path)
    finished(store, CELL, [evaluation(100, 0.8)])
    assert store.missing([CELL]) == []


def test_a_base_that_fails_is_not_tried_for_ever(tmp_path, monkeypatch):
    tries = []

    def failing(files, jobs, until):
        tries.append(list(files))
        assert len(tries) < 5
        for file in files:
            yield file, 1, 0.0

    monkeypatch.setattr(command, "run_files", failing)
    study = Study(args(tmp_path, worlds=["told-1x"], tune=True))
    study.tune()
    assert len(study.failed) == 1
    assert [file.parent.name for file in study.failed] == ["bases"]


def test_the_page_has_cells_at_rates_that_no_rule_chose(tmp_path):
    """Those of `--short`, in a later call that runs nothing, and of a table from elsewhere."""
    cell = plan.Cell("clean", "dapo", 2e-4, 1, 1)
    trial = plan.Cell("clean", "gspo", 1e-4, plan.TUNING, plan.TUNING)
    for what in (cell.of, cell, trial):
        finished(Store(tmp_path), what, [evaluation(100, 0.7), evaluation(0, 0.4)])
    study = Study(args(tmp_path, collect=True))
    study.collect()
    assert cell.name in read_measured(tmp_path / "measured.csv")
    assert "| dapo | 0.0002 (not tuned) | 1 |" in (tmp_path / "study.md").read_text()
    assert study.rates.of("clean", "dapo") is None  # what was run chooses no rate
    assert "gspo" not in (tmp_path / "study.md").read_text()

    elsewhere = tmp_path / "elsewhere"
    Study(args(elsewhere, collect=True, known=tmp_path / "measured.csv")).collect()
    assert (elsewhere / "study.md").read_text() == (tmp_path / "study.md").read_text()
    assert read_measured(elsewhere / "measured.csv") == read_measured(tmp_path / "measured.csv")


def test_a_base_that_came_out_as_another_model_than_the_tables_is_named(tmp_path, monkeypatch, capsys):
    for out, strict in (("a", 0.4), ("same", 0.4), ("other", 0.41)):
        finished(Store(tmp_path / out), CELL.of, [evaluation(0, strict)])
    finished(Store(tmp_path / "a"), CELL, [evaluation(100, 0.8)])
    Study(args(tmp_path / "a", collect=True)).collect()
    for out, named in (("same", False), ("other", True)):
        asked = ["study.py", "--out", str(tmp_path / out), "--collect", "--known", str(tmp_path / "a" / "measured.csv")]
        monkeypatch.setattr("sys.argv", asked)
        command.main()
        assert (f"{CELL.of.name}: made here, another model" in capsys.readouterr().out) is named


def test_the_shipped_table_is_shown_whole(tmp_path):
    shipped = plan.HERE / "measured.csv"
    Study(args(tmp_path, known=shipped, collect=True)).collect()
    there = read_measured(shipped)
    assert read_measured(tmp_path / "measured.csv").keys() == there.keys()


def test_of_several_rates_that_no_rule_chose_the_page_has_the_one_with_most_cells(tmp_path):
    rows = {plan.Cell("clean", "gpg", rate, 1, seed).name: {"code": None, **evaluation(100, 0.5)}
            for rate, seeds in ((1e-4, (1, 2)), (5e-5, (1, 2, 3)), (2e-4, (1,))) for seed in seeds}  # fmt: skip
    for row in rows.values():
        row.pop("phase")
    write_measured(tmp_path / "table.csv", rows)
    Study(args(tmp_path / "out", known=tmp_path / "table.csv", collect=True)).collect()
    assert "| gpg | 5e-05 (not tuned) | 3 |" in (tmp_path / "out" / "study.md").read_text()


def test_names_of_cells_are_read_back():
    for arm in plan.ARMS:
        for rate in (5e-5, 1e-4, 8e-4):
            cell = plan.Cell("wrong-keys", arm, rate, 3, 5)
            assert plan.cell_named(cell.name) == cell
    assert plan.cell_named("addition-parity-b1") is None
    assert plan.cell_named("clean/b1/no-arm-0.0001-s1") is None


def test_what_has_no_rate_yet_is_said_to_be_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study.py", "--out", str(tmp_path), "--collect", "--arms", "dapo", "grpo"])
    command.main()
    said = capsys.readouterr().out
    assert "60 of 60 cells are left" in said
    assert "4 more arms of a world have no rate yet" in said
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--short"])
    command.main()
    said = capsys.readouterr().out
    assert "72 of 72 cells are left" in said
    assert "no rate" not in said


def test_a_page_says_how_many_updates_its_cells_have(tmp_path, monkeypatch):
    ends = []
    monkeypatch.setattr("page.draw", lambda *given: ends.append(given[-1]))
    finished(Store(tmp_path, steps=3), CELL, [evaluation(3, 0.1)])
    Study(args(tmp_path, steps=3)).collect()
    assert json.loads((tmp_path / "study.json").read_text())["steps"] == 3
    assert "Cells have 3 updates, not the design's 100." in (tmp_path / "study.md").read_text()
    assert ends == [3]
    finished(Store(tmp_path), CELL, [evaluation(100, 0.1)])
    Study(args(tmp_path)).collect()
    assert "updates, not" not in (tmp_path / "study.md").read_text()


@pytest.mark.parametrize("sizes", [{"steps": 3}, {"base_steps": 50}], ids=str)
def test_a_table_of_other_sizes_is_not_taken_for_the_designs(tmp_path, monkeypatch, capsys, sizes):
    finished(Store(tmp_path, **sizes), CELL, [evaluation(sizes.get("steps", 100), 0.1)])
    Study(args(tmp_path, **sizes)).collect()
    table = tmp_path / "measured.csv"
    asked = ["study.py", "--out", str(tmp_path / "out"), "--collect", "--known", str(table)]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit):
        command.main()
    assert f"--known: {CELL.name} of {table} has not the updates of the design" in capsys.readouterr().err


def test_a_call_that_is_stopped_ends_with_the_signals_status(tmp_path, monkeypatch, capsys):
    def stopped(files, jobs, until):
        raise Stopped(signal.SIGINT)
        yield

    monkeypatch.setattr(command, "run_files", stopped)
    monkeypatch.setattr(sys, "argv", ["study.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130
    assert "stopped by SIGINT; the same command goes on" in capsys.readouterr().err
