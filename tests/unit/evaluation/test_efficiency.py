"""Compute-efficiency: closed forms, what must be refused, and bands that hold what they say."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from ixt_rl.evaluation.efficiency import (
    document_flops,
    flops_at,
    match,
    matched_scores,
    running_maximum,
    standard_error,
)


def power_curve(scale: float, exponent: float = 0.5, points: int = 400, top: float = 1e6):
    """score = (flops / scale) ** exponent, on a fine grid."""
    grid = [top * (i + 1) / points for i in range(points)]
    return [(flops, (flops / scale) ** exponent) for flops in grid]


def test_flops_are_six_for_training_and_two_for_judging():
    assert document_flops(500_000, 1_000_000) == 3e12
    assert document_flops(500_000, 1_000_000, 8_000_000, 250_000) == 3e12 + 4e12
    assert document_flops(10, 3, 7, 5) == 6 * 10 * 3 + 2 * 7 * 5


def test_crossings_lie_on_the_straight_line_between_checkpoints():
    curve = [(100.0, 0.1), (200.0, 0.3), (400.0, 0.4)]
    assert flops_at(curve, 0.2) == pytest.approx(150)
    assert flops_at(curve, 0.3) == pytest.approx(200)  # a checkpoint itself
    assert flops_at(curve, 0.35) == pytest.approx(300)
    assert flops_at(curve, 0.4) == pytest.approx(400)
    assert flops_at(curve[::-1], 0.35) == pytest.approx(300)  # order does not matter


def test_a_dip_is_bridged_by_the_running_maximum():
    curve = [(1.0, 0.1), (2.0, 0.4), (3.0, 0.2), (4.0, 0.6)]
    assert running_maximum(curve) == [(1.0, 0.1), (2.0, 0.4), (3.0, 0.4), (4.0, 0.6)]
    assert flops_at(curve, 0.3) == pytest.approx(1 + 2 / 3)  # on the way up, not after the dip
    assert flops_at(curve, 0.5) == pytest.approx(3.5)


def test_ties_and_equal_flops():
    flat = [(1.0, 0.1), (2.0, 0.4), (3.0, 0.4), (4.0, 0.4)]
    assert flops_at(flat, 0.4) == pytest.approx(2)  # the first of equals
    twice = [(1.0, 0.1), (2.0, 0.5), (2.0, 0.3), (3.0, 0.6)]  # a stage's end, and the next one's start
    assert running_maximum(twice) == [(1.0, 0.1), (2.0, 0.5), (3.0, 0.6)]
    jump = [(1.0, 0.1), (1.0, 0.2), (2.0, 0.3)]
    assert flops_at(jump, 0.25) == pytest.approx(1.5)


def test_no_crossing_before_the_first_checkpoint_or_beyond_the_maximum():
    curve = [(1.0, 0.2), (2.0, 0.4)]
    assert flops_at(curve, 0.2) is None and flops_at(curve, 0.1) is None
    assert flops_at(curve, 0.41) is None
    assert flops_at([], 0.3) is None


def test_flops_grow_with_the_score():
    numbers = random.Random(0)
    curve = [(float(i), numbers.random()) for i in range(30)]
    top = max(score for _, score in curve)
    scores = [curve[0][1] + (top - curve[0][1]) * (i + 1) / 50 for i in range(50)]
    found = [flops_at(curve, min(score, top)) for score in scores]
    assert all(a <= b for a, b in pairwise(found))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.8])
def test_two_power_laws_have_their_ratio_at_every_score(ratio):
    plain = {1: power_curve(4e6)}
    arm = {1: power_curve(4e6 / ratio)}
    for score in (0.15, 0.2, 0.3, 0.35):
        assert match(plain, arm, score).ratio == pytest.approx(ratio, rel=0.01)


def test_power_laws_of_other_exponents_have_a_ratio_that_moves_with_the_score():
    """score = (flops / a) ** p  <=>  flops = a score ** (1 / p)."""
    plain, arm = {1: power_curve(4e6, 0.5)}, {1: power_curve(1e6, 1.0)}
    for score in (0.2, 0.3, 0.4):
        assert match(plain, arm, score).ratio == pytest.approx(4e6 * score**2 / (1e6 * score), rel=0.01)


def test_annotation_charged_in_advance_lowers_the_ratio_by_its_share():
    plain, arm = power_curve(4e6), power_curve(2e6)
    charged = [(flops + 50_000, score) for flops, score in arm]
    free, paid = match({1: plain}, {1: arm}, 0.3), match({1: plain}, {1: charged}, 0.3)
    assert free.ratio == pytest.approx(2, rel=0.01)
    assert paid.ratio == pytest.approx(360_000 / 230_000, rel=0.01)


def test_one_seed_has_a_ratio_and_no_band():
    found = match({1: [(1.0, 0.0), (3.0, 1.0)]}, {1: [(1.0, 0.0), (2.0, 1.0)]}, 0.5)
    assert found.ratio == pytest.approx(2 / 1.5)
    assert (found.low, found.high, found.band) == (None, None, "one seed, no band")


def line(reach: float):
    """Reaches 1 at `reach` FLOPs, from 0 at 0, in a straight line."""
    return [(reach * i / 20, i / 20) for i in range(21)]


def test_two_seeds_give_a_range_by_name():
    found = match({1: line(2), 2: line(9)}, {1: line(1), 2: line(3)}, 0.5)
    assert found.ratio == pytest.approx(math.sqrt(2 * 3))
    assert (found.low, found.high) == pytest.approx((2, 3)) and found.band == "range of 2 seeds"


def test_three_seeds_give_the_t_interval_of_the_log_ratio():
    found = match({1: line(2), 2: line(4), 3: line(8)}, {1: line(1), 2: line(1), 3: line(1)}, 0.5)
    assert found.ratio == pytest.approx(4)
    half = 4.303 * math.log(2) / math.sqrt(3)  # logs are log 2 apart, so their standard deviation is log 2
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((math.log(4) - half, math.log(4) + half))
    assert found.band == "95 % t-interval over 3 seeds, paired"


def test_pairing_takes_out_what_the_seeds_share():
    luck = {1: 1.0, 2: 3.0, 3: 9.0}
    plain, arm = {s: line(2 * x) for s, x in luck.items()}, {s: line(x) for s, x in luck.items()}
    found = match(plain, arm, 0.5)
    assert (found.low, found.ratio, found.high) == pytest.approx((2, 2, 2))
    unpaired = match(plain, {s + 10: curve for s, curve in arm.items()}, 0.5)
    assert unpaired.ratio == pytest.approx(2) and unpaired.low < 0.5 and unpaired.high > 8
    assert unpaired.band == "95 % t-interval over 3 against 3 seeds"


def test_only_shared_seeds_are_compared():
    found = match({1: line(2), 2: line(4)}, {1: line(1), 7: line(100)}, 0.5)
    assert found.ratio == pytest.approx(2) and found.band == "one seed, no band"


def test_a_plain_model_trained_once_stands_against_every_seed():
    found = match({0: line(6)}, {1: line(1), 2: line(2), 3: line(3)}, 0.5)
    assert found.ratio == pytest.approx(6 / 6 ** (1 / 3))
    assert (found.low, found.high) == pytest.approx((2, 6)) and found.band == "range of 1 against 3 seeds"


def test_no_number_where_a_curve_never_arrives():
    short = [(0.0, 0.0), (1.0, 0.4)]
    refused = match({1: short}, {1: line(1)}, 0.5)
    assert (refused.ratio, refused.low, refused.refused) == (None, None, "plain never reaches it")
    assert match({1: line(1)}, {1: short}, 0.5, arm_name="level").refused == "level never reaches it"
    some = match({1: short, 2: line(1), 3: line(1)}, {s: line(1) for s in (1, 2, 3)}, 0.5)
    assert some.ratio is None and some.refused == "plain reaches it in 2 of 3 seeds"
    early = match({1: [(5.0, 0.6), (6.0, 0.7)]}, {1: line(1)}, 0.5)
    assert early.refused == "plain has it at its first checkpoint"
    assert match({}, {1: line(1)}, 0.5).refused == "plain was not measured"


def test_a_score_on_the_plateau_is_marked():
    plateau = [(0.0, 0.0), (0.5, 0.2), (1.0, 0.35), (2.0, 0.37), (3.0, 0.36), (4.0, 0.38)]
    error = standard_error(0.38, 120)
    assert error == pytest.approx(0.0443, abs=1e-4)
    on = match({1: plateau}, {1: line(3)}, 0.38 - 0.9 * error, problems=120)
    assert on.ratio is not None and on.fragile == "at the maximum of plain"
    assert match({1: plateau}, {1: line(3)}, 0.38 - 1.1 * error, problems=120).fragile == ""
    assert match({1: plateau}, {1: line(3)}, 0.37).fragile == ""  # without a number of problems no mark


def test_a_score_in_the_noise_of_the_start_is_marked():
    curve = [(0.0, 0.05), (1.0, 0.054), (1.5, 0.06), (2.0, 0.5)]
    assert match({1: line(3)}, {1: curve}, 0.055, 300, "level").fragile == "at the start of level"
    assert match({1: line(3)}, {1: curve}, 0.2, 300).fragile == ""


def test_a_score_before_the_first_checkpoint_is_marked():
    """From the untrained model on the straight line says nothing: learning may have started late."""
    coarse = [(0.0, 0.0), (1.0, 0.3), (2.0, 0.6)]
    assert match({1: coarse}, {1: line(3)}, 0.3).fragile == "before the first checkpoint of plain"
    assert match({1: line(3)}, {1: coarse}, 0.2).fragile == "before the first checkpoint of the arm"
    assert match({1: coarse[1:]}, {1: line(3)}, 0.5).fragile == ""  # between two trained models
    assert match({1: coarse}, {1: line(3)}, 0.31).fragile == ""


def test_matched_scores_are_round_and_within_plain_training():
    assert matched_scores([line(1)], [line(1)]) == [0.2, 0.4, 0.6, 0.8, 1.0]
    plain = [(0.0, 0.04), (1.0, 0.19)]
    assert matched_scores([plain], []) == [0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18]
    assert matched_scores([plain], [[(0.0, 0.0), (1.0, 0.87)]])[-2:] == [0.18, 0.86]
    assert matched_scores([[(0.0, 0.1), (1.0, 0.3)]], []) == [0.15, 0.2, 0.25, 0.3]
    assert matched_scores([], [plain]) == [] and matched_scores([[]], [plain]) == []


def noisy(truth: float, numbers: random.Random, problems: int, luck: float):
    """Checkpoints of score 1 - exp(-flops / truth), a seed's luck in speed, and binomial noise."""
    speed = truth * math.exp(numbers.gauss(0, luck))
    curve = []
    for i in range(21):
        share = 1 - math.exp(-0.15 * i / speed)
        curve.append((0.15 * i, share + numbers.gauss(0, standard_error(share, problems))))
    return curve


