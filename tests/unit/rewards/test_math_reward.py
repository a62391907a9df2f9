"""The math reward: right, wrong, undecided."""

from __future__ import annotations

import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rewards import MathReward, final_answer, math_reward, parse_gold


def test_what_was_taken_back_is_not_the_answer():
    completions = [
        r"\boxed{5} is wrong, it is \boxed{6}",
        r"\boxed{6} is wrong, it is \boxed{5}",
        r"\boxed{5} or \boxed{6}",
    ]
    assert math_reward([""] * 3, completions, answer=["6"] * 3) == [1.0, 0.0, 0.0]


def test_no_answer_is_wrong_and_an_answer_nobody_can_judge_is_undecided():
    rewards = math_reward([""] * 3, ["I do not know", r"\boxed{6", r"\boxed{2^{2^{2^{2^2}}}}"], answer=["6"] * 3)
    assert rewards == [0.0, 0.0, None]


def test_called_as_trl_calls_it():
    extras, metrics = {}, {}
    rewards = MathReward(extract="hashes")(
        prompts=["q"] * 3,
        completions=[
            [{"role": "assistant", "content": "#### 18"}],
            [{"role": "assistant", "content": [{"type": "text", "text": "#### 1"}, {"type": "text", "text": "9"}]}],
            [{"role": "assistant", "content": "#### about 18"}],
        ],
        completion_ids=[[1], [2], [3]],
        answer=["5 + 13 = 18\n#### 18", 18, 18.0],
        trainer_state=None,
        log_extra=extras.__setitem__,
        log_metric=metrics.__setitem__,
    )
    assert rewards == [1.0, 0.0, None]
    assert extras["math/extracted"] == ["18", "19", "about 18"]
    assert metrics == {"math/undecided": pytest.approx(1 / 3)}


def test_bad_settings_and_golds_are_refused():
    with pytest.raises(ConfigError, match="last_box"):
        MathReward(extract="first_box")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds"):
        MathReward(deadline_s=0)
    with pytest.raises(DataError, match="row 1"):
        math_reward(["", ""], ["#### 1", "#### 1"], answer=["1", "{"])


@pytest.mark.slow
def test_agrees_with_all_labels_of_gsm8k_model_solutions(benchmark):
    reward = MathReward()
    labels, completions, golds = [], [], []
    for row in benchmark("gsm8k_model_solutions.jsonl"):
        gold = final_answer(row["ground_truth"])
        for solution in (value for value in row.values() if isinstance(value, dict)):
            completions.append(solution["solution"])
            labels.append(float(solution["is_correct"]))
            golds.append(gold)
    assert len(labels) == 5276
    assert reward([""] * len(labels), completions, answer=golds) == labels


def test_accepts_all_gold_solutions_of_math500(benchmark):
    rows = benchmark("math500.jsonl")
    rewards = MathReward(extract="last_box")(
        [""] * 500, [r["solution"] for r in rows], answer=[r["answer"] for r in rows]
    )
    assert rewards == [1.0] * 500


def test_reads_every_math_gold_as_a_typed_answer(benchmark):
    golds = [parse_gold(row["solution"]) for row in benchmark("math_rest.jsonl")]
    kinds = {kind: sum(gold.kind == kind for gold in golds) for kind in {gold.kind for gold in golds}}
    assert len(golds) == 4500 and kinds["number"] > 3500 and kinds["matrix"] > 50 and kinds["text"] < 50
