"""Rewards in OpenRLHF's engines: completions that wait are judged in one call, and each gets its own."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ixt_rl.integrations.openrlhf.rewarding import Together, rewarded


class Tokenizer:
    def decode(self, ids, skip_special_tokens):
        return "".join(map(str, ids))


def row(prompt: Any, **columns: Any) -> dict[str, Any]:
    return {"prompt": prompt, "prompt_ids": [1, 2], "columns": columns}


def test_what_waits_goes_into_one_call():
    sizes, first_is_under_way, go_on = [], threading.Event(), threading.Event()

    def call(items: list[int]) -> list[int]:
        sizes.append(len(items))
        first_is_under_way.set()
        assert go_on.wait(60)
        return [10 * item for item in items]

    async def all_of_them() -> list[int]:
        together = Together(call)
        tasks = [asyncio.create_task(together.ask(0))]
        await asyncio.get_running_loop().run_in_executor(None, first_is_under_way.wait, 60)
        tasks += [asyncio.create_task(together.ask(item)) for item in range(1, 6)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(3), asyncio.CancelledError)
        assert await together.ask(7) == 70, "it begins again"
        return found

    assert asyncio.run(all_of_them()) == [0, 10, 20, 40, 50]
    assert sizes == [1, 5, 1]


@pytest.mark.parametrize("broken", ["raises", "gives too few"])
def test_an_error_reaches_all_that_waited(broken):
    def call(items: list[int]) -> list[int]:
        if broken == "raises":
            raise ValueError("the budget is spent")
        return []

    async def asked() -> list[Any]:
        together = Together(call)
        found = await asyncio.gather(*(together.ask(item) for item in range(3)), return_exceptions=True)
        return [*found, *await asyncio.gather(together.ask(3), return_exceptions=True)]

    assert [type(one) for one in asyncio.run(asked())] == [ValueError] * 4


def test_each_completion_gets_its_own_rewards():
    def right(prompts, completions, completion_ids, answer, **columns):
        assert columns["hint"] == ["h", None]
        return [None if text == "9" else float(text == gold) for text, gold in zip(completions, answer, strict=True)]

    def length(completions, completion_ids, **columns):
        return [len(ids) for ids in completion_ids]

    given = [(row("a", answer="34", hint="h"), [3, 4]), (row("b", answer="5"), [9])]
    (first, second) = rewarded([right, length], given, Tokenizer())
    assert first == [1.0, 2.0]
    assert second[0] != second[0] and second[1] == 1.0, "undecided is NaN"

    def of_chats(prompts, completions, **columns):
        return [float(one == [{"role": "assistant", "content": "7"}]) for one in completions]

    assert rewarded([of_chats], [(row([{"role": "user", "content": "?"}]), [7])], Tokenizer()) == [[1.0]]


def test_an_engine_rewards_what_it_sampled(monkeypatch):
    for name in ("openrlhf", "openrlhf.utils", "openrlhf.utils.agent"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["openrlhf.utils.agent"].AgentExecutorBase = object  # type: ignore[attr-defined]
    from ixt_rl.integrations.openrlhf.executor import executor

    del sys.modules["ixt_rl.integrations.openrlhf.executor"]  # its base is made up

    class Engine:
        async def generate(self, ids: list[int], params: Any) -> Any:
            assert (params.min_tokens, params.stop_token_ids) == (0, [2])
            chosen = SimpleNamespace(logprob=-0.5)
            return SimpleNamespace(outputs=[SimpleNamespace(
                token_ids=[len(ids), 2], logprobs=[{len(ids): chosen}, {2: chosen}], finish_reason="stop"
            )])  # fmt: skip

    def reward(completions, **columns):
        return [float(text) for text in completions]

    made: Any = executor([reward, reward], [1.0, 0.5], [2])()
    params = SimpleNamespace(logprobs=1, min_tokens=1, stop_token_ids=[])

    async def of_two() -> list[dict[str, Any]]:
        labels = [json.dumps({**row("p"), "prompt_ids": ids}) for ids in ([4, 4, 4], [4])]
        return await asyncio.gather(*(made.execute("p", one, params, 9, Tokenizer(), Engine()) for one in labels))

    first, second = asyncio.run(of_two())
    assert (first["reward"], second["reward"]) == (32 * 1.5, 12 * 1.5)
    assert first["extra_logs"] == {"reward_0": 32.0, "reward_1": 32.0}
    assert (second["observation_tokens"], second["action_ranges"]) == ([4, 1, 2], [(1, 3)])
    assert second["rollout_log_probs"] == [0.0, -0.5, -0.5]
