"""The world of word problems: texts held out whole, answers recomputed, an author whose mistakes are known."""

from __future__ import annotations

import re
from collections import Counter
from math import sqrt

import pytest

from ixt_rl.models import byte_tokenizer
from ixt_rl.rewards import MathReward
from ixt_rl.types import Grade
from ixt_rl.worlds import WordProblemsWorld
from ixt_rl.worlds.text_grade import grader_of, token_spans
from ixt_rl.worlds.word_problems.author import FAULTS, TOLD_SHARE
from ixt_rl.worlds.word_problems.problem import SIGNS, WordProblem, equations, result, stated_answer
from ixt_rl.worlds.word_problems.templates import NAMES, OPERATIONS, TEXTS, THINGS

WORLD = WordProblemsWorld()
MIA = "Mia has 12 apples and buys 7 more. How many apples does Mia have now?"


@pytest.fixture(scope="module")
def drawn():
    """By split, 4000 rows with their problem, read back from the question."""
    return {
        split: [(row, WordProblem.parse(row["question"])) for row in WORLD.rows(split, 4000, seed=3)]
        for split in ("train", "eval")
    }


@pytest.fixture(scope="module")
def documents():
    return WORLD.replies(8000, seed=5)


def test_each_operation_has_seven_texts_for_training_and_three_held_out():
    assert Counter((text.operation, text.held_out) for text in TEXTS) == {
        **{(operation, False): 7 for operation in OPERATIONS},
        **{(operation, True): 3 for operation in OPERATIONS},
    }
    assert len({text.asks for text in TEXTS}) == len(TEXTS)
    for text in TEXTS:
        shown = {field: f"<{field}>" for field in ("name", "other", "things", "a", "b")}
        assert "<a>" in text.asks.format(**shown) and "<b>" in text.asks.format(**shown)
        assert text.says.format(**shown, step="<step>").count("<step>") == 1
        assert set(re.findall(r"{(\w+)}", text.says)) - {"step"} <= set(re.findall(r"{(\w+)}", text.asks))


def test_every_answer_is_computed_anew_from_the_question_alone(drawn):
    """By Python's own arithmetic; and no question reads like one of two texts."""
    for row, problem in drawn["train"] + drawn["eval"]:
        assert problem.question == row["question"]
        a, b = (int(problem.fields[name]) for name in ("a", "b"))
        assert sorted((a, b)) == sorted(map(int, re.findall(r"\d+", row["question"])))
        assert int(row["answer"]) == eval(f"{a} {SIGNS[problem.text.operation]} {b}") > 0
        assert [text for text in TEXTS if text.pattern.fullmatch(row["question"])] == [problem.text]


def test_no_other_operation_on_the_numbers_has_the_answer(drawn):
    for row, problem in drawn["train"] + drawn["eval"]:
        a, b = problem.numbers
        fitting = [op for op in OPERATIONS for x, y in ((a, b), (b, a)) if result(op, x, y) == int(row["answer"])]
        assert set(fitting) == {problem.text.operation}


def test_texts_for_training_and_for_evaluation_are_disjoint_and_all_are_used(drawn, documents):
    used = {split: {problem.text for _, problem in found} for split, found in drawn.items()}
    used["documents"] = {WordProblem.parse(one.question).text for one in documents}
    assert used["train"] == used["documents"] == {text for text in TEXTS if not text.held_out}
    assert used["eval"] == {text for text in TEXTS if text.held_out}
    assert {problem.fields.get("name") for _, problem in drawn["train"]} - {None} == set(NAMES)
    assert {problem.fields["things"] for _, problem in drawn["train"]} == set(THINGS)


def test_numbers_stay_in_their_ranges(drawn):
    largest = {"add": 98, "subtract": 57, "multiply": 108, "divide": 12}
    for _, problem in drawn["train"] + drawn["eval"]:
        assert min(*problem.numbers, problem.answer) >= 2
        assert problem.answer <= largest[problem.text.operation]
        assert problem.numbers[0] != problem.numbers[1]


def test_rows_and_documents_follow_from_the_seed_and_rows_do_not_repeat(drawn):
    assert WORLD.rows("eval", 50, seed=3) == [row for row, _ in drawn["eval"]][:50]
    assert WORLD.rows("eval", 50, seed=4) != WORLD.rows("eval", 50, seed=3)
    assert WORLD.replies(20, seed=5) == WORLD.replies(20, seed=5) != WORLD.replies(20, seed=6)
    for found in drawn.values():
        assert len({row["question"] for row, _ in found}) == len(found)


