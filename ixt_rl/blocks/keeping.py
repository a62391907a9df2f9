"""Which rewards of a stage decide what is kept, and what that means, before anything loads. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import (
    Field,
)

from ixt_rl.blocks.strict import Finite, Strict
from ixt_rl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from ixt_rl.blocks.rewards import RewardBlock


class KeepBlock(Strict):
    """Which rationales are trained."""

    keep: str | list[str] | None = Field(
        None,
        description="rewards, by name or type, that each must reach keep_reward; one undecided excludes. Default: "
        "those that say right or wrong (world, math, continuation, verdict, rewrite; else judge; else python; "
        "else format; else length)",
    )
    keep_reward: Finite = Field(1.0, description="a rationale is kept from this value on of each of them, unweighted")


_VERIFIERS = ("world", "math", "continuation", "verdict", "rewrite")
_DECIDE = (_VERIFIERS, ("judge",), ("python",), ("format",), ("length",))
"""Types of rewards, the ones that know best what is right first; by default the first kind in a list decides."""

_RANGES = {
    "world": (0, 1),
    "math": (0, 1),
    "continuation": (0, 1),
    "format": (0, 1),
    "judge": (0, 1),
    "length": (-1, 0),
}


def reward_names(rewards: Sequence[RewardBlock]) -> list[str]:
    """What each reward is called in logs, all different: its name or type, and a number behind a second of a type."""
    bases = [f"{reward.name or reward.type}_reward" for reward in rewards]
    seen = [bases[:place].count(base) for place, base in enumerate(bases)]
    return [f"{base}_{before + 1}" if before else base for base, before in zip(bases, seen, strict=True)]


def deciding(rewards: Sequence[RewardBlock], keep: str | list[str] | None) -> list[int]:
    """Places of the rewards that decide what is kept: those that `keep` names, or the default.

    By default they are of the first kind of `_DECIDE` that the list has; what weighs nothing, or is held against a
    completion (a weight of 0 or less), only where nothing else is there.

    Raises:
        ConfigError: `keep` names nothing, or what is not there.
    """
    if keep is None:
        counted = [i for i, reward in enumerate(rewards) if reward.weight > 0] or list(range(len(rewards)))
        return next(found for kind in _DECIDE if (found := [i for i in counted if rewards[i].type in kind]))
    wanted = [keep] if isinstance(keep, str) else keep
    known = list(dict.fromkeys(name for reward in rewards for name in (reward.called, reward.type)))
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"keep: {name!r}",
                reason="no reward of the stage has that name or type",
                remedy=did_you_mean(name, known) + f"name some of: {', '.join(known)}",
            )
    if not wanted:
        raise ConfigError("keep: []", reason="no reward would decide", remedy="name one, or leave keep out")
    return [i for i, reward in enumerate(rewards) if reward.called in wanted or reward.type in wanted]


def check_keep(rewards: Sequence[RewardBlock], section: KeepBlock | None, method: str, compared: bool = True) -> None:
    """Raises ConfigError where no rationale could ever be kept, or two rewards have one name.

    Args:
        section: the method's block; None where it compares weighted sums.
        method: its type.
        compared: whether it reads such sums at all.
    """
    names = [reward.name for reward in rewards if reward.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two rewards named {name!r}", reason="`keep` and the logs could not tell them", remedy="rename one"
            )
    if section is None:
        if compared and not any(reward.weight for reward in rewards):
            raise ConfigError(
                f"weights of 0 alone with type: {method}",
                reason="the weighted sums of a group would be equal, and nothing would ever be trained",
                remedy="give a reward a weight",
            )
        return
    for reward in (rewards[i] for i in deciding(rewards, section.keep)):
        _, most = _range(reward)
        if section.keep_reward > most:
            raise ConfigError(
                f"keep_reward={section.keep_reward:g} of a `{reward.called}` reward",
                reason=f"its largest value is {most:g} (weights do not count): nothing would ever be kept",
                remedy=f"set {method}.keep_reward to at most {most:g}, "
                f"or name the rewards that decide in {method}.keep",
            )


def keep_notes(rewards: Sequence[RewardBlock], section: KeepBlock | None, path: str, method: str) -> list[str]:
    """What is not wrong, and may surprise: what is kept without a verifier's word, or for no reason.

    Args:
        section: the method's block; None where it compares weighted sums.
        path: of that block in the run file.
        method: its type.
    """
    if section is None:
        return []
    decide = deciding(rewards, section.keep)
    found = []
    verifiers = [reward for reward in rewards if reward.type in (*_VERIFIERS, "judge")]
    if verifiers and not any(rewards[i] in verifiers for i in decide):
        names = ", ".join(rewards[i].called for i in decide)
        found.append(f"{path}.keep: {names} decides, so rationales are kept that {verifiers[0].called} finds wrong")
    for reward in (rewards[i] for i in decide):
        least, _ = _range(reward)
        if section.keep_reward <= least:
            found.append(
                f"{path}.keep_reward: {section.keep_reward:g} is the least that {reward.called} gives: "
                "what it finds wrong is kept too"
            )
    idle = [reward.called for i, reward in enumerate(rewards) if i not in decide]
    if idle:
        found.append(
            f"{path}.keep: {', '.join(idle)} of the rewards cannot make a rationale kept or dropped, "
            f"and {method} reads no weights: logged, no more"
        )
    return found


def kept_by(rewards: Sequence[RewardBlock], section: KeepBlock) -> dict[str, Any]:
    """The trainer's options `keep` (names of the rewards that decide) and `keep_reward`."""
    names = reward_names(rewards)
    return {"keep": [names[i] for i in deciding(rewards, section.keep)], "keep_reward": section.keep_reward}


def _range(reward: RewardBlock) -> tuple[float, float]:
    """The least and the largest value of a reward; of a function nobody knows, infinity both ways."""
    if reward.type in ("verdict", "rewrite"):
        unreadable = getattr(reward, "unreadable", None)
        values = [0.0, 1.0] if unreadable is None else [0.0, 1.0, unreadable]
        return min(values), max(values)
    return _RANGES.get(reward.type, (float("-inf"), float("inf")))