@pytest.mark.parametrize(
    ("seeds", "paired", "share"), [(3, True, 0.95), (5, True, 0.95), (3, False, 0.95), (5, False, 0.95), (2, True, 0.5)]
)
def test_bands_contain_the_truth_as_often_as_they_say(seeds, paired, share):
    """t-intervals 95 %; the range of two pairs one time in two (each pair is as likely high as low)."""
    numbers = random.Random(1)
    trials, held, offset = 600, 0, 0 if paired else 100
    for _ in range(trials):
        plain = {s: noisy(1.5, numbers, 300, 0.15) for s in range(seeds)}
        arm = {s + offset: noisy(1.0, numbers, 300, 0.15) for s in range(seeds)}
        found = match(plain, arm, 0.5)
        held += found.low <= 1.5 <= found.high
    assert held / trials == pytest.approx(share, abs=0.03 if share > 0.9 else 0.06)


def test_it_imports_without_torch():
    code = "import sys, ixt_rl.evaluation.efficiency; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_the_snippet_of_the_docs_prints_what_they_say(capsys):
    text = (Path(__file__).resolve().parents[3] / "docs" / "efficiency.md").read_text()
    snippet, after = text.split("```python")[1].split("```", 1)
    exec(snippet, {})  # our own docs
    printed = [line.strip() for line in after.split("##")[0].strip().splitlines()]
    assert capsys.readouterr().out.splitlines() == printed
