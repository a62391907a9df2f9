"""RPT's reward: exact beginnings of how a text goes on."""

from __future__ import annotations

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.judging.continuation import continuation_reward

TRUTH = " is 12 km, and back."


@pytest.mark.parametrize(
    ("said", "words", "value"),
    [
        ("<think>t</think> is", 1, 1),
        ("<think>t</think>is 12 km, and back.", 1, 1),
        ("is <think>t</think> 12", 1, 1),
        ("<think>t</think>is 12", 2, 1),
        ("<think>t</think>is 12 km", 1, 1),  # a comma follows: the word ends
        ("<think>t</think>is", 2, 0),  # too short
        ("<think>t</think>is 1", 1, 0),  # half of a word
        ("<think>t</think>is 13", 1, 0),
        ("<think>t</think>is  12", 1, 0),
        ("<think>t</think>is 12 km, and back. And", 1, 0),  # more than there is
        ("<think>t</think>", 1, 0),
        ("is", 1, 0),  # no thought
        ("<think>t is", 1, 0),  # that never ends
    ],
)
def test_what_counts(said, words, value):
    assert continuation_reward(words)(prompts=[""], completions=[said], answer=[TRUTH]) == [value]


def test_of_a_short_answer_all_is_asked_for():
    completions = ["<think>t</think>yes", "<think>t</think>ye"]
    assert continuation_reward(3)(prompts=["", ""], completions=completions, answer=["yes", "yes"]) == [1, 0]


def test_messages_are_read():
    said = [{"role": "assistant", "content": "<think>t</think>is"}]
    assert continuation_reward()(prompts=[""], completions=[said], answer=[TRUTH]) == [1]


def test_a_prediction_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="words=0"):
        continuation_reward(0)
