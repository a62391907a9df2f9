"""Rewards of the completions of an engine: those that end while a call is under way go together into the next one.

A server answers as many of a judge's questions at once as its `concurrency` says; asked for one completion a call, it
would answer them one after the other. Imports no torch.

Shapes: B completions of a call, F reward functions.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ixt_rl.rewards.calling import RewardFunction, reward_arguments


class Together:
    """Asks a function that takes many at once for one, from coroutines of one event loop.

    Args:
        call: gives one result for each item of a list; called in a thread, and not again before it has returned.
    """

    def __init__(self, call: Callable[[list[Any]], Sequence[Any]]):
        self._call, self._thread = call, ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def ask(self, item: Any) -> Any:
        """Its result; raises what the call raised that it was in."""
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._calling is None:
            self._calling = asyncio.create_task(self._all())
        return await result

    async def _all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            results = [result for _, result in batch]
            try:
                found = await loop.run_in_executor(self._thread, self._call, [item for item, _ in batch])
                for result, value in zip(results, found, strict=True):
                    if not result.done():  # else nobody waits for it any more
                        result.set_result(value)
            except Exception as error:
                for result in results:
                    if not result.done():
                        result.set_exception(error)
        self._calling = None


def rewarded(
    rewards: Sequence[RewardFunction], completions: Sequence[tuple[dict[str, Any], list[int]]], tokenizer: Any
) -> list[list[float]]:
    """(B, F) each reward of each completion; NaN where it is undecided.

    Args:
        rewards: the functions.
        completions: of each a label's row (`columns` of the dataset, and its `prompt`) and the ids that were sampled.
        tokenizer: of the policy.
    """
    rows = [{**label["columns"], "prompt": label["prompt"]} for label, _ in completions]
    ids = [taken for _, taken in completions]
    given = reward_arguments(rows, [tokenizer.decode(taken, skip_special_tokens=True) for taken in ids], ids)
    values = [reward(**given) for reward in rewards]
    return [[math.nan if one is None else float(one) for one in row] for row in zip(*values, strict=True)]
