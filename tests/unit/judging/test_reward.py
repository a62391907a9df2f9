"""A judge as a reward: fields by name, no thought is no prediction, undecided stays undecided."""

from __future__ import annotations

from typing import Any

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.judging import FunctionBackend, Judge, JudgeReward, load_rubric
from ixt_rl.judging.rubric import Rubric
from ixt_rl.types import SamplingParams

SAMPLING = SamplingParams(max_new_tokens=50, temperature=0.0)


def reward(function, rubric: str | Rubric = "suffix-match") -> JudgeReward:
    found = rubric if isinstance(rubric, Rubric) else load_rubric(rubric)
    return JudgeReward(Judge(FunctionBackend(function, "test"), SAMPLING), found)


def call(one: JudgeReward, completions: list[str], question: str = "2 + 2 =", answer: str = " 4") -> Any:
    size = len(completions)
    return one(
        prompts=["p"] * size, completions=completions, completion_ids=[[1]] * size, question=[question] * size,
        answer=[answer] * size, told_prompt=["t"] * size,
    )  # fmt: skip


def test_a_prediction_is_compared_with_the_true_suffix_and_no_thought_is_no_prediction():
    seen = []

    def same(fields):
        seen.append(dict(fields))
        return None if fields["predicted"] == "?" else fields["predicted"] == fields["suffix"].strip()

    completions = [
        "<think> 2, 3, 4 </think> 4", "<think> 5 </think> 5", "<think> hm </think> ?", " 4", "<think> 4", "</think> 4",
    ]  # fmt: skip
    assert call(reward(same), completions) == [1.0, 0.0, None, 0.0, 0.0, 0.0]
    assert [fields["predicted"] for fields in seen] == ["4", "5", "?"]
    assert seen[0] == {"prefix": "2 + 2 =", "predicted": "4", "suffix": " 4"}  # the thought is not shown


def test_what_a_judge_raises_is_undecided():
    assert call(reward(lambda fields: 1 / 0), ["<think> t </think> 4"]) == [None]


def test_other_rubrics_read_the_whole_completion_and_scores_are_on_0_to_1():
    seen = []

    def verify(fields):
        seen.append(dict(fields))
        return fields["solution"] == "so 4"

    assert call(reward(verify, "verifier"), ["so 4", "so 5"]) == [1.0, 0.0]
    assert seen[1] == {"problem": "2 + 2 =", "solution": "so 5", "reference": " 4"}
    assert call(reward(lambda fields: 4, "reasoning"), ["so 4"]) == [0.75]


@pytest.mark.parametrize(("rubric", "says"), [("pairwise-quality", "it asks for a, b")])
def test_rubrics_that_do_not_read_one_completion_are_refused(rubric, says):
    with pytest.raises(ConfigError, match=says):
        reward(lambda fields: None, rubric)


def test_a_pair_is_refused_also_if_its_fields_have_known_names():
    axes = {"verdict": {"labels": {"a": 1, "b": 0}}}
    pair = Rubric(
        name="mine", prompt="{solution} {text} {answer_format}", fields=("solution", "text"), comment="why",
        axes=axes, pair=("solution", "text"),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="compares two texts"):
        reward(lambda fields: None, pair)


def test_conversations_and_several_answers_are_shown_as_text():
    seen = []
    chat = [[{"role": "assistant", "content": "<think> 2, 3, 4 </think> 4"}]]
    one = reward(lambda fields: seen.append(dict(fields)) or True)
    assert call(one, chat, answer=[" 4", " four"]) == [1.0]
    assert seen == [{"prefix": "2 + 2 =", "predicted": "4", "suffix": " 4\nor\n four"}]
