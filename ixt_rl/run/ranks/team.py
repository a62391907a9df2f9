"""The ranks of a run, as each of them has them: the first leads, and the others do what it says.

    rank 0                                   others
    folder, lock, console, trackers          nothing of these
    stage after stage, which are done?       wait for an order, as long as rank 0 shows life
    TakePart -> the stage's runner           the same runner, in a folder of their own that is thrown away
    evaluation on the split engine           Sample: their part of each call

Whatever depends on files, judges or the clock is found by rank 0 (`decided`). Waits within training are torch's, with
the deadline of `launch`; those for orders have none of their own.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.errors import ConfigError, EndsWithLeader, RankFailed
from ixt_rl.place import LOCAL_SIZES, check_started, launcher, place
from ixt_rl.run.ranks.orders import End, GiveUp, Order, Sample, Take
from ixt_rl.signals import Stopped, end_anyway

if TYPE_CHECKING:  # a dry run loads no torch
    from ixt_rl.rollout.engine import RolloutEngine

T = TypeVar("T")

_LOOKS = 0.02
"""Seconds between two looks for an order."""


class Ranks:
    """One process alone: it leads, and nobody follows."""

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def tell(self, order: Order) -> None:
        """Tells the other ranks what to do next."""

    def hear(self) -> Order:
        """Waits for the next order, on ranks that do not lead."""
        raise NotImplementedError("rank 0 gives the orders")

    def decided(self, make: Callable[[], T]) -> T:
        """What `make` returns on the first rank, which alone calls it. All ranks call this."""
        return make()

    def shared(self, engine: RolloutEngine, measure: Callable[[RolloutEngine], T]) -> T:
        """`measure(engine)` on the first rank, each call of the engine split over all. All ranks call this.

        Args:
            engine: in this process, with the same weights on all ranks.
            measure: called on the first rank alone.
        """
        return measure(engine)

    def owned(self, make: Callable[[], RolloutEngine | None]) -> RolloutEngine | None:
        """An engine outside the trainer's model, which the first rank makes and has for all. All ranks call this."""
        return make()

    def gathered(self, own: T) -> list[T]:
        """What each rank gives, in their order. All ranks call this."""
        return [own]

    def together(self) -> None:
        """Waits until all ranks have come here."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Within it, an error of a wait for other ranks says who is missing, and any other is told to them.

        Raises:
            RankFailed: in place of torch's error.
        """
        yield


ALONE = Ranks()


class JoinedRanks(Ranks):
    """One of several.

    Args:
        rank, size: of this process.
        store: of all ranks.
        deadline: seconds without life of rank 0 after which the others end.
        watch: the beats of all.
    """

    def __init__(self, rank: int, size: int, store: Any, deadline: float, watch: Any):
        self.rank, self.size, self.deadline, self.watch = rank, size, deadline, watch
        self._store = store
        self._orders = 0
        self._told = self._waited = False

    def tell(self, order: Order) -> None:
        assert self.leads
        self._orders += 1
        self._store.set(str(self._orders), pickle.dumps(order))

    def hear(self) -> Order:
        """As `Ranks.hear`.

        Raises:
            RankFailed: rank 0 has ended, has met an error, or shows no life for longer than the deadline.
        """
        self._orders += 1
        key = str(self._orders)
        try:
            self._wait_for(key)
            order: Order = pickle.loads(self._store.get(key))
        except RuntimeError as error:
            raise self.watch.explained(error) or error from error
        if isinstance(order, GiveUp):
            raise self._ended_with_rank_0()
        return order

    def _let_rank_0_end(self) -> None:
        if not self._waited:
            self._waited = True
            self.watch.let_rank_0_end()

    def _ended_with_rank_0(self) -> EndsWithLeader:
        self._let_rank_0_end()
        return EndsWithLeader(
            f"rank {self.rank} ends with rank 0", reason="rank 0 met an error", remedy="it says what to do"
        )

    def _wait_for(self, key: str) -> None:
        looks, beat, since = 0, -1, time.monotonic()
        while not self._store.check([key]):
            time.sleep(_LOOKS)
            looks += 1
            if looks % 50:
                continue
            now = self.watch.beats().get(0, {}).get("beat", -1)
            if now != beat:
                beat, since = now, time.monotonic()
            elif time.monotonic() - since > self.deadline:
                raise RankFailed(
                    f"no sign of life from rank 0 for {self.deadline:g} s",
                    reason=f"rank {self.rank} waited for what comes next",
                    remedy="the same command goes on from the last checkpoint",
                )

    def decided(self, make: Callable[[], T]) -> T:
        if not self.leads:
            order = self.hear()
            assert isinstance(order, Take), order
            return self._broadcast(None)
        try:
            made = make()
        except BaseException:
            self.tell(GiveUp())
            raise
        self.tell(Take())
        return self._broadcast(made)

    def shared(self, engine: RolloutEngine, measure: Callable[[RolloutEngine], T]) -> T:
        from ixt_rl.run.ranks.split_engine import SplitEngine

        split = SplitEngine(engine, self)
        if self.leads:
            return self.decided(lambda: measure(split))
        while isinstance(order := self.hear(), Sample):
            split.answer(None)
        assert isinstance(order, Take), order
        return self._broadcast(None)

    def owned(self, make: Callable[[], RolloutEngine | None]) -> RolloutEngine | None:
        from ixt_rl.rollout.engine import EngineOfRankZero

        made: list[RolloutEngine | None] = [EngineOfRankZero()]
        self.decided(lambda: made.append(make()))
        return made[-1]

    def gathered(self, own: T) -> list[T]:
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, own)
        return parts

    def together(self) -> None:
        import torch.distributed as dist

        dist.barrier()

    @contextmanager
    def named(self) -> Iterator[None]:
        try:
            yield
        except (Exception, Stopped) as error:
            found = self._explained(error)
            if found is not None:
                if self.leads:
                    end_anyway()  # the launcher's SIGTERM says nothing new, and a summary is to be written
                self._waited = True
                raise found from error
            if isinstance(error, EndsWithLeader):
                self._let_rank_0_end()
            if not isinstance(error, RankFailed) and not self._told:
                self._told = True
                self.watch.tell(error)
                if not self.leads and not isinstance(error, Stopped) and self.watch.rank_0_meets_one():
                    raise self._ended_with_rank_0() from error
            raise

    def _explained(self, error: BaseException) -> RankFailed | None:
        try:
            return self.watch.explained(error)
        except Stopped as stop:  # the launcher was faster
            return self.watch.explained(stop)

    def _broadcast(self, value: Any) -> Any:
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]


