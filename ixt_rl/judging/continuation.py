"""RPT's reward (arXiv 2506.08007): what a rollout predicts of a text counts where it is right to the character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.conditioning.thought_marks import predicted_suffix
from ixt_rl.errors import ConfigError
from ixt_rl.rewards.math.verifier import Completion, completion_text


def continuation_reward(words: int = 1) -> Callable[..., list[float]]:
    """A reward with TRL's signature: 1 where what a completion says outside of its thoughts begins as the row's
    `answer`, and ends where a word of it does; else 0, as without a thought or a prediction.

    RPT's ends where a token does, of whose bounds a text says nothing.

    Args:
        words: fewest words of a prediction; of a shorter answer all of it.

    Raises:
        ConfigError: fewer than one.
    """
    if words < 1:
        raise ConfigError(f"words={words}", reason="a prediction of nothing is always right", remedy="give at least 1")

    def reward(
        prompts: Sequence[Any], completions: Sequence[Completion], answer: Sequence[str], **_: Any
    ) -> list[float]:
        said = [predicted_suffix(completion_text(completion)) for completion in completions]
        return [float(begins(text or "", truth.strip(), words)) for text, truth in zip(said, answer, strict=True)]

    reward.__name__ = "continuation_reward"
    return reward


def begins(predicted: str, truth: str, words: int) -> bool:
    """Whether a prediction is the beginning of a text, up to the end of a word, and long enough."""
    if not predicted or not truth.startswith(predicted):
        return False
    rest = truth[len(predicted) :]
    ends = not (predicted[-1].isalnum() and rest[:1].isalnum())
    return not rest or (ends and len(predicted.split()) >= words)
