"""avg@k, pass@k and maj@k against enumeration of all subsets."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.statistics import VerdictTable, avg_at_k, maj_at_k, pass_at_k, summarize
from ixt_rl.evaluation.statistics.per_question import majority, votes
from ixt_rl.evaluation.statistics.summary import passes

NAN = math.nan


def table(scores, extracted=None, clusters=None):
    scores = np.array(scores, float)
    if extracted is None:
        extracted = [["right" if s == 1 else f"w{i}" for i, s in enumerate(row)] for row in scores]
    return VerdictTable(
        [f"q{i}" for i in range(len(scores))], clusters, scores, np.zeros(scores.shape, bool), extracted
    )


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    rows = [[float(i < right) for i in range(n)] for right in range(n + 1)]
    for k in range(1, n + 1):
        brute = [np.mean([max(chosen) for chosen in combinations(row, k)]) for row in rows]
        assert pass_at_k(table(rows), k) == pytest.approx(brute, abs=1e-12)


def test_pass_at_k_of_many_samples_is_exact():
    row = [1.0] * 3 + [0.0] * 509
    exact = 1 - Fraction(math.comb(509, 256), math.comb(512, 256))
    assert pass_at_k(table([row]), 256)[0] == pytest.approx(float(exact), abs=1e-12)


def test_undecided_samples_are_left_out_or_wrong():
    found = table([[1, 0, NAN, NAN], [1, 1, 1, 0], [NAN] * 4])
    assert avg_at_k(found)[:2] == pytest.approx([0.5, 0.75])
    assert np.isnan(avg_at_k(found)[2])
    assert avg_at_k(found.as_wrong()) == pytest.approx([0.25, 0.75, 0])
    assert pass_at_k(found, 2)[0] == 1  # of the two that are decided
    assert np.isnan(pass_at_k(found, 3)[[0, 2]]).all()
    assert pass_at_k(found.as_wrong(), 3)[0] == pytest.approx(3 / 4)


def brute_majority(extracted, scores, k):
    """(right, undecided), by the rule, over all subsets."""
    right = undecided = Fraction(0)
    subsets = list(combinations(range(len(extracted)), k))
    for subset in subsets:
        counts: dict = {}
        for i in subset:
            if extracted[i] is not None:
                verdict = None if math.isnan(scores[i]) else scores[i]
                key = ("right",) if verdict == 1 else (extracted[i], verdict)
                counts.setdefault(key, [verdict, 0])[1] += 1
        most = max((n for _, n in counts.values()), default=0)
        top = [verdict for verdict, n in counts.values() if n == most]
        if top:
            right += Fraction(sum(v == 1 for v in top), len(top))
            undecided += Fraction(sum(v is None for v in top), len(top))
    return right / len(subsets), undecided / len(subsets)


def drawn(seed):
    generator = np.random.default_rng(seed)
    answers = {"4": 1.0, "5": 0.0, "6": 0.0, "7": NAN, None: 0.0, "x": NAN}
    extracted = [
        list(answers)[i] for i in generator.choice(6, size=generator.integers(1, 9), p=[0.3, 0.25, 0.1, 0.15, 0.1, 0.1])
    ]
    return extracted, [answers[one] for one in extracted]


@pytest.mark.parametrize("seed", range(25))
def test_majority_is_exact_over_subsets_and_ties(seed):
    extracted, scores = drawn(seed)
    answers = votes(extracted, scores)
    silent = extracted.count(None)
    for k in range(1, len(extracted) + 1):
        found = majority(answers, silent, k)
        assert found == pytest.approx([float(part) for part in brute_majority(extracted, scores, k)], abs=1e-12)


def test_a_tie_is_the_share_of_right_ones_among_those_that_lead():
    assert maj_at_k(table([[1, 1, 0, 0]], [["4", "4.0", "5", "5"]])) == [0.5]
    assert maj_at_k(table([[1, 0, 0]], [["4", "5", "6"]])) == pytest.approx([1 / 3])
    assert maj_at_k(table([[0, 0, 1]], [[None, None, "4"]])) == [1]
    assert maj_at_k(table([[0, 0, 0]], [[None] * 3])) == [0]


def test_an_undecided_majority_is_left_out_or_wrong():
    found = table([[NAN, NAN, 1], [NAN, 1, 0]], [["x", "x", "4"], ["x", "4", "5"]])
    assert np.isnan(maj_at_k(found)[0])
    assert maj_at_k(found)[1] == pytest.approx(0.5)
    assert maj_at_k(found.as_wrong()) == pytest.approx([0, 1 / 3])


def test_equal_answers_are_one_by_the_grading():
    found = table([[0, 0, 1]], [["1/2", "0.5", "4"]])
    assert maj_at_k(found) == pytest.approx([1 / 3])
    assert maj_at_k(found, same=lambda a, b: {a, b} == {"1/2", "0.5"}) == [0]
    asked = []
    votes(["4", "4.0", "5"], [1, 1, 0], same=lambda a, b: asked.append((a, b)) or False)
    assert asked == []  # right ones equal the gold, and nothing else has that verdict


def test_a_k_beyond_the_samples_is_refused():
    for k in (0, 3):
        with pytest.raises(ConfigError, match=f"k = {k}"):
            pass_at_k(table([[1, 0]]), k)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.array([[0.5]])}, "0.5"),
        ({"scores": np.zeros((0, 1))}, "shape"),
        ({"truncated": np.zeros((1, 2))}, "truncated"),
        ({"extracted": [["a", "b"]]}, "extracted"),
        ({"ids": ["a", "b"]}, "ids"),
        ({"clusters": []}, "ids"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(change, said):
    fits = {
        "ids": ["a"],
        "clusters": None,
        "scores": np.ones((1, 1)),
        "truncated": np.zeros((1, 1)),
        "extracted": [["4"]],
    }
    VerdictTable(**fits)
    with pytest.raises(DataError, match=said):
        VerdictTable(**fits | change)


def test_a_question_twice_is_refused():
    with pytest.raises(DataError, match="'a' twice"):
        VerdictTable(["a", "a"], None, np.ones((2, 1)), np.zeros((2, 1)), [["4"], ["4"]])


def test_a_summary_has_the_metrics_in_order_with_both_bounds():
    found = summarize(
        table([[1, 0, NAN, 1], [1, 1, 1, 1], [0, 0, 0, NAN]], [["4", None, "x", "4"], ["4"] * 4, ["5"] * 4])
    )
    assert [metric.name for metric in found.metrics] == ["avg@4", "pass@2", "pass@4", "maj@4"]
    assert (found.questions, found.samples, found.clusters) == (3, 4, 3)
    assert found.shares.undecided == pytest.approx(2 / 12)
    assert found.shares.unextracted == pytest.approx(1 / 12)
    average = found.metrics[0]
    assert average.left_out.value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert average.as_wrong.value == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found.metrics[2].left_out.questions == 1  # of the others fewer than 4 are decided
    assert found.as_json()["metrics"]["avg@4"]["as_wrong"]["questions"] == 3


def test_single_answers_are_called_pass_at_1():
    assert [metric.name for metric in summarize(table([[1], [0]])).metrics] == ["pass@1"]
    assert passes(32) == [2, 4, 8, 16, 32]
    assert passes(6) == [2, 4, 6]
    assert passes(1) == []
