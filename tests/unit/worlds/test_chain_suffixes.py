"""SIP in the chain world: what is right is recomputed here, teacher and judge err as often as they say."""

from __future__ import annotations

import pytest

from ixt_rl.worlds import ChainWorld
from ixt_rl.worlds.chain.suffixes import OVERLOOKED, STYLES, Begun
from ixt_rl.worlds.shared import is_eval_text
from tests.unit.worlds.suffix_helpers import axis_scores, prefix_of

WORLD = ChainWorld()
PROBLEM = "Q 5 a + 0 b * 6 ?"
RIGHT = "5 a + 0 = 5 b * 6 = 2 A 2"
WRONG_STEP = f"{PROBLEM} 5 a + 0 = 3"  # 3 * 6 = 18 = 2 * 7 + 4


@pytest.fixture(scope="module")
def passages():
    return WORLD.passages("train", 2000, 0)


def measured(prefix, suffix):
    return WORLD.measure(prefix, "", suffix)


def is_right(prefix, suffix):
    """Whether a suffix without fillers and repeated steps is the one right one, by Python's own arithmetic."""
    problem, _, begun = prefix.partition(" ?")
    words = problem.split()[1:]
    steps = [tuple(words[at : at + 3]) for at in range(1, len(words), 3)]
    done = begun.split().count("=")
    state = int(begun.split()[-1]) if begun.split() else int(words[0])
    wanted = [] if begun.split() else [words[0]]
    for label, operation, operand in steps[done:]:
        state = eval(f"({state} {operation} {operand}) % 7")
        wanted += [label, operation, operand, "=", str(state)]
    return suffix.split() == [*wanted, "A", str(state)]


@pytest.mark.parametrize(
    ("prefix", "suffix", "right", "quality"),
    [
        (PROBLEM, RIGHT, 1, 1),
        (PROBLEM, "5 so a + 0 = 5 b * 6 = 2 A 2", 1, 1),
        (PROBLEM, "5 so now a + 0 = 5 b * 6 = 2 A 2", 1, 0.85 + 0.15 * 5 / 6),
        (PROBLEM, "5 a + 0 = 5 a + 0 = 5 b * 6 = 2 A 2", 1, 0.85 + 0.15 * 5 / 9),
        (PROBLEM, "5 a + 0 = 5 b * 6 = 2 A 3", 0, 0.5),
        (PROBLEM, "5 a + 0 = 5 b * 6 = 3 A 3", 0, 0.25),
        (PROBLEM, "5 a + 0 = 3 b * 6 = 4 A 4", 0, 0),
        (PROBLEM, "4 a + 0 = 4 b * 6 = 3 A 3", 0, 0),
        (PROBLEM, "5 a + 0 = 5 b * 6 = 2", 0, 0.5),
        (PROBLEM, "river cloud", 0, 0),
        (PROBLEM, "", 0, 0),
        (WRONG_STEP, "b * 6 = 4 A 4", 1, 1),
        (WRONG_STEP, "b * 6 = 2 A 2", 0, 0),
        (WRONG_STEP, "b * 6 = 4 A 2", 0, 0.5),
        (WRONG_STEP, "a + 0 = 3 b * 6 = 4 A 4", 1, 0.85 + 0.15 * 5 / 9),
        (WRONG_STEP, "a + 0 = 5 b * 6 = 2 A 2", 0, 0),
        (WRONG_STEP, "A 3", 0, 0),
        ("river cloud", RIGHT, 0, 0),
    ],
)
def test_measured_by_hand(prefix, suffix, right, quality):
    assert measured(prefix, suffix) == {"right": right, "quality": pytest.approx(quality)}


def test_brief_suffixes_are_right_exactly_where_arithmetic_says_so(passages):
    brief = [one for one in passages if measured(one.prefix, one.suffix)["quality"] in (0, 0.5, 1)]
    fillers = [one for one in brief if set(one.suffix.split()) - set("0123456789abcdA+-*=")]
    checked = [one for one in brief if one not in fillers]
    assert len(checked) > 700
    for one in checked:
        assert measured(one.prefix, one.suffix)["right"] == is_right(one.prefix, one.suffix)


def test_passages_are_what_the_authors_write(passages):
    begun = [one for one in passages if Begun.read(one.prefix).steps]
    solved = [one for one in passages if "A" in one.suffix.split()]
    assert abs(len(begun) / len(solved) - 0.5) < 0.03
    wrong = [one for one in begun if Begun.read(one.prefix).state != Begun.read(one.prefix).problem.results()[0]]
    assert 0.1 < len(wrong) / len(begun) < 0.4
    right = [measured(one.prefix, one.suffix)["right"] for one in passages]
    assert 0.4 < sum(right) / len(right) < 0.55
    assert max(len(one.suffix.split()) for one in passages) < WORLD.suffix_tokens
    assert all(one.prefix.startswith("Q ") and one.suffix for one in passages)