@contextmanager
def joined(launch: LaunchBlock) -> Iterator[Ranks]:
    """The ranks of this run, from the environment that a launcher made; this process alone without one.

    Raises:
        ConfigError: the launcher started another number of ranks than the run file says, or than it was told.
        RankFailed: one ended, or did not come in time.
    """
    here = place()
    if here.size == 1:
        check_started()
        yield ALONE
        return
    if "ranks" in launch.model_fields_set and launch.ranks != here.size:
        raise ConfigError(
            f"launch.ranks={launch.ranks}, started {here.size} times",
            reason="a launcher (torchrun, accelerate, deepspeed, srun) says how many ranks there are",
            remedy=f"leave launch.ranks out, or set it to {here.size}, or start `ixt-rl run` without a launcher",
        )
    import torch
    import torch.distributed as dist

    from ixt_rl.run.ranks.meeting import meet, ranks_here
    from ixt_rl.run.ranks.watch import Watch

    deadline = timedelta(seconds=launch.deadline)
    backend = "gloo"
    if torch.accelerator.is_available():
        if here.local_rank >= torch.accelerator.device_count():
            raise ConfigError(
                f"rank {here.rank} is number {here.local_rank + 1} on this machine, which has "
                f"{torch.accelerator.device_count()} devices",
                reason="each rank trains on a device of its own",
                remedy="set launch.ranks to the number of devices, or start fewer ranks on each machine",
            )
        torch.accelerator.set_device_index(here.local_rank)
        device = torch.accelerator.current_accelerator()
        assert device is not None
        backend = f"cpu:gloo,{device.type}:{dist.get_default_backend_for_device(device)}"
    try:
        store = meet(here, deadline)
        said = any(os.environ.get(name) for name in LOCAL_SIZES)
        local_size = here.local_size if said else ranks_here(dist.PrefixStore("machines", store), here)
    except (dist.DistError, OSError) as error:
        missing = f"rank {1 - here.rank}" if here.size == 2 else "the other ranks" if here.rank == 0 else "rank 0"
        raise RankFailed(
            f"rank {here.rank} of {here.size} has not met {missing} within {launch.deadline:g} s",
            reason=str(error).splitlines()[0],
            remedy="start all ranks at once, and look at what the others wrote; launch.deadline is how long one waits",
        ) from error
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(local_size))  # accelerate would write a 1 there, on CPUs
    watch = Watch(store, here.rank, here.size, launcher())
    watch.start()
    ranks = JoinedRanks(here.rank, here.size, dist.PrefixStore("orders", store), launch.deadline, watch)
    with ranks.named():  # an error leaves the beats: the others let this process end before them
        dist.init_process_group(
            backend, store=dist.PrefixStore("group", store), rank=here.rank, world_size=here.size, timeout=deadline
        )
        yield ranks
        if ranks.leads:
            ranks.tell(End())
        ranks.together()
    dist.destroy_process_group()
    watch.stop()
