"""The page over evaluations: scores, the paper's row, paired differences, changed answers, costs, tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.records.folder import EvaluationFolder
from ixt_rl.evaluation.statistics import holm, paired
from ixt_rl.files import read_json, write_json
from ixt_rl.report.evaluations.changes import changes
from ixt_rl.report.evaluations.checkpoints import costs_of, run_place
from ixt_rl.report.evaluations.evaluated import only_evaluations, read_evaluations, settings_table
from ixt_rl.report.evaluations.page import build_evaluation_page
from ixt_rl.report.evaluations.pairs import POOLED, differences
from ixt_rl.report.evaluations.papers import paper_rows
from ixt_rl.report.evaluations.tables import latex, markdown
from tests.unit.report.evaluation_maker import EvaluationMaker, drawn

PAPER = ("math500", "minerva", "olympiadbench", "college_math", "amc23", "aime25")


@pytest.fixture
def make(tmp_path) -> EvaluationMaker:
    return EvaluationMaker(tmp_path)


def right(*counts: int, k: int = 1) -> list[list[int]]:
    """Scores of one question for each count: so many of k samples are right."""
    return [[1] * count + [0] * (k - count) for count in counts]


@pytest.fixture
def two(make) -> list[Path]:
    """A model and a better one on two suites; `large & wide` has names that pages and tables must escape."""
    before = {"gsm8k": right(1, 1, 0, 0, 0, 1), "amc23": right(0, 2, 4, 1, k=4)}
    after = {"gsm8k": right(1, 0, 1, 1, 1, 1), "amc23": right(4, 2, 4, 0, k=4)}
    before["gsm8k"][5] = [None]
    return [make("before", before, model="base_1"), make("after", after, model="large & wide")]


def test_the_page_has_scores_differences_and_changes(two, tmp_path):
    out = build_evaluation_page(two, tmp_path / "pages" / "compared.html")
    page = out.read_text()
    assert "2 models on the same suites" in page
    assert "large &amp; wide - base_1" in page
    assert "<b>Sample</b>" not in page
    assert "&lt;b&gt;Sample&lt;/b&gt;" in page
    for part in ("Scores", "What a score leaves out", "Differences on the same questions", "Answers that changed"):
        assert f"<h2>{part}</h2>" in page
    assert "Over the run" not in page
    assert "Beside the paper" not in page
    assert "<script" not in page
    beside = out.parent / "compared-files"
    assert sorted(file.name for file in beside.iterdir()) == [
        "differences.pdf", "scores.pdf", "table.md", "table.tex",
    ]  # fmt: skip
    assert (beside / "scores.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_of_one_model_has_its_samples(two):
    page = build_evaluation_page(two[:1], two[0] / "report.html").read_text()
    assert "<h1>base_1</h1>" in page
    assert "the first 6 questions" in page
    assert "Differences" not in page
    assert "What is 5 &amp; 5?" in page


def test_differences_are_the_paired_ones_corrected_together(two):
    before, after = read_evaluations(two)
    gsm8k, amc23, pooled = differences([before, after])
    expected = [paired(after.tables[suite], before.tables[suite]) for suite in ("gsm8k", "amc23")]
    assert [one.found for one in (gsm8k, amc23)] == expected
    assert gsm8k.found.questions == 5  # one is undecided before
    assert gsm8k.as_wrong == pytest.approx(3 / 6)
    assert [one.needed for one in (gsm8k, amc23)] == [one.questions_needed() for one in expected]
    assert pooled.suite == POOLED
    d = [0, -1, 1, 1, 1, 1, 0, 0, -0.25]
    assert pooled.found.difference == pytest.approx(np.mean(d))
    assert (pooled.found.better, pooled.found.worse, pooled.found.questions) == (4, 2, 9)
    tests = [gsm8k.found.p_value, amc23.found.p_value, pooled.found.p_value]
    assert [gsm8k.p_holm, amc23.p_holm, pooled.p_holm] == holm(tests)


def test_of_many_models_each_is_compared_with_the_first(make):
    folders = [make(f"m{n}", {"gsm8k": drawn(20, 1, 0.5, n)}) for n in range(5)]
    assert [one.pair for one in differences(read_evaluations(folders))] == [f"m{n} - m0" for n in range(1, 5)]
    assert len(differences(read_evaluations(folders[:4]))) == 6


def test_models_without_a_common_question_have_no_difference(make, tmp_path):
    folders = [make("a", {"gsm8k": right(1, 0)}), make("b", {"math500": right(1, 0)})]
    assert differences(read_evaluations(folders)) == []
    page = build_evaluation_page(folders, tmp_path / "x.html").read_text()
    assert "Differences on the same questions" not in page


def test_clusters_count_in_the_pooled_difference(make):
    names = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    scores = [
        {"one": drawn(30, 1, share, seed), "two": drawn(30, 1, share, seed + 9)} for share, seed in ((0.3, 1), (0.6, 2))
    ]
    apart = differences(read_evaluations([make(f"a{n}", found) for n, found in enumerate(scores)]))[-1].found
    clusters = {"one": names, "two": names}
    joined = differences(read_evaluations([make(f"c{n}", found, clusters=clusters) for n, found in enumerate(scores)]))
    assert (apart.clusters, joined[-1].found.clusters) == (60, 6)  # a suite's clusters are its own
    assert apart.difference == joined[-1].found.difference


def test_what_changed_is_counted_and_shown(two):
    before, after = read_evaluations(two)
    gsm8k, amc23 = changes(before, after)
    assert (gsm8k.lost, gsm8k.gained, gsm8k.kept, gsm8k.never, gsm8k.undecided) == (1, 3, 1, 0, 1)
    assert (amc23.lost, amc23.gained, amc23.kept, amc23.never, amc23.undecided) == (
        0,
        1,
        1,
        1,
        1,
    )  # two of four: neither
    (lost,) = gsm8k.examples["lost"]
    assert (lost.id, lost.before.verdict, lost.after.verdict) == ("q1", "right", "wrong")
    (gained,) = amc23.examples["gained"]
    assert (gained.shares, gained.question) == ((0.0, 1.0), "What is 0 & 0?")


def trained(tmp_path, make, kind: str = "intro", **block) -> list[Path]:
    """Evaluations of a run's start, of a checkpoint and of its end, on the suites of InTRO's table."""
    run = tmp_path / "runs" / "paper"
    stage = run / "stages" / "train" / "seed1"
    stage.mkdir(parents=True)
    config = {"model": {"path": "Qwen/Qwen2.5-1.5B"}, "stages": [{"name": "train", "type": kind, **block}]}
    (run / "config.yaml").write_text(json.dumps(config))
    rows = [
        {"phase": "train", "step": n, "flops": 1e9 * n, "seconds": 2.0 * n, "rollouts": 8 * n} for n in range(1, 11)
    ]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suites = {suite: drawn(12, 2, 0.5, at) for at, suite in enumerate(PAPER)}
    places = ["Qwen/Qwen2.5-1.5B", str(stage / "checkpoints" / "checkpoint-4"), str(stage / "model")]
    return [make(f"e{n}", suites, model=f"m{n}", path=place) for n, place in enumerate(places)]


def test_costs_are_those_of_the_runs_rows(make, tmp_path):
    models = read_evaluations(trained(tmp_path, make))
    assert costs_of(models) == [
        {"rollouts": 0, "flops": 0, "seconds": 0},
        {"rollouts": 32, "flops": 4e9, "seconds": 8},
        {"rollouts": 80, "flops": 1e10, "seconds": 20},
    ]
    out = build_evaluation_page([one.path for one in models], tmp_path / "curves.html")
    assert "<h2>Over the run</h2>" in out.read_text()
    assert {"rollouts.pdf", "flops.pdf", "seconds.pdf"} <= {f.name for f in (tmp_path / "curves-files").iterdir()}


def test_models_of_two_runs_or_of_none_have_no_common_costs(make, tmp_path):
    first, checkpoint, _ = read_evaluations(trained(tmp_path, make))
    (other,) = read_evaluations([make("o", {"gsm8k": right(1, 0)}, path=str(tmp_path / "runs/b/stages/train/model"))])
    (plain,) = read_evaluations([make("p", {"gsm8k": right(1, 0)}, path="somebody/model")])
    assert costs_of([first, plain]) is None
    assert costs_of([checkpoint, other]) is None
    assert costs_of([checkpoint, plain]) is None
    assert costs_of([checkpoint]) is None


@pytest.mark.parametrize(
    ("path", "stage", "seed", "step"),
    [
        ("runs/a/stages/base/model", "base", None, None),
        ("runs/a/stages/rl/seed3/model", "rl", 3, None),
        ("/x/stages/rl/seed3/checkpoints/checkpoint-40", "rl", 3, 40),
    ],
)
def test_places_in_a_run(path, stage, seed, step):
    place = run_place(path)
    assert (place.stage, place.seed, place.step) == (stage, seed, step)
    assert run_place("models/smollm2") is None


def test_the_papers_row_stands_beside_ours(make, tmp_path):
    base, checkpoint, end = paper_rows(read_evaluations(trained(tmp_path, make, intro={"candidates": 5})))
    assert (base.row, base.printed, base.apart) == ("Qwen2.5-1.5B, base", 22.7, [])
    assert (end.printed, end.column, end.apart) == (24.9, "average", [])
    assert end.row in ("Qwen2.5-1.5B, InTRO", "Qwen2.5-1.5B, InTRO n=5")  # one figure, in two tables
    assert checkpoint.apart == ["a checkpoint, of update 4"]
    values = [np.mean(drawn(12, 2, 0.5, at)) for at in range(len(PAPER))]
    assert end.ours.value == pytest.approx(np.mean(values))
    assert end.ours.low < end.ours.value < end.ours.high


@pytest.mark.parametrize(
    ("kind", "block", "row"),
    [
        ("intro", {"intro": {"candidates": 40}}, ("Qwen2.5-1.5B, InTRO n=40", 23.8)),
        ("intro", {}, ("Qwen2.5-1.5B, InTRO n=5", 24.9)),
        ("intro", {"intro": {"candidates": 7}}, None),
        ("grpo", {}, ("Qwen2.5-1.5B, GRPO", 23.5)),
        ("raft", {"raft": {"importance_ratio": True}}, ("Qwen2.5-1.5B, RAFT++", 23.4)),
        ("raft", {}, None),
        ("sip", {}, None),
    ],
)
def test_the_row_is_that_of_the_method(make, tmp_path, kind, block, row):
    found = paper_rows(read_evaluations(trained(tmp_path, make, kind, **block))[2:])
    assert [(one.row, one.printed) for one in found] == ([row] if row else [])


def test_a_run_file_has_its_own_table(make, tmp_path):
    folders = trained(tmp_path, make, "sip")
    config = tmp_path / "runs" / "paper" / "config.yaml"
    rows = [{"stage": "train", "method": "SIP", "expected": {"amc23": 12.5, "average": 30, "factuality": 57.6}}]
    paper = {"arxiv": "2601.21343", "table": "Table 9: all", "rows": rows, "average_of": ["amc23", "aime25"]}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"paper": paper}))
    models = read_evaluations(folders[2:])
    amc23, both = paper_rows(models)
    assert (amc23.column, amc23.printed, amc23.paper) == ("amc23", 12.5, "arXiv 2601.21343, Table 9: all")
    assert amc23.ours.value == pytest.approx(np.mean(drawn(12, 2, 0.5, 4)))
    assert both.ours.value == pytest.approx(np.mean([drawn(12, 2, 0.5, 4), drawn(12, 2, 0.5, 5)]))
    assert (
        markdown(models, [amc23, both]).splitlines()[3].startswith("| Qwen2.5-1.5B, SIP (arXiv 2601.21343, Table 9) |")
    )
    config.write_text(json.dumps(json.loads(config.read_text()) | {"paper": {"rows": 3}}))
    assert paper_rows(models) == []


def test_what_keeps_it_from_being_the_papers_measurement_is_said(make):
    folder = make(
        "e", {"math500": right(1, 0), "amc23": right(1, 0)}, preset="cot", path="Qwen/Qwen3-4B-Base", of={"amc23": 40}
    )
    (row,) = paper_rows(read_evaluations([folder]))
    assert row.ours is None
    assert row.apart == [
        "not evaluated: minerva, olympiadbench, college_math, aime25", "preset cot", "not all questions: amc23",
    ]  # fmt: skip


def test_tables_for_a_paper(two, make):
    models = read_evaluations([*two, make("third", {"gsm8k": right(1, 1, 0)}, model="[x]")])
    lines = markdown(models, []).splitlines()
    assert lines[0] == "| model | gsm8k pass@1 | amc23 avg@4 | average |"
    first = models[0].results["suites"]["gsm8k"]["metrics"]["pass@1"]["left_out"]
    assert f"| base_1 | 40.0 [{100 * first['low']:.1f}, {100 * first['high']:.1f}] |" in lines[2]
    assert lines[4].endswith("| – | – |")  # no average over one suite of two
    tex = latex(models, [])
    assert r"{}base\_1 & 40.0 [" in tex
    assert r"{}large \& wide &" in tex
    assert "{}[x] &" in tex  # LaTeX takes a [ behind \\ for a length
    assert tex.count(r"\\") == 4


def test_what_is_not_alike_is_named(make, tmp_path):
    one = make("a", {"gsm8k": right(1, 0)})
    other = make("b", {"gsm8k": right(1, 0)}, preset="cot", seed=3)
    rows = settings_table(read_evaluations([one, other]))
    assert rows[:2] == [("preset", ["paper", "cot"]), ("seed", ["0", "3"])]
    assert dict(rows)["gsm8k: questions x samples"] == ["2 x 1", "2 x 1"]
    page = build_evaluation_page([one, other], tmp_path / "x.html").read_text()
    assert "The models were not asked in the same way:</strong> preset, seed." in page


def test_an_evaluation_that_goes_on_is_shown_as_far_as_it_is(make, tmp_path):
    folder = make("a", {"gsm8k": right(1, 0, 1)}, unfinished=1, results=False)
    page = build_evaluation_page([folder], tmp_path / "x.html").read_text()
    assert "a: 2 of 3 samples" in page
    nothing = make("b", {"gsm8k": right(1)}, unfinished=1, results=False)
    with pytest.raises(DataError, match="no record yet"):
        build_evaluation_page([nothing], tmp_path / "y.html")


def test_other_harnesses_verdicts_are_shown_with_what_differs(two, tmp_path):
    file = two[0] / "results.json"
    results = read_json(file)
    row = {"id": "q1", "sample": 0, "ours": "right", "theirs": "wrong", "extracted": None, "why": "no box"}
    results["suites"]["gsm8k"]["as"] = {
        "qwen25-math": {"score": 0.25, "differs": 1, "rows": [row], "of": "first samples", "quirks": ["one", "two"]}
    }
    write_json(file, results)
    page = build_evaluation_page(two, tmp_path / "x.html").read_text()
    assert "By the rules of other harnesses" in page
    assert "qwen25-math on gsm8k, base_1: 1 of 1 verdicts that differ" in page
    assert "qwen25-math: one; two." in page
    assert "first samples" in page
    assert "right: 1 (numbers)" in page
    assert "wrong: no answer found (no box)" in page


def test_contamination_that_lies_beside_the_records_is_shown(two, tmp_path):
    from ixt_rl.evaluation.contamination.counts import summary_of
    from ixt_rl.evaluation.contamination.overlap import QuestionIndex
    from ixt_rl.evaluation.contamination.page import write_findings
    from ixt_rl.evaluation.contamination.training_texts import TrainingText

    found = QuestionIndex({"gsm8k": [{"question": "a b c"}]}).find([TrainingText("t.jsonl", 1, "text", "a b c")])
    write_findings(two[0], summary_of(found), [], None)
    assert "<h2>Contamination</h2>" in build_evaluation_page(two, tmp_path / "x.html").read_text()


def test_two_folders_of_one_model_are_told_apart(make):
    folders = [make(name, {"gsm8k": right(1, 0)}, model="m") for name in ("greedy", "hot")]
    assert [one.label for one in read_evaluations(folders)] == ["m (greedy)", "m (hot)"]


def test_evaluations_and_runs_are_not_mixed(two, tmp_path):
    assert only_evaluations(two)
    assert not only_evaluations([tmp_path])
    with pytest.raises(ConfigError, match="evaluations alone, or runs alone"):
        only_evaluations([two[0], tmp_path])


def test_the_command_takes_one_folder_or_several(two, tmp_path):
    run = CliRunner().invoke
    done = run(main, ["report", str(two[0])])
    assert (done.exit_code, (two[0] / "report.html").is_file()) == (0, True), done.output
    done = run(main, ["report", *map(str, two), "--out", str(tmp_path / "both.html")])
    assert (done.exit_code, (tmp_path / "both.html").is_file()) == (0, True), done.output
    assert run(main, ["report", str(two[0]), str(tmp_path)]).exit_code == 2


def test_a_damaged_folder_is_refused_by_name(two):
    with (two[0] / "records.jsonl").open("a") as file:
        file.write('{"suite": 1}\n')
    with pytest.raises(DataError, match=r"records\.jsonl, line"):
        read_evaluations(two)


def test_the_maker_writes_what_the_job_reads(two):
    assert len(list(EvaluationFolder(two[0]).records())) == 6 + 16


def test_rows_of_one_number_in_two_files_are_not_paired(make, tmp_path):
    """Two files called test.jsonl, rows numbered: the third and fourth questions are others."""
    first, second = make("a", {"test": right(1, 0, 1, 0)}), make("b", {"test": right(0, 0, 0, 1)})
    lines = (second / "records.jsonl").read_text().replace("What is 2 &", "Who is 2 &").replace("What is 3 &", "Who &")
    (second / "records.jsonl").write_text(lines)
    before, after = read_evaluations([first, second])
    assert before.questions_apart(after, "test") == ["q2", "q3"]
    (found,) = differences([before, after])
    assert (found.found.questions, found.found.difference, found.found.left_out) == (2, -0.5, 4)
    (changed,) = changes(before, after)
    assert (changed.lost, changed.gained, changed.kept, changed.never) == (1, 0, 0, 1)
    page = build_evaluation_page([first, second], tmp_path / "x.html").read_text()
    assert "2 of its questions have ids that are those of other questions" in page
    assert "have ids that" not in build_evaluation_page([first, first], tmp_path / "y.html").read_text()
