"""The page of a run on documents: its arms, their efficiency, the claims, and temperature."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from PIL import Image
from rich.console import Console

from ixt_rl.report.arms import (
    BEST,
    curve,
    efficiency_tables,
    is_plain,
    named_efficiency,
    plain_arm,
    readings,
    temperature,
    temperatures,
)
from ixt_rl.report.build import build_comparison, build_report
from ixt_rl.report.results import figure, results
from ixt_rl.report.run_folder import make_stages, read_run, view_of
from ixt_rl.report.table import summary_table
from tests.unit.report.document_maker import ARMS, CLAIMS, STEPS, DocumentRun, flops_of
from tests.unit.report.test_build import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three arms over three seeds, the report written; not to be changed."""
    made = DocumentRun(tmp_path_factory.mktemp("documents"))()
    build_report(made)
    return made


@pytest.fixture(scope="module")
def page(folder):
    return read(folder / "report.html")


@pytest.fixture
def make(tmp_path):
    return DocumentRun(tmp_path, noise=0.0)


def test_the_page_says_what_the_run_is(page):
    assert "trained on documents in 3 arms, plain, levels and critique (600 steps each), over 3 seeds" in page.text
    assert "plain : every document, without feedback" in page.text
    assert "levels : every document, with feedback `levels`, hidden 10% of the time" in page.text


def test_the_table_has_scores_prefixes_and_costs(folder, page):
    table = page.text.split("Results")[1].split("Curves")[0]
    for heading in ("worst prefix, strict", "no prefix, strict", "trained tokens", "FLOPs", "of which annotation"):
        assert heading in table
    for stage in json.loads((folder / "summary.json").read_text())["stages"]:
        mean, spread = stage["mean"], stage["spread"]
        for key in ("greedy/strict", "sampled/strict", "sampled@worst/strict", "greedy@none/strict"):
            if key in mean:
                assert f"{mean[key]:.3f} ± {spread[key]:.3f}" in table
        assert figure("flops", mean["flops"]) in table and figure("flops", mean["flops/annotate"]) in table
    assert "600 k" in table and " 48 " in table
    plain = table.split(" plain ")[1].split(" levels ")[0].split()
    assert plain.count("–") == 4  # both prefixes, both modes: plain training has none


def test_base_rows_are_left_out_of_runs_from_random_weights(folder):
    (group,) = results(read_run(folder))
    assert [row.label for row in group.rows] == list(ARMS) and not any(row.is_base for row in group.rows)


def test_claims_stand_beside_expectations_and_fail_nothing(page):
    claims = page.text.split("Claims")[1].split("Results")[0]
    for claim, verdict in zip(CLAIMS, ("✗ not reproduced", "✓ reproduced", "? not measured"), strict=True):
        row = claims.split(claim["says"])[1]
        assert row.index(verdict) < 130 and claim["text"] in row
    assert "never measured" in claims
    assert "expectations do not hold" not in page.text and "does not hold" not in page.text


