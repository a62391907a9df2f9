"""The tables of what telling does, from a run's summary."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from ixt_rl.evaluation.controls import as_data, told_modes
from ixt_rl.evaluation.posterior import over_questions, sequence_kl
from ixt_rl.report.build import build_report
from ixt_rl.report.run_folder import read_run
from ixt_rl.report.told import posterior_tables, told_tables
from tests.unit.report.test_build import read


def modes(strict):
    """Of 100 problems, `strict` by mode; told completions are 2 tokens longer."""
    return as_data(
        told_modes(
            {
                mode: {
                    "strict": (np.arange(100) < share)[:, None].astype(float),
                    "length": np.full((100, 1), 20.0 + 2 * (mode != "sampled")),
                }
                for mode, share in strict.items()
            }
        )
    )


def posterior():
    half = np.log([0.5, 0.5])
    decided = sequence_kl(np.log([0.25, 0.75]), np.log([0.6, 0.4]), np.array([0.0, -np.inf]), np.array([3, 5]))
    without = sequence_kl(half, half, np.full(2, -np.inf), np.ones(2))
    return asdict(over_questions([decided, decided, without]))


def told_run(make_run, **more):
    folder = make_run("told")
    summary = json.loads((folder / "summary.json").read_text())
    (stage,) = [one for one in summary["stages"] if one["name"] == "base-parity"]
    stage |= more
    make_run.write(folder, "summary.json", summary)
    return folder


SHARES = {"sampled": 40, "told": 80, "told_form": 45, "told_random": 42, "told_wrong": 10}


def test_controls_and_posterior_stand_on_the_page(make_run):
    folder = told_run(make_run, told={"0": modes(SHARES)}, posterior={"0": posterior()})
    page = read(build_report(folder)).text
    assert "Told the answer" in page and "another problem's answer" in page
    assert (
        "Told the right answer, strict is +0.400 over the plain prompt; it is +0.050 with nothing in its place, "
        "+0.020 told another problem's answer, -0.300 told a wrong one." in page
    )
    assert "base-parity, view parity" in page
    assert "3 problems, 1 of them undecided and in no mean; every completion enumerated" in page
    assert "+0.875" in page  # log(0.6 / 0.25)
    assert "Told the answer, the model is nearer to the true posterior than told nothing." in page
    (table,) = told_tables(read_run(folder))
    assert table.groups == [
        ("strict", ["share", "over plain", "over right answer"]),
        ("tokens", ["mean", "over plain"]),
    ]
    wrong = dict(table.rows)["a wrong answer"]
    assert [cell.value for cell in wrong] == ["0.100", "-0.300", "-0.700", "22.0", "+2.0"]
    assert wrong[1].between.startswith("-0.3") and " to -0.2" in wrong[1].between
    plain = dict(table.rows)["nothing: the plain prompt"]
    assert [cell.value for cell in plain] == ["0.400", "–", "-0.400", "20.0", "–"]


def test_seeds_are_told_apart(make_run):
    both = {"1": modes(SHARES), "2": modes({"sampled": 30, "told": 20})}
    first, second = told_tables(read_run(told_run(make_run, told=both)))
    assert first.caption.endswith("seed 1") and second.caption.endswith("seed 2")
    assert second.said == ["Told the right answer, strict is -0.100 over the plain prompt."]


def test_what_was_not_measured_or_is_damaged_is_left_out(make_run):
    folder = told_run(make_run)
    assert "Told the answer" not in read(build_report(folder)).text
    make_run.root = make_run.root / "other"
    make_run.root.mkdir()
    folder = told_run(make_run, told={"0": [3, {"mode": "told", "shares": {"strict": 1}}]}, posterior={"0": {}})
    read(build_report(folder))
    (table,) = posterior_tables(read_run(folder))
    assert {cell.value for _, cells in table.rows for cell in cells} == {"–"} and table.said == []
