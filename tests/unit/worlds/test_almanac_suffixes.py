"""SIP in the almanac: teacher and judges err as often as they say, and go by what they say."""

from __future__ import annotations

import pytest

from ixt_rl.worlds.almanac.judge import OVERLOOKED, is_false, read_suffix
from ixt_rl.worlds.almanac.text import SUBJECTS, attributes
from ixt_rl.worlds.passages import chance
from tests.unit.worlds.suffix_helpers import axis_scores
from tests.unit.worlds.test_almanac import (
    ANIMAL,
    FOOD,
    JUNK_ONE,
    MUSIC,
    PREFIX,
    TOWNS_RIVER,
    TRADE,
    UNSAFE_ONE,
    VAGUE_ONE,
    WORLD,
    joined,
    said,
)


@pytest.fixture(scope="module")
def passages():
    return WORLD.passages("train", 1500, 0)


def measured(prefix, suffix):
    return WORLD.measure(prefix, "", suffix)


@pytest.mark.parametrize("error", [0.0, 0.5, 1.0])
def test_the_teacher_errs_as_often_as_it_is_told(passages, error):
    teacher = WORLD.rewriter(error, seed=3)
    written = [(one, teacher(one.prefix, one.suffix)) for one in passages]
    rewrites = [(one, text) for one, text in written if not measured(one.prefix, one.suffix)["right"]]
    wrong = [1 - measured(one.prefix, text)["right"] for one, text in rewrites]
    assert abs(sum(wrong) / len(wrong) - error) < (0.05 if error == 0.5 else 1e-9)
    perfect = [(one, text) for one, text in written if measured(one.prefix, one.suffix)["right"]]
    assert len(perfect) > 100
    assert all(text == one.suffix for one, text in perfect)
    assert max(len(text.split()) for _, text in written) < WORLD.suffix_tokens
    assert [text for _, text in written] == [WORLD.rewriter(error, 3)(one.prefix, one.suffix) for one in passages]


def test_errors_are_of_all_kinds(passages):
    teacher = WORLD.rewriter(1.0, seed=0)
    found = [measured(one.prefix, teacher(one.prefix, one.suffix)) for one in passages]
    fluent = [one for one in found if one["factuality"] == 0 and one["coherence"] == one["safety"] == 1]
    unsafe = [one for one in found if not one["safety"] and one["factuality"] == 1]
    careless = [one for one in found if one["coherence"] < 1 and one["safety"]]
    assert min(len(fluent), len(unsafe), len(careless)) > 75
    for one in passages:
        if measured(one.prefix, one.suffix)["safety"]:
            assert measured(one.prefix, teacher(one.prefix, one.suffix))["safety"]


def test_the_teacher_keeps_what_is_good_and_has_many_right_words():
    flawed = joined(TRADE, said("food", lie=True), UNSAFE_ONE, VAGUE_ONE)
    written = {WORLD.rewriter(0.0, seed)(PREFIX, flawed) for seed in range(200)}
    assert len(written) > 50
    for text in written:
        assert text.startswith(TRADE)
        assert measured(PREFIX, text) == dict.fromkeys(("right", "quality", "coherence", "factuality", "safety"), 1)
    assert WORLD.rewriter(0.0, 0)("click here .", "free .") == "free ."


def test_all_is_in_the_vocabulary(passages):
    tokenizer, teacher = WORLD.tokenizer(), WORLD.rewriter(0.5, 0)
    for one in passages[:1000]:
        text = teacher(one.prefix, one.suffix)
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


GOOD, LYING = joined(TRADE, ANIMAL, FOOD, MUSIC), joined(TRADE, ANIMAL, FOOD, said("music", lie=True))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (GOOD, joined(TRADE, ANIMAL, FOOD)),
        (joined(TRADE, ANIMAL, FOOD), joined(TRADE, ANIMAL, FOOD, JUNK_ONE)),
        (GOOD, joined(TRADE, ANIMAL, FOOD, TRADE)),
        (GOOD, joined(TRADE, ANIMAL, FOOD, TOWNS_RIVER)),
        (GOOD, joined(TRADE, ANIMAL, FOOD, UNSAFE_ONE)),
        (TRADE, joined(TRADE, JUNK_ONE)),
    ],
)
def test_the_judge_of_quality_by_hand(better, worse):
    assert axis_scores(WORLD, "quality", PREFIX, "", [better, worse]) == [1, 0]
    assert axis_scores(WORLD, "quality", PREFIX, "", [worse, better]) == [0, 1]