def test_figures_are_drawn_and_readable(folder, page):
    names = {path.stem for path in (folder / "plots").glob("*.png")}
    assert names == {"documents-full", "efficiency-full", "temperature-full", "training-full", "flops"}
    for name in names:
        with Image.open(folder / "plots" / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 150 and len(image.getcolors(1 << 24) or ()) > 20
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    for heading in ("Compute-efficiency", "Temperature", "Training on documents", "FLOPs by phase"):
        assert heading in page.text


def test_ratios_of_the_page_are_those_of_the_curves(make):
    run = read_run(make(seeds=(1,)))  # ordinary luck, no noise
    table = next(t for t in efficiency_tables(run, "full") if t.metric == "sampled/strict")
    assert table.plain == "plain" and table.arms == ["levels", "critique"] and table.annotated
    checked = 0
    for score, found in table.rows:
        for arm, pair in zip(table.arms, found, strict=True):
            for match, annotation in zip(pair, (True, False), strict=True):
                if match.ratio is None:
                    late, early = "plain never reaches it", f"{arm} has it at its first checkpoint"
                    assert match.refused == (late if score >= ARMS["plain"].top - 0.01 else early)
                    continue
                truth = flops_of("plain", score) / flops_of(arm, score, annotation)
                assert match.ratio == pytest.approx(truth, rel=0.2)  # straight lines between checkpoints
                checked += 1
    assert checked >= 14


def test_a_doubt_about_one_arm_is_in_its_cell(make):
    run_folder = make()
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["stage"] == "critique" and row["phase"] == "eval":
            row["sampled/strict"] = min(row["sampled/strict"], 0.25)
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = read(build_report(run_folder)).text.split("Compute-efficiency", 1)[1].split("Greedy, strict: FLOPs")[0]
    assert "fragile: at the maximum of critique" in part and "critique never reaches it" in part


def test_samples_set_the_best_wish_against_the_worst(page):
    part = page.text.split("Samples")[1]
    assert "levels, full (worst): 7 right, 3 wrong → 1 right, 9 wrong" in re.sub(r"\s+([(:])", r" \1", part).replace(
        " :", ":"
    )
    assert "Left: feedback wished for: the best. Right: feedback wished for: worst." in part
    assert part.split("levels, full")[0].count("nothing later was kept") == 1  # plain: one side


def test_bands_and_refusals_are_on_the_page(folder, page):
    tables = efficiency_tables(read_run(folder), "full")
    part = page.text.split("Compute-efficiency", 1)[1].split("What the words mean")[0]
    for table in tables:
        for _, found in table.rows:
            for pair in found:
                for m in pair:
                    wanted = m.refused if m.ratio is None else f"{m.ratio:.2f} {m.low:.2f} to {m.high:.2f}"
                    assert wanted in part
    assert "plain never reaches it" in part and "95 % t-interval over 3 seeds, paired" in part
    cells = [[m for pair in found for m in pair] for table in tables for _, found in table.rows]
    once = [matches[0] for matches in cells if len({m.refused or m.fragile for m in matches}) == 1]
    single = [m for matches in cells for m in matches if matches[0] not in once]
    assert sum(bool(m.fragile) for m in once) >= 1  # of the whole column: said once, in its head
    assert part.count("fragile: ") == sum(bool(m.fragile) for m in [*once, *single])


def test_readings_name_no_fragile_score_and_no_band_with_1_in_it(folder, make):
    tables = efficiency_tables(read_run(folder), "full")
    said = readings(tables)
    assert len(said) == 4 and said[0].startswith("Sampled, strict, 0.3: plain needs ")
    single = efficiency_tables(read_run(make(seeds=(1,))), "full")
    assert readings(single) == []  # one seed has no band
    text = read(build_report(make("two", seeds=(0, 1)))).text
    assert "No ratio with the annotation in it can be told apart from 1" in text and "range of 2 seeds" in text


def test_plain_training_is_found_by_its_config(make):
    run = read_run(make(arms=("levels", "plain")))
    assert [is_plain(run, stage) for stage in run.stages] == [False, True]
    run.stages[1].config["data"]["keep_levels"] = [5]
    assert plain_arm(run, "full") is None and efficiency_tables(run, "full") == []
    run.stages[1].config["data"]["keep_levels"] = []
    run.stages[0].config["feedback"]["template"] = None
    assert is_plain(run, run.stages[0])


def test_without_plain_training_the_page_says_so(make):
    text = read(build_report(make(arms=("levels", "critique")))).text
    assert "there is no plain training (every document, no feedback) to compare with" in text


def test_where_nothing_was_learned_there_is_nothing_to_match(make):
    folder = make()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {key: 0.0 for key in row if key.endswith("/strict")}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "No ratios: no score was reached that is worth matching." in read(build_report(folder)).text


def test_an_arm_that_goes_on_from_plain_training_keeps_its_curve(make):
    run = read_run(make(arms=("plain", "levels"), init={"levels": "plain"}))
    arm = run.stages[1]
    assert arm.after == "plain"
    assert [row.label for row in results(run)[0].rows] == ["plain", "levels"]
    assert results(run)[0].rows[0].cells["sampled@worst/strict"].value is None  # measured, but of no prefix
    joined, alone = curve(run, arm, "sampled/strict"), curve(run, run.stages[0], "sampled/strict")
    assert joined[0][: len(alone[0])] == alone[0] and len(joined[0]) == 2 * len(alone[0])
    assert not is_plain(run, arm) and plain_arm(run, "full").name == "plain"
    free = curve(run, arm, "sampled/strict", annotation=False)
    assert free[0][-1][0] == joined[0][-1][0] - 2 * 400_000 * 0.6 * STEPS * 1000


def test_a_base_trained_once_serves_every_seed(make):
    folder = make(arms=("plain", "levels"), init={"levels": "plain"})
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["stage"] == "levels" or row["seed"] == 0]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(folder)
    before = curve(run, run.stages[0], "sampled/strict")[0]
    for points in curve(run, run.stages[1], "sampled/strict").values():
        assert points[: len(before)] == before and len(points) > len(before)


def test_an_expectation_can_name_an_efficiency(folder):
    run = read_run(folder)
    charged = named_efficiency(run, "efficiency@0.2/sampled/strict", "levels")
    free = named_efficiency(run, "efficiency-without-annotation@0.2/sampled/strict", "levels")
    table = efficiency_tables(run, "full")[0]
    pair = next(found for score, found in table.rows if score == 0.2)[0]
    assert (charged, free) == pair and free.ratio > charged.ratio
    assert named_efficiency(run, "efficiency@0.9/sampled/strict", "levels").refused == "plain never reaches it"
    assert named_efficiency(run, "efficiency@0.2/told/strict", "levels").refused == "plain was not measured"
    assert named_efficiency(run, "sampled/strict", "levels") is None


