"""What the figures compute before they draw."""

from __future__ import annotations

import json

import pytest

from ixt_rl.pages.numbers import engineering
from ixt_rl.report.figures.plotter import Plotter, looks
from ixt_rl.report.figures.series import mean_series, rolling_mean, window
from ixt_rl.report.results import results
from ixt_rl.report.run_folder import make_stages, number, read_run


def test_the_mean_needs_every_seed():
    seeds = [[(0, 0.0, 1.0), (1, 32.0, 2.0), (2, 64.0, 9.0)], [(0, 0.0, 3.0), (1, 40.0, 6.0)]]
    assert mean_series(seeds) == [(0, 0.0, 2.0), (1, 36.0, 4.0)]
    assert mean_series([]) == []


def test_rolling_mean():
    assert rolling_mean([1.0, 2.0, 6.0], 1) == [1.0, 2.0, 6.0]
    assert rolling_mean([1.0, 2.0, 6.0], 3) == [1.5, 3.0, 4.0]
    assert [window(n) for n in (0, 1, 19, 20, 100)] == [1, 1, 1, 3, 11]


def test_methods_keep_their_colours():
    few, many = looks(["GRPO", "RAFT"]), looks(["InTRO n=1", "InTRO n=5", "RAFT", "GRPO"])
    assert few["GRPO"].colour == many["GRPO"].colour and few["RAFT"].colour == many["RAFT"].colour
    assert len({look.colour for look in many.values()}) == len({look.marker for look in many.values()}) == 4


@pytest.mark.parametrize("value", [None, "x", True, float("nan"), float("inf"), [1]])
def test_what_is_no_number(value):
    assert number(value) is None


def test_numbers():
    assert (number(3), number("1e-5")) == (3, 1e-5)
    assert [engineering(v) for v in (0, 950, 62e9, 1.234e12)] == ["0", "950", "62 G", "1.23 T"]


def test_stages_are_labelled_by_method_unless_that_is_ambiguous():
    def stage(name: str, **keys) -> dict:
        return {"name": name, "data": {"world": "addition", "view": "parity"}, **keys}

    config = [
        stage("pre", type="pretrain"),
        stage("slow", type="grpo", optim={"lr": 1e-4}),
        stage("fast", type="grpo", optim={"lr": 3e-4}, init="pre"),
        stage("exact", type="intro", intro={"candidates": "exact"}, init="pre"),
        stage("after", type="evaluate"),
        stage("again", type="evaluate", init="pre"),
    ]
    stages = {s.name: s for s in make_stages({"stages": config}, {}, [])}
    assert [s.label for s in stages.values()] == ["pre", "slow", "fast", "InTRO exact", "base", "base"]
    assert [s.of for s in stages.values()] == [None, None, None, None, "exact", None]


def test_a_resumed_step_counts_once(make_run):
    folder = make_run(seeds=(1,))
    before = read_run(folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines + lines[-30:]) + "\n")
    assert len(read_run(folder).rows) == len(before.rows) == len(lines)


def test_the_base_is_found_at_step_0_where_no_stage_measures_it(make_run):
    folder = make_run(seeds=(1,))
    run = read_run(folder)
    groups = {group.view: group for group in results(run)}
    run.stages[:] = [stage for stage in run.stages if stage.type != "evaluate"]
    for group in results(run):
        assert group.rows[0].is_base and group.rows[0].note == "at step 0"
        measured, base = (g.rows[0].cells["sampled/strict"].value for g in (groups[group.view], group))
        assert base == pytest.approx(measured, abs=0.06)  # the same model, measured again with noise 0.01
        assert base != measured


def test_training_health_shows_rewards_and_groups_where_they_are_logged(make_run, tmp_path, monkeypatch):
    folder = make_run(seeds=(1,))
    drawn: list[dict[str, list[float]]] = []

    def keep(self, fig, *words):
        drawn.append({axes.get_title(): [y for line in axes.lines for y in line.get_ydata()] for axes in fig.axes})

    monkeypatch.setattr(Plotter, "save", keep)
    Plotter(read_run(folder), tmp_path / "plots").health("parity")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rewarded = {"reward": 0.25, "frac_reward_zero_std": 0.5}
    rows = [row | (rewarded if row["stage"].endswith("-parity") and row["phase"] == "train" else {}) for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Plotter(read_run(folder), tmp_path / "plots").health("parity")
    before, after = drawn
    assert after.keys() - before.keys() == {"mean reward", "share of groups of equal rewards"}
    assert set(after["mean reward"]) == {0.25} and set(after["share of groups of equal rewards"]) == {0.5}
