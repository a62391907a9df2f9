"""Rewards on the form of a completion: a pattern, required tags, its length. All with TRL's signature.

They weigh in a sum; what InTRO and RAFT keep they decide only where they are named for it, and which groups dynamic
sampling draws again only where nothing else weighs (`decides` is False).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.errors import ConfigError
from ixt_rl.rewards.math.verifier import Completion, completion_text

RewardFunction = Callable[..., list[float | None]]


def format_reward(pattern: str, *, name: str = "format_reward") -> RewardFunction:
    """A reward of 1.0 for completions that match a regular expression as a whole, else 0.0.

    Args:
        pattern: matched against the whole completion; `.` matches newlines too.
        name: how the reward is called in logs.

    Raises:
        ConfigError: the pattern is no regular expression.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError(
            f"format pattern {pattern!r}", reason=str(error), remedy="correct the regular expression"
        ) from error

    def reward(prompts: Sequence[Any], completions: Sequence[Completion], **kwargs: Any) -> list[float | None]:
        return [float(compiled.fullmatch(completion_text(c)) is not None) for c in completions]

    return _of_form(reward, name)


def tags_reward(tags: Sequence[str], *, name: str = "tags_reward") -> RewardFunction:
    """A reward of 1.0 for completions that have each `<tag>...</tag>` once, in the given order, else 0.0.

    Args:
        tags: tag names without brackets, such as `("think", "answer")`.
        name: how the reward is called in logs.

    Raises:
        ConfigError: no tags.
    """
    if not tags or isinstance(tags, str):
        raise ConfigError(
            f"tags {tags!r}", reason="not a list of names", remedy='give one, such as ["think", "answer"]'
        )
    wanted = [bracketed for tag in tags for bracketed in (f"<{tag}>", f"</{tag}>")]
    any_tag = re.compile("|".join(map(re.escape, wanted)))

    def reward(prompts: Sequence[Any], completions: Sequence[Completion], **kwargs: Any) -> list[float | None]:
        return [float(any_tag.findall(completion_text(c)) == wanted) for c in completions]

    return _of_form(reward, name)


def length_reward(soft: int, hard: int, *, name: str = "length_reward") -> RewardFunction:
    """The soft over-length penalty (DAPO, arXiv:2503.14476, eq. 13), from 0 down to -1.

    With |y| the completion's length in tokens:

        0                              |y| <= soft
        (soft - |y|) / (hard - soft)   soft < |y| <= hard
        -1                             hard < |y|

    Args:
        soft: length up to which there is no penalty.
        hard: length from which the penalty is full.
        name: how the reward is called in logs.

    Raises:
        ConfigError: not 0 <= soft < hard.
    """
    if not 0 <= soft < hard:
        raise ConfigError(
            f"length reward with soft={soft}, hard={hard}",
            reason="the penalty grows from `soft` to `hard` tokens",
            remedy="choose 0 <= soft < hard",
        )

    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        completion_ids: Sequence[Sequence[int]],
        **kwargs: Any,
    ) -> list[float | None]:
        return [max(-1.0, min(0.0, (soft - len(ids)) / (hard - soft))) for ids in completion_ids]

    return _of_form(reward, name)


def _of_form(reward: RewardFunction, name: str) -> RewardFunction:
    reward.__name__ = name
    reward.decides = False  # type: ignore[attr-defined]
    return reward
