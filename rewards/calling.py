"""How a reward function is called: what it is given, as TRL gives it, and for how many completions at once.

Shapes: B completions of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

RewardFunction = Callable[..., Sequence[float | None]]
"""A function with TRL's reward signature."""


def reward_arguments(
    rows: Sequence[Mapping[str, Any]], texts: Sequence[str], completion_ids: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """What a reward is called with: `prompts`, `completions`, `completion_ids` and the rows' other columns, B each.

    Args:
        rows: one for each completion, with `prompt`: all of them texts, or all messages; then completions are
            messages, too. A column that some row lacks is None there.
        texts: of the completions.
        completion_ids: the same as ids.
    """
    prompts = [row["prompt"] for row in rows]
    chat = any(isinstance(prompt, list) for prompt in prompts[:1])
    names = dict.fromkeys(name for row in rows for name in row if name != "prompt")
    return {
        **{name: [row.get(name) for row in rows] for name in names},
        "prompts": prompts,
        "completions": [[{"role": "assistant", "content": text}] for text in texts] if chat else list(texts),
        "completion_ids": [list(ids) for ids in completion_ids],
    }


def in_parts(reward: RewardFunction, most: int) -> RewardFunction:
    """`reward`, asked for at most `most` completions a call: what its guard allows a batch, in time and in calls that
    are made again, is then for as many however many completions there are.

    Args:
        reward: returns as many values as it is asked for.
        most: B of a call. All that is given beside `prompts` and `completions` are columns.
    """

    def asked(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[float | None]:
        found: list[float | None] = []
        for start in range(0, len(completions), most):
            part = slice(start, start + most)
            own = {name: column[part] for name, column in columns.items()}
            found += reward(prompts=prompts[part], completions=completions[part], **own)
        return found

    return asked
