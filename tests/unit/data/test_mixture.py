"""A mixture of problems: shares that hold in every batch, passes that show every row, an order known beforehand."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from ixt_rl.blocks.data import ProblemMixtureBlock
from ixt_rl.blocks.rows import source_names
from ixt_rl.data.mixture import alike, drawn, interleaved, turns
from ixt_rl.errors import DataError
from ixt_rl.evaluation.tasks import make_task
from tests.unit.data.files import write

WEIGHTS = [(1.0,), (3.0, 1.0), (1.0, 1.0, 1.0), (0.1, 2.0, 7.5, 100.0), (1.0, 1e-3)]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_beginning_has_each_source_s_share(weights):
    """By definition: item j of source i has its turn at (j + 1/2) / w_i, so the counts are those of rounded times."""
    found = turns(weights, 500)
    for source, weight in enumerate(weights):
        had, due = np.cumsum(found == source), np.arange(1, 501) * weight / sum(weights)
        assert np.abs(had - due).max() <= len(weights) / 2 + 1
    times = sorted((j + 0.5) / weight for weight in weights for j in range(600))
    for n in (1, 7, 100, 499):  # between two turns, w t rounded to the nearest whole number is what had its turn
        if times[n] - times[n - 1] > 1e-9:
            t = (times[n] + times[n - 1]) / 2
            assert np.bincount(found[:n], minlength=len(weights)).tolist() == [round(w * t) for w in weights]


def test_a_batch_of_four_is_three_to_one():
    batches = turns([3, 1], 400).reshape(100, 4)
    assert {tuple(np.bincount(batch, minlength=2)) for batch in batches} == {(3, 1)}


def test_a_longer_run_begins_as_a_shorter_one():
    assert np.array_equal(drawn([5, 3], [2, 1], 90, seed=1)[:40], drawn([5, 3], [2, 1], 40, seed=1))


def test_every_row_comes_once_a_pass_and_the_order_is_the_seed_s():
    rows = drawn([4, 6], [1, 1], 24, seed=3)
    first = [row for row in rows if row < 4]
    for number in range(3):
        assert sorted(first[4 * number : 4 * number + 4]) == [0, 1, 2, 3]
    assert Counter(row for row in rows.tolist() if row >= 4) == dict.fromkeys(range(4, 10), 2)
    assert not np.array_equal(rows, drawn([4, 6], [1, 1], 24, seed=4))
    passes = {tuple(first[4 * n : 4 * n + 4]) for n, seed in itertools.product(range(3), [3])}
    assert len(passes) > 1, "each pass has an order of its own"


def test_rows_for_evaluation_are_spread_evenly():
    few, many = [{"a": n} for n in range(2)], [{"b": n} for n in range(8)]
    mixed = interleaved([few, [], many])
    assert [row["a"] for row in mixed if "a" in row] == [0, 1] and [row["b"] for row in mixed if "b" in row] == [
        *range(8)
    ]
    assert sum("a" in row for row in mixed[:5]) == 1
    assert interleaved([[], []]) == []


def test_rows_have_the_same_columns():
    assert alike([[{"q": 1, "hint": "x"}], [], [{"q": 2, "level": 3}]]) == [
        [{"q": 1, "hint": "x", "level": None}],
        [],
        [{"q": 2, "hint": None, "level": 3}],
    ]


def mixture(folder, **changes) -> ProblemMixtureBlock:
    easy = [{"q": f"{n} + 1", "a": str(n + 1), "hint": "add"} for n in range(6)]
    hard = [{"problem": f"{n} * 7", "solution": f"so\n#### {7 * n}"} for n in range(5)]
    sources = [
        {"path": write(folder / "e.jsonl", easy), "question": "q", "answer": "a", "columns": ["hint"], "eval_rows": 2},
        {"path": write(folder / "hard.jsonl", hard), "question": "problem", "answer": "solution", "weight": 2.0,
         "answer_extract": "hashes", "eval_rows": 1, "name": "school"},
    ]  # fmt: skip
    return ProblemMixtureBlock.model_validate({"sources": [{**source, **changes} for source in sources]})


def test_each_source_keeps_its_fields_its_extraction_and_its_rows_for_evaluation(tmp_path):
    data = mixture(tmp_path)
    assert source_names(data.sources) == ["e", "school"]
    task = make_task(data, "plain")
    rows, aside = task.train_rows(0, 0), task.eval_rows(None)
    assert [row["source"] for row in rows] == ["e"] * 4 + ["school"] * 4
    assert Counter(row["source"] for row in aside) == {"e": 2, "school": 1}
    assert {row["hint"] for row in rows if row["source"] == "e"} == {"add"}
    assert {row["hint"] for row in rows if row["source"] == "school"} == {None}
    assert all(row["answer"] == str(7 * int(row["question"][0])) for row in rows if row["source"] == "school")
    assert {row["question"] for row in [*rows, *aside]} == {f"{n} + 1" for n in range(6)} | {
        f"{n} * 7" for n in range(5)
    }
    assert task.sources == ["e", "school"] and sum(task.golds["kinds"].values()) == 11


def test_sources_of_one_name_are_told_apart(tmp_path):
    data = mixture(tmp_path, name="all")
    assert source_names(data.sources) == ["all", "all-2"]


def test_prompts_of_both_kinds_are_refused(tmp_path):
    data = mixture(tmp_path).model_dump(by_alias=True)
    chats = [{"q": [{"role": "user", "content": f"{n} + 1"}], "a": str(n + 1), "hint": "add"} for n in range(6)]
    write(tmp_path / "e.jsonl", chats)
    with pytest.raises(DataError, match="prompts of e are messages, those of school text"):
        make_task(ProblemMixtureBlock.model_validate(data), None)


def test_a_source_whose_answers_are_all_equal_is_named_where_a_wrong_one_is_told(tmp_path):
    data = mixture(tmp_path)
    write(tmp_path / "hard.jsonl", [{"problem": f"{n} * 7", "solution": "so\n#### 7"} for n in range(5)])
    with pytest.raises(DataError, match="source school: no wrong answer"):
        make_task(data, "plain", told=["wrong"])


def test_a_field_of_a_row_s_own_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a `source` of its own"):
        mixture(tmp_path, columns=["source"])
