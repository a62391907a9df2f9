"""Rewards on form and length."""

from __future__ import annotations

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.rewards import format_reward, length_reward, tags_reward


def test_format_reward_matches_the_whole_completion():
    reward = format_reward(r"<think>.*</think>\s*\d+", name="thinks")
    assert reward.__name__ == "thinks"
    assert reward(prompts=[""] * 3, completions=["<think>a\nb</think> 5", "<think>a</think> 5 x", "5"]) == [
        1.0,
        0.0,
        0.0,
    ]
    assert reward(prompts=[""], completions=[[{"role": "assistant", "content": "<think></think>5"}]]) == [1.0]
    with pytest.raises(ConfigError, match="regular expression"):
        format_reward("(")


def test_tags_reward_wants_each_tag_once_in_order():
    reward = tags_reward(["think", "answer"])
    good = "<think>a</think><answer>5</answer>"
    bad = [
        "<answer>5</answer><think>a</think>",
        good + good,
        "<think>a<answer>5</answer></think>",
        "<think>a</think>",
        "",
    ]
    assert reward(prompts=[""] * 6, completions=[good, *bad]) == [1.0, 0, 0, 0, 0, 0]
    with pytest.raises(ConfigError):
        tags_reward("think")


def test_length_reward_follows_its_formula():
    reward = length_reward(soft=6, hard=10)
    ids = [[0] * length for length in (0, 6, 7, 8, 10, 50)]
    assert reward(prompts=[""] * 6, completions=[""] * 6, completion_ids=ids) == [0, 0, -0.25, -0.5, -1, -1]
    with pytest.raises(ConfigError, match="soft < hard"):
        length_reward(soft=10, hard=10)