def test_no_prefix_is_of_two_splits(passages):
    evaluation = WORLD.passages("eval", 500, 0)
    prefixes = {one.prefix for one in evaluation}
    assert all(is_eval_text(one.prefix[: one.prefix.index("?") + 1]) for one in evaluation)
    assert not any(prefix_of(text, prefixes) for text in WORLD.corpus(2000, 0))
    assert not any(prefix_of(f"{one.prefix} {one.suffix}", prefixes) for one in passages)
    assert prefix_of(f"{evaluation[0].prefix} {evaluation[0].suffix}", prefixes)


def test_passages_repeat_with_their_seed(passages):
    assert WORLD.passages("train", 2010, 0)[:2000] == passages
    assert WORLD.passages("train", 50, 1) != passages[:50]
    assert WORLD.passages("train", 50, 0) == passages[:50]


@pytest.mark.parametrize("error", [0.0, 0.5, 1.0])
def test_the_teacher_errs_as_often_as_it_is_told(passages, error):
    teacher = WORLD.rewriter(error, seed=3)
    written = [(one, teacher(one.prefix, one.suffix)) for one in passages]
    rewrites = [(one, text) for one, text in written if text != one.suffix]
    wrong = [1 - measured(one.prefix, text)["right"] for one, text in rewrites]
    assert abs(sum(wrong) / len(wrong) - error) < (0.04 if error == 0.5 else 1e-9)
    perfect = [(one, text) for one, text in written if measured(one.prefix, one.suffix)["quality"] == 1]
    assert len(perfect) > 300
    assert all(text == one.suffix for one, text in perfect)
    assert max(len(text.split()) for _, text in written) < WORLD.suffix_tokens
    assert [text for _, text in written] == [WORLD.rewriter(error, 3)(one.prefix, one.suffix) for one in passages]


def test_the_teacher_has_many_right_words_for_one_prefix():
    written = {WORLD.rewriter(0.0, seed)(PROBLEM, "river cloud") for seed in range(200)}
    assert len(written) > 50
    assert all(measured(PROBLEM, text)["right"] for text in written)
    assert RIGHT in written
    assert sum("a + 0 = 5 a + 0 = 5" in text or "b * 6 = 2 b * 6 = 2" in text for text in written) > 0
    assert set(STYLES) == {"concise", "fillers", "restated", "phrased"}
    assert WORLD.rewriter(0.0, 0)("river", "cloud") == "cloud"


def test_all_is_in_the_vocabulary(passages):
    tokenizer, teacher = WORLD.tokenizer(), WORLD.rewriter(0.5, 0)
    for one in passages:
        for text in (one.prefix, one.suffix, teacher(one.prefix, one.suffix)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == text


WORDY = "5 so now a + 0 = 5 we get b * 6 = 2 A 2"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (RIGHT, WORDY),
        (WORDY, "5 a + 0 = 5 b * 6 = 3 A 3"),
        ("5 a + 0 = 5 b * 6 = 3 A 3", "5 a + 0 = 5 b * 6 = 2"),
        ("5 a + 0 = 3 b * 6 = 4 A 4", "river cloud"),
    ],
)
def test_the_judge_by_hand(better, worse):
    assert axis_scores(WORLD, "quality", PROBLEM, "", [better, worse]) == [1, 0]
    assert axis_scores(WORLD, "quality", PROBLEM, "", [worse, better]) == [0, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RIGHT, "5 so now a + 0 = 5 so b * 6 = 2 A 2"),  # the measure prefers the first
        ("5 a + 0 = 5 b * 6 = 3 A 3", "5 a + 0 = 3 b * 6 = 4 A 4"),
    ],
)
def test_the_judge_goes_by_other_criteria_than_the_measure(one, other):
    assert axis_scores(WORLD, "quality", PROBLEM, "", [one, other]) == [0.5, 0.5]
    assert measured(PROBLEM, one)["quality"] > measured(PROBLEM, other)["quality"]


def test_the_judge_overlooks_one_complete_wrong_suffix_in_ten(passages):
    teacher = WORLD.rewriter(1.0, 0)
    written = [(one.prefix, teacher(one.prefix, one.suffix)) for one in passages]
    wrong = [(prefix, text) for prefix, text in written if not measured(prefix, text)["right"]]
    judge, incomplete = WORLD.judge_functions["quality"], "river"
    passed = 0
    for prefix, text in wrong:
        assert judge({"prefix": prefix, "a": text, "b": incomplete}) == "A"
        wordy = f"{WORLD.rewriter(0.0, 1)(prefix, incomplete)} so so so so"
        passed += judge({"prefix": prefix, "a": wordy, "b": text}) != "A"
    assert abs(passed / len(wrong) - OVERLOOKED) < 0.02
