"""What evaluations found problem by problem: intervals as the statistics give them, paired differences."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ixt_rl.config.expectations import ClaimBlock
from ixt_rl.evaluation.evaluate import Answers
from ixt_rl.evaluation.statistics import estimate, paired_values
from ixt_rl.report.results import claims
from ixt_rl.report.run_folder import RunRecord
from ixt_rl.run.answered import (
    interval_of,
    intervals,
    keep_answered,
    keep_start,
    of_start,
    ratio_of,
    write_answered,
)
from ixt_rl.run.expectations import _check
from ixt_rl.run.final_values import FinalValues

ROWS = [{"question": f"q{i}", "answer": str(i)} for i in range(12)]
RNG = np.random.default_rng(0)
OWN, OTHER = (RNG.integers(0, 2, (12, 2)).astype(float) for _ in range(2))

RUN = RunRecord("run", {}, "", [], [], {}, [], [])


@pytest.fixture
def kept(tmp_path):
    """Keeps values of `sampled/strict` in a new folder, as of a stage."""

    def keep(name, values, rows=ROWS):
        (tmp_path / name).mkdir()
        found = {"sampled": {"strict": values, "length": values * 9}}
        write_answered(tmp_path / name, Answers(found, [], []), rows)
        return SimpleNamespace(path=tmp_path / name)

    return keep


def test_an_interval_is_of_the_problems_means(kept):
    stage, expected = kept("a", OWN), estimate(OWN.mean(axis=1))
    found = {"sampled/strict_low": expected.low, "sampled/strict_high": expected.high}
    assert intervals(stage.path) == pytest.approx(found)
    assert interval_of("sampled/strict", [stage], []) == pytest.approx({"low": expected.low, "high": expected.high})
    assert interval_of("sampled/length", [stage], []) == {}


def test_the_interval_of_the_start_is_kept_with_those_of_later_evaluations(kept, tmp_path):
    (tmp_path / "nothing").mkdir()
    keep_start(tmp_path / "nothing")
    assert of_start(tmp_path / "nothing") == {}
    stage, later = kept("a", OWN), estimate(OTHER.mean(axis=1))
    start = intervals(stage.path)
    keep_start(stage.path)
    write_answered(stage.path, Answers({"sampled": {"strict": OTHER}}, [], []), ROWS)
    assert of_start(stage.path) == start
    assert intervals(stage.path)["sampled/strict_low"] == pytest.approx(later.low) != start["sampled/strict_low"]


def test_questions_of_one_document_are_its_cluster(tmp_path):
    values, other, names = OWN.mean(axis=1), OTHER.mean(axis=1), [f"d{i // 3}" for i in range(12)]
    stages = []
    for name, found in (("a", values), ("b", other)):
        (tmp_path / name).mkdir()
        keep_answered(tmp_path / name, ROWS, {"sampled/grounding": found.tolist()}, names)
        stages.append(SimpleNamespace(path=tmp_path / name))
    expected, alone = estimate(values, names), estimate(values)
    assert interval_of("sampled/grounding", stages[:1], []) == {"low": expected.low, "high": expected.high}
    assert (expected.low, expected.high) != (alone.low, alone.high)
    difference = paired_values(values, other, names)
    found = interval_of("sampled/grounding", stages[:1], stages[1:])
    assert found == pytest.approx({"low": difference.low, "high": difference.high, "p": difference.p_value})


def test_what_is_measured_on_other_questions_stands_beside(kept):
    stage = kept("a", OWN)
    before = intervals(stage.path)
    for scale in (1.0, 2.0):  # the second evaluation takes the first one's place
        keep_answered(stage.path, ["d1", "d2"], {}, None, {"heldout": [3.0 * scale, 5.0]}, [2, 3])
    found = intervals(stage.path)
    assert found == before | {name: found[name] for name in ("heldout/perplexity_low", "heldout/perplexity_high")}
    assert found["heldout/perplexity_low"] * found["heldout/perplexity_high"] == pytest.approx(math.exp(2 * 11 / 5))


def test_a_difference_is_paired_by_problem(kept):
    found = interval_of("sampled/strict", [kept("a", OWN)], [kept("b", OTHER)])
    expected = paired_values(OWN.mean(axis=1), OTHER.mean(axis=1))
    assert found == pytest.approx({"low": expected.low, "high": expected.high, "p": expected.p_value})


def test_perplexities_have_intervals_alone_and_as_ratios(tmp_path):
    """Of replies of other lengths the ratio is that of sums, by hand; half of it is the difference of the losses."""
    names, tokens = [f"d{i // 3}" for i in range(12)], [3 + i % 4 for i in range(12)]
    nats = [(RNG.random(12) * np.array(tokens) * scale).tolist() for scale in (3.0, 2.0)]
    stages = []
    for place, own in enumerate(nats):
        (tmp_path / str(place)).mkdir()
        keep_answered(tmp_path / str(place), ROWS, {}, names, {"heldout": own}, tokens)
        stages.append(SimpleNamespace(path=tmp_path / str(place)))
    loss = [sum(own) / sum(tokens) for own in nats]
    found = interval_of("heldout/perplexity", stages[:1], [])
    assert found["low"] * found["high"] == pytest.approx(math.exp(2 * loss[0]))  # symmetric in logarithms
    assert intervals(stages[0].path)["heldout/perplexity_low"] == found["low"]
    ratio = ratio_of("heldout/perplexity", stages[:1], stages[1:])
    assert ratio["low"] * ratio["high"] == pytest.approx(math.exp(2 * (loss[0] - loss[1])))
    assert 0 < ratio["p"] <= 1
    assert ratio_of("heldout/loss", stages[:1], stages[1:]) == {}
    assert interval_of("heldout/perplexity", stages[:1], stages[1:]) == {}  # a difference of perplexities
    keep_answered(stages[1].path, ROWS, {}, names, {"heldout": nats[1]}, [9] * 12)
    assert ratio_of("heldout/perplexity", stages[:1], stages[1:]) == {}  # of other tokens


def test_of_seeds_it_is_the_mean_of_each_problem(kept):
    found = interval_of("sampled/strict", [kept("a1", OWN), kept("a2", OTHER)], [kept("b1", OWN), kept("b2", OWN)])
    expected = paired_values((OWN + OTHER).mean(axis=1) / 2, OWN.mean(axis=1))
    assert found["low"] == pytest.approx(expected.low)


def test_undecided_problems_are_left_out(kept):
    some = OWN.copy()
    some[3] = np.nan
    some[4, 0] = np.nan
    found = interval_of("sampled/strict", [kept("a", some)], [kept("b", OTHER)])
    own = np.array([*some[:3].mean(axis=1), np.nan, some[4, 1], *some[5:].mean(axis=1)])
    assert found["high"] == pytest.approx(paired_values(own, OTHER.mean(axis=1)).high)
    none = kept("c", np.full((12, 2), np.nan))
    assert intervals(none.path) == interval_of("sampled/strict", [none], [none]) == {}


def test_other_problems_and_stages_that_kept_nothing_have_none(kept, tmp_path):
    (tmp_path / "empty").mkdir()
    empty, own = SimpleNamespace(path=tmp_path / "empty"), kept("a", OWN)
    assert interval_of("sampled/strict", [own], [kept("b", OTHER, ROWS[::-1])]) == {}
    assert interval_of("sampled/strict", [own], [empty]) == interval_of("sampled/strict", [empty], []) == {}
    assert interval_of("sampled/strict", [own, empty], []) == intervals(empty.path) == {}


def test_a_claim_whose_interval_reaches_over_the_bound_is_undecided(kept):
    def verdict(bound, **bounds):
        block = ClaimBlock(says="so", metric="sampled/strict", stage="a", minus="b", **(bounds or {"at_least": bound}))
        item = {**_check(block, folder, RUN, FinalValues()), "says": "so"}
        (claim,) = claims({"claims": [item]})
        assert claim["value"].endswith(")") and "p = " in claim["value"]
        return claim["verdict"]

    own, other = kept("a", np.ones((12, 1))), kept("b", np.array([[0.0]] * 9 + [[1.0]] * 3))
    for stage, name, value in ((own, "a", 1.0), (other, "b", 0.25)):
        stage.stage = name
        (stage.path / "done.json").write_text("{}")
        row = {"phase": "eval", "step": 1, "sampled/strict": value}
        stage.metrics, stage.final_metrics = (lambda row=row: [row]), (lambda row=row: row)
    folder = SimpleNamespace(stages=[own, other])
    low, high = (interval_of("sampled/strict", [own], [other])[end] for end in ("low", "high"))
    assert low < 0.75 < high
    assert verdict(low - 0.01) == "reproduced"
    assert verdict(0.7) == verdict(0.8) == "undecided"
    assert verdict(high + 0.001) == "not reproduced" or high == 1
    assert verdict(None, at_least=0.7, at_most=0.8) == "undecided"
    assert verdict(None, at_most=0.1) == "not reproduced"
