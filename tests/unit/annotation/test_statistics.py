"""What the report says: counts against enumeration, correlations against numpy, agreement against hand counts."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from ixt_rl.corpus.annotate.agreement import agreement
from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.annotate.statistics import _Sums
from ixt_rl.corpus.even_sample import EvenSample
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from ixt_rl.types import SamplingParams
from tests.unit.annotation.helpers import corpus, judge_file, make_job, read_rows, write_lines

FICKLE = '''
import os

asked = {}


def level(fields):
    """5 the first time a text is asked about, 4 the second."""
    asked[fields["text"]] = asked.get(fields["text"], 0) + 1
    return {"overall": 6 - asked[fields["text"]], "efficiency": 2}
'''
FIRST = '''
def first(fields):
    """Prefers "good", and between equals the first one."""
    return "B" if "good" in fields["b"] and "good" not in fields["a"] else "A"
'''


def test_sums_give_the_correlations_of_numpy():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 4))
    matrix[:, 1] += matrix[:, 0]
    matrix[:, 3] = 2.0  # does not vary
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    sums = _Sums(4)
    for part in np.array_split(matrix, 7):
        sums.add(part)
    found = sums.correlations()
    for i in range(4):
        for j in range(4):
            both = ~np.isnan(matrix[:, i]) & ~np.isnan(matrix[:, j])
            if 3 in (i, j):
                assert found[i][j] is None
            else:
                assert found[i][j] == pytest.approx(np.corrcoef(matrix[both, i], matrix[both, j])[0, 1], abs=1e-4)


def test_a_draw_is_even_and_does_not_depend_on_the_order():
    orders = [list(range(10_000)) for _ in range(2)]
    random.Random(0).shuffle(orders[1])
    drawn = []
    for order in orders:
        draw = EvenSample(500)
        for row in order:
            draw.offer(row)
        drawn.append(draw.rows())
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 500
    assert 4500 < np.mean(drawn[0]) < 5500


def test_the_summary_is_what_the_rows_say(tmp_path):
    spec = SourceSpec(str(write_lines(tmp_path / "c.jsonl", corpus(60))))
    summary = annotate(make_job(tmp_path, prices=(1.0, 2.0)), spec, tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    for level in range(1, 6):
        assert summary["levels"][str(level)] == sum(row["feedback_level"] == level for row in rows)
    judged = [row for row in rows if row["feedback_status"] == "judged"]
    assert summary["judged"] == len(judged)
    style = [row["feedback_scores"]["writing_style"] for row in rows]
    assert summary["scores"]["writing_style"]["mean"] == pytest.approx(sum(style) / 60)
    assert summary["undecided_axes"]["efficiency"] == 60
    names, matrix = summary["correlations"]["names"], summary["correlations"]["matrix"]
    assert matrix[names.index("expertise")][names.index("level")] == -1
    assert matrix[names.index("efficiency")][names.index("level")] is None
    page = (tmp_path / "out" / "annotation.html").read_text()
    assert "Does the judge agree with itself" in page and "not measured" in page.lower()
    assert "https://" not in page and "src=" not in page  # nothing from outside
    assert '<th class="name">sampling.temperature</th>' in page and "{&#39;" not in page  # settings by name
    saved = json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert saved["levels"] == summary["levels"]
    for name, shown in saved["examples"].items():
        for item in shown:
            row = rows[item["row"]]
            assert item["texts"] == {"text": row["text"]}
            assert str(row["feedback_level"] or row["feedback_status"]) == name


def test_a_judge_that_changes_its_mind_is_found_out(tmp_path):
    spec = SourceSpec(str(write_lines(tmp_path / "c.jsonl", [{"text": f"t{row}"} for row in range(30)])))
    judge = parse_judge(f"python:{judge_file(tmp_path, FICKLE)}:level", {})
    job = make_job(tmp_path, judge=judge, sampling=SamplingParams(8, temperature=1.0, seed=0))
    check = annotate(job, spec, tmp_path / "out", check_sample=12)["check"]
    assert check["documents"] == 12
    assert check["values"]["level"] == {"both": 12, "same": 0.0, "near": 1.0, "difference": 1.0, "once": 0}
    assert check["values"]["efficiency"]["same"] == 1.0
    assert check["values"]["writing_style"] == {"both": 0, "same": None, "near": None, "difference": None, "once": 0}
    assert [row["feedback_level"] for row in read_rows(tmp_path / "out")] == [5] * 30  # the rows stay as they were


def test_swap_consistency_of_pairs(tmp_path):
    rows = [{"prefix": "p", "a": "good", "b": "bad"}] * 1 + [{"prefix": f"p{n}", "a": "x", "b": "y"} for n in range(3)]
    spec = SourceSpec(str(write_lines(tmp_path / "c.jsonl", rows)))
    judge = parse_judge(f"python:{judge_file(tmp_path, FIRST)}:first", {})
    job = make_job(tmp_path, judge=judge, rubric=load_rubric("pairwise-quality"))
    check = annotate(job, spec, tmp_path / "out", check_sample=4)["check"]
    assert (check["pairs"], check["consistent"]) == (4, 0.25)
    assert check["values"]["level"]["same"] == 1.0
    assert [row["feedback_level"] for row in read_rows(tmp_path / "out")] == [5, 3, 3, 3]


def test_agreement_by_hand():
    found = [
        {"first": {"level": 5, "x": 1.0}, "again": {"level": 4, "x": None}, "consistent": True},
        {"first": {"level": 2, "x": 1.0}, "again": {"level": 2, "x": 4.0}, "consistent": False},
        {"first": {"level": None, "x": None}, "again": {"level": 3, "x": None}, "consistent": None},
    ]
    assert agreement(found) == {
        "documents": 3,
        "values": {
            "level": {"both": 2, "same": 0.5, "near": 1.0, "difference": 0.5, "once": 1},
            "x": {"both": 1, "same": 0.0, "near": 0.0, "difference": 3.0, "once": 1},
        },
        "pairs": 2,
        "consistent": 0.5,
    }


PAIR = {"problem": "p", "a": "first", "b": "second"}
UNSURE = """
def unsure(fields):
    return "A" if fields["a"] == "first" else "perhaps"
"""


def test_undecided_rows_are_shown_with_what_the_judge_wrote(tmp_path):
    """Also of a pair in both orders, and of a job that is done and is started again; nobody is asked for it."""
    rows = [{"text": "twelve chars"}, {"text": "sevenal"}, {"text": "raise"}]
    job, out = make_job(tmp_path), tmp_path / "out"
    for _ in range(2):
        annotate(job, SourceSpec(str(write_lines(tmp_path / "rows.jsonl", rows))), out)
        shown = {
            item["row"]: item["replies"]
            for item in json.loads((out / "annotation.json").read_text())["examples"]["undecided"]
        }
        assert shown == {1: ['{"writing_style": 2, "overall": null}'], 2: []}  # what failed is not kept
    page = (out / "annotation.html").read_text()
    assert "judge&#39;s reply" in page or "judge's reply" in page
    assert "&#34;writing_style&#34;: 2" in page
    judge = parse_judge(f"python:{judge_file(tmp_path, UNSURE)}:unsure", {})
    annotate(
        make_job(tmp_path, rubric=load_rubric("pairwise-answers"), judge=judge),
        SourceSpec(str(write_lines(tmp_path / "pairs.jsonl", [PAIR]))),
        tmp_path / "pairs",
    )
    (item,) = json.loads((tmp_path / "pairs" / "annotation.json").read_text())["examples"]["undecided"]
    assert [json.loads(reply)["verdict"] for reply in item["replies"]] == ["A", "perhaps"]
