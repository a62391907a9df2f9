"""What two ranks do in tests/unit/run/test_ranks.py; `run_ranks` calls it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from accelerate import PartialState

from ixt_rl.backends import is_installed
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.errors import ConfigError, DataError, EndsWithLeader, RankFailed, WeightsLost
from ixt_rl.place import place
from ixt_rl.rollout.engine import EngineOfRankZero
from ixt_rl.rollout.sync import from_rank_0, with_policy
from ixt_rl.rollout.vllm_engine import VLLMEngine
from ixt_rl.run.ranks.reward import AskedByRankZero
from ixt_rl.run.ranks.team import JoinedRanks, joined
from ixt_rl.signals import Stopped, stoppable
from ixt_rl.types import Rollout, SamplingParams


class Echo:
    """An engine whose completions are the prompt's first id, its row's seed and the rank that answered."""

    policy_version = 3

    def generate(self, prompts, sampling, n=1, seeds=None):
        assert n == 1
        if any(prompt[0] == 13 for prompt in prompts):
            raise ValueError("an unlucky prompt")
        own = seeds or [0] * len(prompts)
        rank = dist.get_rank()
        return [
            [Rollout(tuple(prompt), (prompt[0], seed % 1000, rank), (0.0,) * 3, "eos", 3)]
            for prompt, seed in zip(prompts, own, strict=True)
        ]


def meet() -> None:
    with joined(LaunchBlock(deadline=60.0)) as ranks:
        assert isinstance(ranks, JoinedRanks)
        assert (ranks.rank, ranks.size, ranks.leads) == (dist.get_rank(), 2, dist.get_rank() == 0)
        PartialState(cpu=True)  # writes LOCAL_WORLD_SIZE=1 where a launcher has not said it
        assert place().local_size == 2
        assert ranks.decided(lambda: ["found by", ranks.rank]) == ["found by", 0]
        _split(ranks)
        _asked(ranks)
        _owned(ranks)
        ranks.together()
        assert set(ranks.watch.beats()) == {0, 1}
    print("met")
    os._exit(0)


def _split(ranks: JoinedRanks) -> None:
    greedy, drawn = SamplingParams(4, 0.0), SamplingParams(4, 1.0, seed=7)

    def measure(engine):
        assert ranks.leads, "only the first rank measures"
        assert engine.policy_version == 3
        plain = engine.generate([[5], [6], [7]], greedy, 2)
        one = engine.generate([[8]], greedy)  # the second rank has nothing to do
        none = engine.generate([], greedy)
        seeded = engine.generate([[5], [6]], drawn, 2, [100, 200])
        free = engine.generate([[5], [6]], drawn, 2)
        again = engine.generate([[5], [6]], drawn, 2)
        try:
            engine.generate([[1], [13]], greedy)
        except ValueError as error:
            said = str(error)
        return plain, one, none, seeded, free, again, said

    plain, one, none, seeded, free, again, said = ranks.shared(Echo(), measure)  # type: ignore[arg-type]
    ids = [[rollout.completion_ids for rollout in group] for group in plain]
    assert ids == [[(5, 0, 0)] * 2, [(6, 0, 1)] * 2, [(7, 0, 0)] * 2]
    assert (len(one), none) == (1, [])
    assert [[rollout.completion_ids[1] for rollout in group] for group in seeded] == [[100, 101], [200, 201]]
    assert len({rollout.completion_ids[1] for group in free for rollout in group}) == 4
    assert free == again
    assert said == "an unlucky prompt"


def _asked(ranks: JoinedRanks) -> None:
    calls = []

    def reward(prompts, completions, gold, factor, log_extra=None, log_metric=None):
        calls.append(len(completions))
        if log_extra is not None:
            log_extra("read", [text.upper() for text in completions])
            log_metric("readable", 2 / 3)
        return [
            None if text == "?" else factor * float(text == right)
            for text, right in zip(completions, gold, strict=True)
        ]

    asked = AskedByRankZero(reward, ranks)
    rows = [["a", "?", "b"], []][ranks.rank]  # uneven: one rank has none
    logged: dict[str, object] = {}
    log = {"log_extra": logged.__setitem__, "log_metric": logged.__setitem__}
    got = asked(prompts=rows, completions=rows, gold=["a", "a", "a"][: len(rows)], factor=2, **log)
    assert got == [[2.0, None, 0.0], []][ranks.rank]
    assert logged == [{"read": ["A", "?", "B"], "readable": 2 / 3}, {"read": []}][ranks.rank]
    row = [["a"], ["b"]][ranks.rank]
    assert asked(prompts=row, completions=row, gold=row, factor=1, **log) == [1.0]
    assert logged["read"] == [["A"], ["B"]][ranks.rank]
    assert asked(prompts=[], completions=[], gold=[], factor=2) == []
    assert calls == ([3, 2] if ranks.leads else [])


def _owned(ranks: JoinedRanks) -> None:
    """One engine for all, which the first rank alone has: what it gives, loses and fails at."""
    engine: Any = ranks.owned(Echo)  # type: ignore[arg-type]
    assert isinstance(engine, Echo if ranks.leads else EngineOfRankZero)
    sent: list[bool] = []

    def measure():
        if len(sent) < 3:
            raise WeightsLost("half of them")
        return engine.generate([[5]], SamplingParams(4, 0.0))[0][0].completion_ids

    for decided in (ranks.decided, from_rank_0):
        assert with_policy(sent.append, measure, decided) == (5, 0, 0)
        assert sent == [False, True, True]
        sent.clear()
    with pytest.raises(ValueError if ranks.leads else EndsWithLeader, match="an unlucky prompt"):
        from_rank_0(lambda: engine.generate([[13]], SamplingParams(4, 0.0)))
    if is_installed("vllm"):
        with pytest.raises(ConfigError, match=f"vLLM in the process of rank {ranks.rank} of 2"):
            VLLMEngine("nowhere", eos_ids=(0,))
    if not ranks.leads:
        with pytest.raises(RuntimeError, match="rank 0 has the engine"):
            engine.generate([[5]], SamplingParams(4, 0.0))


def engine_fails() -> None:
    """The engine of the first rank fails, which takes its time to report it; the other one has nothing to add."""
    with joined(LaunchBlock(deadline=60.0)) as ranks:
        ranks.together()
        try:
            with ranks.named():
                from_rank_0(lambda: Echo().generate([[13]], SamplingParams(4, 0.0)))
        except (ValueError, RankFailed) as error:
            print(f"{type(error).__name__}: {error} {time.time()}", flush=True)
        if ranks.leads:
            time.sleep(2.0)
            print(f"reported {time.time()}", flush=True)
        os._exit(0)


def late(folder: Path) -> None:
    """Where the second rank is while the first waits."""
    until = time.monotonic() + 60
    while not (folder / "seen").exists() and time.monotonic() < until:
        time.sleep(0.05)


def hang(folder: str) -> None:
    with joined(LaunchBlock(deadline=2.0)) as ranks:
        if not ranks.leads:
            late(Path(folder))
            os._exit(0)
        try:
            with ranks.named():
                ranks.together()
        except RankFailed as error:
            print(error)
        (Path(folder) / "seen").touch()
        os._exit(0)


def leave() -> None:
    with joined(LaunchBlock(deadline=60.0)) as ranks:
        ranks.together()
        if not ranks.leads:
            os._exit(0)
        try:
            with ranks.named():
                ranks.together()
        except RankFailed as error:
            print(error)
            os._exit(0)


def fail(on_both: bool, how: str) -> None:
    """An error of rank 1, which rank 0 meets too, or waits through; `how` it learns of it."""
    with joined(LaunchBlock(deadline=60.0)) as ranks, stoppable():
        ranks.together()
        try:
            with ranks.named():
                if on_both or not ranks.leads:
                    raise DataError("row 7 has no answer")
                if how == "signal":
                    time.sleep(2.0)
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(60)
                ranks.together()
        except (DataError, RankFailed, Stopped) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        time.sleep(3.0 if ranks.leads else 0.0)  # its store, and a summary to write
        os._exit(0)


def follow_a_leader_that_left() -> None:
    with joined(LaunchBlock(deadline=3.0)) as ranks:
        ranks.together()
        if ranks.leads:
            ranks.watch.stop()  # as a process that is stopped: its store answers, it shows no life
            time.sleep(6)
            os._exit(0)
        try:
            ranks.hear()
        except RankFailed as error:
            print(error)
            os._exit(0)


def give_up() -> None:
    with joined(LaunchBlock(deadline=60.0)) as ranks:
        ranks.together()
        try:
            ranks.decided(lambda: 1 // 0)
        except (ZeroDivisionError, RankFailed) as error:
            print(type(error).__name__, flush=True)
        os._exit(0)
