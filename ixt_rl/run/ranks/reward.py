"""A reward that asks a judge: one judge for all ranks, asked by the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.run.ranks.team import Ranks


class AskedByRankZero:
    """Calls a reward for the completions of all ranks on the first one; each gets those of its own rows.

    Columns that it logs are shared out as its rewards are; a metric, a number of all rows, is the first rank's.

    Args:
        reward: behind its guard; called on rank 0 alone.
        ranks: all of them; each calls this as often as the others, with as many rows as it has, or none.
    """

    def __init__(self, reward: Callable[..., Sequence[float | None]], ranks: Ranks):
        self.reward, self._ranks = reward, ranks
        self.__name__ = reward.__name__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reward, name)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        """As `GuardedReward`'s."""
        columns = {name: list(value) for name, value in kwargs.items() if isinstance(value, list | tuple)}
        columns |= {"prompts": list(prompts), "completions": list(completions)}
        others = {name: value for name, value in kwargs.items() if name not in columns}
        logged: dict[str, list[Any]] = {}
        if others.get("log_extra") is not None:
            others["log_extra"] = lambda column, values: logged.update({column: list(values)})
        parts = self._ranks.gathered(columns)
        counts = [len(part["completions"]) for part in parts]

        def asked() -> tuple[list[float | None], dict[str, list[Any]]]:
            together = {name: [value for part in parts for value in part.get(name, ())] for name in columns}
            return list(self.reward(**together, **others)) if sum(counts) else [], logged

        made, columns_of_all = self._ranks.decided(asked)
        first = sum(counts[: self._ranks.rank])
        own = slice(first, first + counts[self._ranks.rank])
        for column, values in columns_of_all.items():
            kwargs["log_extra"](column, values[own])
        return made[own]
