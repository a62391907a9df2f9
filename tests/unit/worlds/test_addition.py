"""The addition world: right rationales are right, grades see every kind of wrong, splits are disjoint."""

from __future__ import annotations

import numpy as np
import pytest

from ixt_rl.worlds import AdditionWorld
from ixt_rl.worlds.addition.author import NoisyAuthor
from ixt_rl.worlds.addition.problem import (
    ID,
    VOCABULARY,
    AdditionProblem,
    is_eval_problem,
    read_answer,
    right_rationale,
    view_answer,
)

STYLES = {("C", False): 13, ("C", True): 20, ("V", False): 25, ("V", True): 32, ("D", False): 6}


def text(ids):
    return " ".join(VOCABULARY[i] for i in ids)


def test_a_problem_by_hand():
    problem = AdditionProblem(257, 968)  # 7+8=15, 5+6+1=12, 2+9+1=12
    assert problem.question == "7 8 5 6 2 9"
    assert AdditionProblem.parse(problem.question) == problem
    assert problem.steps() == [(5, 1), (2, 1), (2, 1)]
    assert text(right_rationale(problem, "C", True)) == "C 5 1 2 1 2 1 K 5 1 2 1 2 1 # 5 2 2 1 <eos>"
    assert text(right_rationale(problem, "V", False)) == "V 7 8 0 : 5 1 5 6 1 : 2 1 2 9 1 : 2 1 # 5 2 2 1 <eos>"
    assert text(right_rationale(problem, "D", False)) == "# 5 2 2 1 <eos>"


@pytest.mark.parametrize("view", AdditionWorld.views)
@pytest.mark.parametrize(("style", "length"), STYLES.items())
def test_right_rationales_are_checked_and_strict_in_every_view(view, style, length):
    world = AdditionWorld(view)
    rng = np.random.default_rng(0)
    for a, b in rng.integers(0, 1000, size=(50, 2)):
        problem = AdditionProblem(int(a), int(b))
        ids = right_rationale(problem, *style)
        grade = world.grade(problem.question, ids)
        assert len(ids) == length
        assert sum(int(d) * 10**i for i, d in enumerate(read_answer(ids))) == a + b
        assert grade.checked
        assert grade.strict
        assert all(grade.token_right)
        assert grade.extra == {"sum": True, "check": style[1]}
        assert grade.reasoned == (style[0] != "D")
        assert not grade.lucky


def test_a_wrong_step_with_a_right_answer_is_lucky_and_found_by_token():
    world, problem = AdditionWorld("sum"), AdditionProblem(257, 968)
    ids = right_rationale(problem, "C", False)
    ids[3] = ID["9"]
    grade = world.grade(problem.question, ids)
    assert grade.checked
    assert grade.lucky
    assert [i for i, right in enumerate(grade.token_right) if not right] == [3]


def test_views_differ_exactly_in_what_they_check():
    problem = AdditionProblem(257, 968)  # digits 5 2 2 1: sum 10
    off_by_two = right_rationale(problem, "D", False)
    off_by_two[1] = ID["7"]  # digit sum 12: parity kept, mod 5 not
    checked = {v: AdditionWorld(v).grade(problem.question, off_by_two).checked for v in AdditionWorld.views}
    assert checked == {"sum": False, "parity": True, "mod5": False}
    assert [view_answer(problem.answer, v) for v in AdditionWorld.views] == ["5 2 2 1", "m2 0", "m5 0"]


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [ID["<eos>"]],
        [ID["#"], ID["5"], ID["2"], ID["2"], ID["<eos>"]],
        [ID["#"], ID["5"], ID["2"], ID["2"], ID["1"]],  # cut before <eos>
        [ID["#"], ID["5"], ID["2"], ID["2"], ID["K"], ID["<eos>"]],
        [ID["m2"]] * 40,
    ],
)
@pytest.mark.parametrize("view", AdditionWorld.views)
def test_malformed_completions_are_wrong_not_errors(ids, view):
    grade = AdditionWorld(view).grade("7 8 5 6 2 9", ids)
    assert not grade.checked
    assert not grade.strict
    assert len(grade.token_right) == len(ids)


def test_splits_are_disjoint_and_documents_come_from_training_problems():
    world = AdditionWorld("parity")
    train, evaluation = world.rows("train", 3000, 0), world.rows("eval", 500, 99)
    assert not {r["question"] for r in train} & {r["question"] for r in evaluation}
    for row in evaluation:
        problem = AdditionProblem.parse(row["question"])
        assert is_eval_problem(problem.a, problem.b)
    for prompt, _ in world.documents(2000, 3):
        problem = AdditionProblem.parse(text(prompt[1:7]))
        assert not is_eval_problem(problem.a, problem.b)


def test_rows_and_documents_repeat_with_their_seed():
    world = AdditionWorld("sum")
    assert world.rows("train", 20, 5) == world.rows("train", 20, 5)
    assert world.rows("train", 20, 5) != world.rows("train", 20, 6)
    assert NoisyAuthor(1).documents(20) == NoisyAuthor(1).documents(20)


def test_told_documents_are_cleaner_and_tell_their_own_answer():
    """What the world builds in: told text has about a tenth of the mistakes (strict shares differ by > 0.3)."""
    world = AdditionWorld("sum")
    strict = {True: [], False: []}
    for prompt, rationale in world.documents(4000, 0):
        told = ID["<told>"] in prompt
        strict[told].append(world.grade(text(prompt[1:7]), rationale).strict)
        if told:
            shown = text(prompt[prompt.index(ID["<told>"]) + 1 : -1])
            answer = read_answer(rationale)
            assert shown in {view_answer(answer, view) for view in AdditionWorld.views}
    assert 0.36 < len(strict[True]) / 4000 < 0.44
    assert np.mean(strict[True]) > 0.85
    assert np.mean(strict[False]) < np.mean(strict[True]) - 0.3


def test_the_tokenizer_round_trips_and_adds_bos():
    tokenizer = AdditionWorld().tokenizer()
    ids = tokenizer("1 2 3 4 5 6 <told> m2 1 =")["input_ids"]
    assert tokenizer.decode(ids) == "<bos> 1 2 3 4 5 6 <told> m2 1 ="
    assert VOCABULARY[ids[0]] == "<bos>"
    assert len(tokenizer) == 22