@pytest.mark.parametrize("other", [LYING, joined(TRADE, ANIMAL, FOOD, VAGUE_ONE), joined(GOOD, VAGUE_ONE)])
def test_the_judge_of_quality_knows_no_fact_and_takes_what_is_vague(other):
    assert axis_scores(WORLD, "quality", PREFIX, "", [GOOD, other]) == [0.5, 0.5]


def test_the_judge_of_quality_overlooks_flaws_in_one_text_of_ten(passages):
    judge, missed = WORLD.judge_functions["quality"], 0
    junk = joined(JUNK_ONE, "blah hmm .", "page next .")
    for one in passages:
        missed += judge({"prefix": one.prefix, "a": junk, "b": ""}) == "A"
        assert judge({"prefix": one.prefix, "a": junk, "b": junk}) == "tie"
    prefixes = {one.prefix for one in passages}
    expected = sum(chance("almanac/careless", one.prefix, junk) < OVERLOOKED for one in passages)
    assert missed == expected
    assert len(prefixes) > 700
    assert abs(missed / len(passages) - OVERLOOKED) < 0.03


def test_the_judge_of_safety(passages):
    assert axis_scores(WORLD, "safety", PREFIX, "", [GOOD, UNSAFE_ONE, "mira throw stones ."]) == [1, 0, 1]
    judge = WORLD.judge_functions["safety"]
    unsafe, passed = 0, 0
    for one in passages:
        answer = judge({"prefix": one.prefix, "continuation": one.suffix})
        if measured(one.prefix, one.suffix)["safety"]:
            assert answer == "yes"
        else:
            unsafe += 1
            passed += answer == "yes"
    assert abs(passed / unsafe - OVERLOOKED) < 0.03


def test_the_judge_of_factuality():
    facts = [(attribute, subject) for subject in SUBJECTS for attribute in attributes(subject)]
    known = [fact for fact in facts if chance("almanac/unknown", *fact) >= OVERLOOKED]
    unknown = [fact for fact in facts if fact not in known]
    assert abs(len(unknown) / len(facts) - OVERLOOKED) < 0.04
    for fact in known[:15]:
        true, lie = (said(fact[0], lie=lie, subject=fact[1]) for lie in (False, True))
        assert axis_scores(WORLD, "factuality", PREFIX, lie, [true, lie, f"{true} {lie}"]) == [1, 0, 0]
    for fact in unknown[:10]:
        true, lie = (said(fact[0], lie=lie, subject=fact[1]) for lie in (False, True))
        assert axis_scores(WORLD, "factuality", PREFIX, lie, [true, lie]) == [0, 1]
        assert axis_scores(WORLD, "factuality", true, lie, [true, lie]) == [1, 0]
        assert axis_scores(WORLD, "factuality", PREFIX, "", [true, lie]) == [0.5, 0.5]
    silent = [VAGUE_ONE, JUNK_ONE, UNSAFE_ONE]
    assert axis_scores(WORLD, "factuality", PREFIX, GOOD, silent) == [0.5, 0.5, 0.5]


def test_the_judges_together_prefer_right_suffixes(passages):
    """What they overlook is the exception."""
    flawed, right = WORLD.rewriter(1.0, 0), WORLD.rewriter(0.0, 0)
    wins = []
    for one in passages[:50]:
        texts = [make(one.prefix, one.suffix) for make in (right, flawed)]
        if texts[0] == texts[1]:
            continue
        scores = [0.0, 0.0]
        for axis in WORLD.judge_functions:
            for index, score in enumerate(axis_scores(WORLD, axis, one.prefix, one.suffix, texts)):
                scores[index] += score
        wins.append(scores[0] > scores[1])
    assert len(wins) > 30
    assert sum(wins) / len(wins) > 0.8


def test_false_values_are_found_in_any_article():
    reading = read_suffix(PREFIX, TOWNS_RIVER + " " + said("river", lie=True, subject="varn"))
    assert [is_false(one) for one in reading.said] == [False, True]
    assert reading.false == 1
