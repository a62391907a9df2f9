"""The variants of the addition world differ from it in what their tables say, and in nothing else."""

from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np
import pytest

from ixt_rl.blocks.data import ADDITIONS, VIEWS, AdditionName, WorldDataBlock
from ixt_rl.worlds import WORLDS, AdditionWorld
from ixt_rl.worlds.addition.author import Habits, NoisyAuthor
from ixt_rl.worlds.addition.problem import (
    ID,
    VOCABULARY,
    AdditionProblem,
    is_eval_problem,
    read_answer,
    right_rationale,
    view_answer,
    wrong_answer,
)

COUNT = 6000


def shares(habits: Habits) -> dict[bool, dict[str, float]]:
    """By told: share strict, with steps, with a check; strict among those of the right parity."""
    found: dict[bool, list[tuple[bool, bool, bool, bool]]] = {False: [], True: []}
    for prompt, rationale in NoisyAuthor(0, habits).documents(COUNT):
        problem = AdditionProblem.parse(" ".join(VOCABULARY[i] for i in prompt[1:7]))
        style = {"C": "C", "V": "V", "#": "D"}[VOCABULARY[rationale[0]]]
        check = ID["K"] in rationale
        answer = read_answer(rationale)
        parity = view_answer(answer, "parity") == view_answer(problem.answer, "parity")
        strict = rationale == right_rationale(problem, style, check)
        found[ID["<told>"] in prompt].append((strict, style != "D", check, parity))
    names = ("strict", "steps", "check", "parity")
    table = {told: dict(zip(names, np.mean(rows, axis=0), strict=True)) for told, rows in found.items()}
    for told, rows in found.items():
        table[told]["strict of parity"] = np.mean([strict for strict, _, _, parity in rows if parity])
    return table


def test_the_authors_documents_are_what_they_were():
    text = repr(AdditionWorld().documents(2000, 3))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "8b14110b5290f316"


def test_every_variant_is_a_world_of_run_files_with_the_same_problems():
    assert set(ADDITIONS) == set(get_args(AdditionName)) == {n for n in WORLDS if n.startswith("addition")}
    for name in ADDITIONS:
        assert WORLDS[name].name == name
        assert WorldDataBlock.model_validate({"world": name}).view == "sum"
        assert VIEWS[name] == AdditionWorld.views
        ours = [row["question"] for row in WORLDS[name]("parity").rows("train", 50, 1)]
        if name == "addition-no-carry":
            continue
        assert ours == [row["question"] for row in AdditionWorld("parity").rows("train", 50, 1)]


@pytest.mark.parametrize(("name", "low", "high"), [("1x", 0.45, 0.53), ("2x", 0.67, 0.75), ("5x", 0.84, 0.92)])
def test_told_documents_are_so_many_times_more_careful(name, low, high):
    found = shares(WORLDS[f"addition-told-{name}"].habits)
    assert low < found[True]["strict"] < high
    assert 0.46 < found[False]["strict"] < 0.54


def test_told_shortcuts_have_no_steps_and_are_right():
    found = shares(WORLDS["addition-shortcut"].habits)
    assert 0.37 < found[True]["steps"] < 0.43
    assert found[False]["steps"] > 0.92
    assert found[True]["strict"] > 0.88


def test_told_slips_leave_single_digits_better_known_and_whole_rationales_no_better():
    habits = WORLDS["addition-slips"].habits
    found = shares(habits)
    assert found[True]["strict"] < found[False]["strict"] - 0.1
    assert found[True]["strict of parity"] < found[False]["strict of parity"] - 0.1
    for name in ("steps", "check"):
        assert found[True][name] == pytest.approx(found[False][name], abs=0.05)

    right = {True: [0, 0], False: [0, 0]}  # digits of hard facts
    author = NoisyAuthor(0, habits)
    for prompt, rationale in author.documents(COUNT):
        problem = AdditionProblem.parse(" ".join(VOCABULARY[i] for i in prompt[1:7]))
        digits = read_answer(rationale)[:-1]
        carry = 0
        for (x, y), digit, (true, out) in zip(problem.columns, digits, problem.steps(), strict=True):
            if author.miss[x, y, carry] > 0.4:
                tally = right[ID["<told>"] in prompt]
                tally[0] += digit == true
                tally[1] += 1
            carry = out
    told, untold = (right[key][0] / right[key][1] for key in (True, False))
    assert told > untold + 0.25


def test_a_slip_is_one_wrong_digit_and_leaves_carries_alone():
    author = NoisyAuthor(0)
    for _ in range(200):
        steps = AdditionProblem(257, 968).steps()
        author._slip(steps)
        pairs = list(zip(steps, AdditionProblem(257, 968).steps(), strict=True))
        assert sum(a != b for (a, _), (b, _) in pairs) == 1
        assert all(a == b for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("view", AdditionWorld.views)
def test_wrong_keys_are_told_and_rewarded_and_never_evaluated(view):
    world, plain = WORLDS["addition-wrong-keys"](view), AdditionWorld(view)
    train, held_out = world.rows("train", 2000, 0), world.rows("eval", 300, 99)
    assert held_out == plain.rows("eval", 300, 99)
    wrong = [mine["answer"] != true["answer"] for mine, true in zip(train, plain.rows("train", 2000, 0), strict=True)]
    assert 0.17 < np.mean(wrong) < 0.23
    for row, is_wrong in zip(train[:200], wrong[:200], strict=True):
        problem = AdditionProblem.parse(row["question"])
        grade = world.grade(row["question"], right_rationale(problem, "C", False))
        assert grade.checked is not is_wrong
        assert grade.strict
        if is_wrong:
            wrong_one = wrong_answer(problem, 0.2)
            ids = [ID["#"], *wrong_one, ID["<eos>"]]
            assert world.grade(row["question"], ids).checked
            assert not plain.grade(row["question"], ids).checked


def test_where_training_has_no_carry_evaluation_has_one_and_documents_have_both():
    world = WORLDS["addition-no-carry"]("parity")
    carries = {
        split: [any(c for _, c in AdditionProblem.parse(row["question"]).steps()) for row in world.rows(split, 300, 0)]
        for split in ("train", "eval")
    }
    assert not any(carries["train"]) and all(carries["eval"])
    assert world.documents(20, 1) == AdditionWorld("parity").documents(20, 1)


def test_a_wrong_key_is_wrong_in_every_view_and_fixed():
    for a in range(0, 1000, 13):
        for b in range(0, 1000, 13):
            problem = AdditionProblem(a, b)
            found = wrong_answer(problem, 1.0)
            assert (found is None) == is_eval_problem(a, b)
            assert found == wrong_answer(problem, 1.0)
            assert wrong_answer(problem, 0.0) is None
            for view in AdditionWorld.views if found else ():
                assert view_answer(found, view) != view_answer(problem.answer, view)
