"""What the figures compute before they draw."""

from __future__ import annotations

import json
from itertools import pairwise
from textwrap import fill

import matplotlib
import pytest

from ixt_rl.methods.registry import find, types
from ixt_rl.pages.drawing import RC, grid
from ixt_rl.pages.numbers import engineering
from ixt_rl.report.figures.plotter import TITLE_CHARACTERS, Plotter, looks
from ixt_rl.report.figures.series import evaluations, mean_series, rolling_mean, window
from ixt_rl.report.results import results
from ixt_rl.report.run_folder import RunRecord, make_stages, number, read_run


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


PANELS = [panel for name in types() if (spec := find(name, lambda key: None)) for panel in spec.report.panels]


@pytest.mark.parametrize("title", sorted({panel.title for panel in PANELS}))
def test_titles_of_panels_fit_above_them(title):
    with matplotlib.rc_context(RC):
        fig, [axes] = grid(1, 5)
        for ax in axes:
            ax.set_title(fill(title, TITLE_CHARACTERS))
        fig.canvas.draw()
        boxes = [ax.title.get_window_extent() for ax in axes]
    assert boxes[0].x0 >= 0 and boxes[-1].x1 <= fig.bbox.x1
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


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
    for stage in run.stages:
        stage.summary["start"] = dict(stage.summary["start"]) | {
            "sampled/strict_low": 0.123,
            "sampled/strict_high": 0.9,
        }
    for group in results(run):
        assert group.rows[0].is_base and group.rows[0].note == "at step 0"
        assert group.rows[0].cells["sampled/strict"].interval == "0.123 to 0.900"
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


@pytest.mark.parametrize(
    ("value", "axis"), [(0.9, "share of problems"), (-1.5, "mean over problems"), (7.0, "mean over problems")]
)
def test_a_reward_of_any_size_is_within_the_curves_of_its_figure(make_run, tmp_path, monkeypatch, value, axis):
    folder = make_run(seeds=(1,))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{name: old for name, old in row.items() if "/strict" not in name} for row in rows]
    rows = [{name: value if name.endswith("/checked") else old for name, old in row.items()} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = []

    def measure(self, fig, *words):
        low, high = fig.axes[0].get_ylim()
        seen.append((low < value < high, fig.axes[0].get_ylabel()))

    monkeypatch.setattr(Plotter, "save", measure)
    Plotter(read_run(folder), tmp_path / "plots").curves("parity")
    assert seen == [(True, axis)]


def test_a_panel_names_the_lines_that_it_has(make_run, tmp_path, monkeypatch):
    folder = make_run(seeds=(1,))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for left_out, named in (("", ["right", "wrong"]), ("factor/taken_wrong", [])):
        kept = [{name: value for name, value in row.items() if name != left_out} for row in rows]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        seen = {}

        def look(self, fig, *words, seen=seen):
            for axes in fig.axes:
                legend = axes.get_legend()
                seen[axes.get_title()] = [] if legend is None else [text.get_text() for text in legend.get_texts()]

        monkeypatch.setattr(Plotter, "save", look)
        Plotter(read_run(folder), tmp_path / "plots").method(find("intro", lambda key: None), "parity")
        assert next(names for title, names in seen.items() if title.startswith("factor on taken")) == named


@pytest.mark.parametrize("shares", [(0.17, 0.19), (0.9, 1.0), (0.0, 0.0)])
def test_no_line_runs_through_the_legend_of_a_panel(make_run, tmp_path, monkeypatch, shares):
    folder = make_run(seeds=(1,))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    style = dict(zip(("factor/style_share", "factor/style_tokens"), shares, strict=True))
    rows = [row | (style if row["phase"] == "train" else {}) for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = []

    def measure(self, fig, *words):
        fig.canvas.draw()
        for axes in fig.axes:
            lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
            highest = max(axes.transData.transform(line.get_xydata())[:, 1].max() for line in lines)
            if axes.get_legend() is not None:
                seen.append(axes.get_title())
                assert highest < axes.get_legend().get_window_extent().y0, axes.get_title()
            assert "share" not in axes.get_title() or max(axes.get_yticks()) <= 1.02

    monkeypatch.setattr(Plotter, "save", measure)
    Plotter(read_run(folder), tmp_path / "plots").method(find("intro", lambda key: None), "parity")
    assert "share on tokens without digits" in seen


def row(stage: str, step: int, value: float) -> dict:
    return {"stage": stage, "seed": 1, "phase": "eval", "step": step, "sampled/x": value, "sampled/win_rate": value}


def evaluations_of(stages: list[dict], rows: list[dict]) -> dict[str, list[dict]]:
    made = make_stages({"stages": stages}, {}, rows)
    run = RunRecord("run", {}, "", rows, [], {}, made, [])
    return {stage.name: evaluations(run, stage).get(1, []) for stage in made}


def test_a_curve_begins_where_another_stage_has_measured_its_start():
    arm = {"type": "grpo", "init": "base", "data": {"world": "chain"}, "evaluation": {"problems": 8}}
    stages = [
        {"name": "base", "type": "sft", "data": {"world": "chain"}},
        {"name": "measured", "type": "evaluate", "init": "base", "data": {"world": "chain"}, "problems": 8},
        {"name": "arm", **arm},
        {"name": "own", **arm},
        {"name": "other", **arm, "evaluation": {"problems": 9}},
        {"name": "later", **arm, "init": "arm"},
    ]
    rows = [
        row("measured", 0, 0.1),
        row("own", 0, 0.2),
        *(row(one, 5, 0.5) for one in ("arm", "own", "other", "later")),
    ]
    found = evaluations_of(stages, rows)
    assert [one["step"] for one in found["arm"]] == [0, 5] and found["arm"][0]["sampled/x"] == 0.1
    assert [one["sampled/x"] for one in found["own"]] == [0.2, 0.5]  # its own
    assert [len(found[name]) for name in ("other", "later")] == [1, 1]  # other problems; another model


def test_a_start_that_was_compared_with_others_lends_no_win_rate():
    shared = {"type": "sip", "init": "model", "data": {"world": "chain"}, "evaluation": {"prefixes": 8}}
    against = {**shared, "evaluation": {"prefixes": 8, "against": "plain"}}
    stages = [{"name": "plain", **shared}, {"name": "one", **against}, {"name": "two", **against}]
    rows = [row("one", 0, 0.1), *(row(name, 5, 0.5) for name in ("plain", "one", "two"))]
    found = evaluations_of(stages, rows)
    assert found["two"][0]["sampled/win_rate"] == 0.1
    assert found["plain"][0]["sampled/x"] == 0.1 and "sampled/win_rate" not in found["plain"][0]