def test_temperature_is_an_axis(folder, page):
    found = temperatures(read_run(folder), "full")
    assert found.temperatures == [0.0, 0.5, 1.0] and [name for name, _ in found.rows] == list(ARMS)
    assert "strict at temperature greedy 0.5 1 plain" in page.text
    assert [temperature(name) for name in ("greedy/strict", "sampled/strict", "sampled@t0.7/strict")] == [0, 1, 0.7]
    assert temperature("sampled@worst/strict") is None and temperature("sampled/checked") is None


def test_one_temperature_makes_no_table(make):
    folder = make(temperatures=())
    assert temperatures(read_run(folder), "full") is None
    assert "strict at temperature" not in read(build_report(folder)).text


def test_the_best_temperature_is_compared_where_every_evaluation_has_it(make):
    folder = make(seeds=(1,))
    assert BEST not in [t.metric for t in efficiency_tables(read_run(folder), "full")]  # at the end only
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["phase"] == "eval":
            row["sampled@t0.5/strict"] = row["sampled/strict"] * (3 if row["stage"] == "plain" else 0.5)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(folder)
    assert BEST in [t.metric for t in efficiency_tables(run, "full")]
    plain = curve(run, run.stages[0], BEST)[1]
    assert plain == [(x, 3 * y) for x, y in curve(run, run.stages[0], "sampled/strict")[1]]
    levels = run.stages[1]
    assert curve(run, levels, BEST) == curve(run, levels, "greedy/strict")


def test_other_wishes_have_columns_of_their_own(make):
    folder = make(seeds=(1,))
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"][1]["mean"]["sampled@wordy/strict"] = 0.123
    (folder / "summary.json").write_text(json.dumps(summary))
    table = read(build_report(folder)).text.split("Results")[1].split("Curves")[0]
    assert "wordy prefix, strict" in table and table.count("0.123") == 1


def test_the_terminal_shows_the_main_columns(folder):
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(summary_table(json.loads((folder / "summary.json").read_text())))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    row = next(line for line in text.splitlines() if line.strip().startswith("levels"))
    assert next(line for line in text.splitlines() if line.strip().startswith("plain")).count("–") == 2
    assert re.search(r"levels +0\.\d{3}±\.\d{3} +0\.\d{3} +0\.\d{3} +0\.\d{3} +600 k +1\.73 T +288 G +48", row)
    assert "1 of 1 expectations hold." in text
    assert "Claims: 1 not reproduced, 1 reproduced, 1 not measured." in text


@pytest.mark.parametrize("kept", ["config.yaml", "metrics.jsonl", "summary.json"])
def test_any_one_file_makes_a_page(make, kept):
    folder = make()
    for path in folder.iterdir():
        if path.name != kept:
            path.unlink()
    text = read(build_report(folder)).text
    assert "Results" in text
    assert ("critique" in text) and (kept == "config.yaml" or "600 k" in text)


def test_a_stopped_run_shows_what_it_has(make):
    folder = make()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["stage"] == "plain" or (row["stage"] == "levels" and row["step"] <= 300)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {"status": "stopped", "reason": "stopped by hand", "stages": summary["stages"][:1]}
    (folder / "summary.json").write_text(json.dumps(summary))
    text = read(build_report(folder)).text
    assert "Not run: critique." in text and "seed 0 at step 300 of 600" in text
    assert "plain needs" in text  # levels against plain, as far as it went


def test_two_runs_are_compared_against_tokens(folder, make, tmp_path):
    other = make("other")
    page = read(build_comparison([folder, other], tmp_path / "comparison.html"))
    assert sum(tag == "svg" for tag, _ in page.tags) == len(ARMS)
    assert "trained tokens" in (tmp_path / "comparison.html").read_text()
    assert "what is claimed" in page.text and "✗ 1.7" in page.text


def test_stages_on_documents_are_told_from_pretraining_on_pairs():
    stages = [
        {"name": "pairs", "type": "pretrain", "data": {"world": "addition", "view": "sum"}},
        {"name": "corpus", "type": "pretrain", "init": "model", "data": {"world": "facts"}},
        {"name": "files", "type": "pretrain", "data": {"sources": [{"path": "a.jsonl"}]}},
        {"name": "ixt", "type": "ixt", "data": {"world": "facts"}, "evaluation": {"data": {"path": "p.jsonl"}}},
    ]
    found = make_stages({"stages": stages}, {}, [])
    assert [stage.documents for stage in found] == [False, True, True, True]
    assert [stage.after for stage in found] == [None, None, "corpus", "files"]
    assert [view_of(block) for block in stages] == ["sum", "uncovered", "a.jsonl", "p.jsonl"]


def test_the_report_imports_without_torch():
    code = "import sys, ixt_rl.report.build, ixt_rl.report.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