@pytest.mark.parametrize(
    ("reply", "checked", "strict", "reasoned"),
    [
        ("Mia has 12 + 7 = 19 apples.\n#### 19", True, True, True),
        ("We add. Mia has 7+12=19 apples. Check: 19 - 7 = 12.\nThe answer is 19.", True, True, True),
        ("12 + 7 = $19. So \\boxed{19}", True, True, True),
        ("She has 12 + 7 = 19.0 apples.\n#### 19 apples", True, True, True),
        ("#### 19", True, False, False),
        ("Mia has 12 + 7 = 18 apples.\n#### 19", True, False, True),
        ("Mia has 12 - 7 = 5 apples.\n#### 19", True, False, True),
        ("Mia has 12 + 7 = 19 apples, and 2 + 2 = 4.\n#### 19", True, False, True),
        ("Mia has 12 + 7 = 19 apples.\n#### 18", False, False, True),
        ("Mia has 12 - 7 = 5 apples.\n#### 5", False, False, True),
        ("Mia has 12 + 7 = 19 apples.", False, False, True),
        ("Mia has 6 * 3 + 1 = 19 apples.\n#### 19", True, False, True),
        ("12 / 0 = 19.\n#### 19", True, False, True),
        ("#### 1 or 9", False, False, False),
        ("", False, False, False),
    ],
)
def test_replies_graded_by_hand(reply, checked, strict, reasoned):
    found = WORLD.grade_text(MIA, reply)
    assert (found.checked, found.strict, found.reasoned) == (checked, strict, reasoned)


def test_equations_are_computed_with_products_first():
    found = equations("2 + 3 x 4 = 14, 8 ÷ 2 - 1 = 3, 10 - 2 - 3 = 5, 1.5 * 2 = 3, 9 / 2 = 4.5, 7 / 2 = 3")
    assert [one.holds for one in found] == [True, True, True, True, True, False]
    assert equations("there are 12 and = 4") == []
    assert stated_answer("#### 1,000") is None  # one whole number, or none


def test_a_question_of_another_world_is_refused():
    with pytest.raises(ValueError, match="no problem of this world"):
        WORLD.grade_text("Natalia sold clips to 48 friends.", "#### 48")


# ------------------------------------------------------------------------------------- the author


def test_the_authors_mistakes_are_those_that_it_says(documents):
    for fault, share in FAULTS.items():
        count = sum(one.fault == fault for one in documents)
        assert abs(count - share * len(documents)) < 4 * sqrt(len(documents) * share * (1 - share))
    for one in documents:
        found = WORLD.grade_text(one.question, one.reply)
        assert found.reasoned
        assert (found.checked, found.strict) == (one.fault in ("none", "lucky"), one.fault == "none"), one
        assert bool(found.wrong) == (one.fault != "none")


def test_told_documents_tell_their_own_answer_and_are_no_better_for_it(documents):
    told = [one for one in documents if one.told is not None]
    assert all(int(one.told) == stated_answer(one.reply) for one in told)
    share = [sum(one.fault == "none" for one in some) / len(some) for some in (told, documents)]
    assert abs(len(told) / len(documents) - TOLD_SHARE) < 0.03
    assert abs(share[0] - share[1]) < 4 * sqrt(0.25 / len(told))


def test_a_reply_with_the_right_answer_is_sound_in_five_of_six(documents):
    right = [one for one in documents if WORLD.grade_text(one.question, one.reply).checked]
    sound = sum(one.fault == "none" for one in right) / len(right)
    assert abs(sound - 5 / 6) < 4 * sqrt(5 / 36 / len(right))


def test_the_math_reward_finds_right_what_the_world_does(documents):
    some = documents[:60]
    golds = [str(WordProblem.parse(one.question).answer) for one in some]
    given = MathReward()(prompts=["?"] * 60, completions=[one.reply for one in some], answer=golds)
    assert given == [float(WORLD.grade_text(one.question, one.reply).checked) for one in some]


# ----------------------------------------------------------------------------- in a model's tokens


def test_a_token_is_right_where_nothing_wrong_is_in_it():
    tokenizer = byte_tokenizer()
    reply = "Mia has 12 - 7 = 5 äpfel.\n#### 5"
    ids = [*tokenizer(reply, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    grade = grader_of(WORLD, tokenizer)(MIA, ids)
    assert grade == Grade(False, False, True, grade.token_right)
    wrong = tokenizer.decode([token for token, right in zip(ids, grade.token_right, strict=True) if not right])
    assert len(grade.token_right) == len(ids) == len(reply.encode()) + 1
    assert wrong == "12 - 7 = 55"


def test_spans_join_to_the_text_whatever_the_tokens():
    tokenizer = byte_tokenizer()
    ids = [tokenizer.bos_token_id, *tokenizer("aé=1", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    text, spans = token_spans(tokenizer, ids)
    assert text == "aé=1"
    assert [text[start:end] for start, end in spans] == ["", "a", "", "é", "=", "1", ""]
    assert token_spans(tokenizer, []) == ("", [])
