"""The one place where reward functions are called: what goes wrong costs a sample, not the run."""

from __future__ import annotations

import math
import numbers
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.errors import ConfigError, RewardError
from ixt_rl.files import append_rows
from ixt_rl.redaction import redacted
from ixt_rl.rewards.deadline import call_within

DEADLINE_S = 1800.0
"""Seconds that a reward may take for a batch: enough for a slow judge, and less than a night."""

_CALLABLES = ("log_extra", "log_metric")
_Part = tuple[int, list[dict[str, Any]], str]  # of a batch: its samples, those that failed as rows, the last error


@dataclass(frozen=True)
class RewardBudget:
    """How much may go wrong before the run stops.

    Args:
        max_share: largest share of failed samples in one call, 0..1.
        max_total: most failed samples over the run.
    """

    max_share: float = 0.25
    max_total: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1 or self.max_total < 0:
            raise ConfigError(
                f"reward budget max_share={self.max_share}, max_total={self.max_total}",
                reason="a share is in 0..1 and a total is not negative",
                remedy="correct them; RewardBudget(0, 0) stops at the first failure",
            )


class GuardedReward:
    """A reward function whose failures are excluded, counted, saved, and limited.

    The function is called on the whole batch. If that raises or returns something invalid, it is called
    sample by sample; a sample that still fails gets None. Valid is: one value per sample (a single value
    is not broadcast), each None or a finite number, no bool and no text.

    A call that outlasts its deadline fails as one that raises does, and so does one that raises SystemExit. Sample by
    sample, each gets an equal share of the deadline, and what the samples before it left of theirs. What asks the
    process to end (Ctrl-C, and what the handler of a signal raises) goes through.

    Args:
        func: a function with TRL's reward signature.
        name: how the reward is called in logs and errors.
        budget: beyond it, `RewardError` ends the run.
        failures_path: JSON-lines file to which failed samples are appended: reward, step, prompt,
            completion, exception, message.
        deadline_s: seconds for a batch; see `ixt_rl.rewards.deadline` for what that means in the main thread and in
            others.
        of_all: what every rank gives, in the order of the ranks, where several have a part of a batch each; all call
            it, once a batch. The budget is that of the whole batch.
        writes: whether this rank appends to `failures_path`.

    `failures` and `samples` count over the run; `last_error` describes the last failure.
    """

    def __init__(
        self,
        func: Callable[..., Sequence[float | None]],
        name: str,
        budget: RewardBudget,
        failures_path: str | Path,
        deadline_s: float = DEADLINE_S,
        of_all: Callable[[_Part], list[_Part]] = lambda own: [own],
        writes: bool = True,
    ):
        if not 0 < deadline_s < math.inf:
            raise ConfigError(f"deadline_s={deadline_s}", reason="it is a number above 0", remedy="give seconds")
        self.deadline_s = deadline_s
        self.func, self.budget, self.failures_path = func, budget, Path(failures_path)
        self.__name__ = name  # TRL logs a reward under its __name__
        self.decides = getattr(func, "decides", True)  # whether it says what is right
        self.failures, self.samples, self.last_error = 0, 0, ""
        self._of_all, self._writes = of_all, writes

    def state_dict(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        return {"failures": self.failures, "samples": self.samples, "last_error": self.last_error}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.failures, self.samples, self.last_error = state["failures"], state["samples"], state["last_error"]

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        """Reward B samples.

        Args:
            prompts, completions: B each.
            kwargs: dataset columns and `completion_ids` with B entries each, and whatever else TRL gives.

        Raises:
            RewardError: more failed than the budget allows.
        """
        columns = {"prompts": prompts, "completions": completions, **kwargs}
        size = len(completions)
        records, said = [], ""
        try:
            rewards, logged = self._attempt(columns, size, self.deadline_s)
        except Exception as error:  # any exception of user code is this boundary's business
            if size == 1:
                rewards, failed, logged = [None], [(0, error)], _Logged()
            else:
                rewards, failed, logged = self._one_by_one(columns, size)
            records = self._records(columns, failed)
            said = _describe(failed[-1][1]) if failed else f"only as a batch: {_describe(error)}"
        self._count(self._of_all((size, records, said)))
        logged.replay(kwargs)
        return rewards

    def _attempt(self, columns: dict[str, Any], size: int, seconds: float) -> tuple[list[float | None], _Logged]:
        logged = _Logged()
        given = {name: getattr(logged, name) for name in _CALLABLES if columns.get(name) is not None}
        try:
            return validated(call_within(seconds, self.func, **{**columns, **given}), size), logged
        except SystemExit as error:
            if _from_signal(error):
                raise
            raise RuntimeError(f"SystemExit({error.code!r}): a reward must not end the process") from error

    def _one_by_one(
        self, columns: dict[str, Any], size: int
    ) -> tuple[list[float | None], list[tuple[int, Exception]], _Logged]:
        rewards: list[float | None] = []
        failed: list[tuple[int, Exception]] = []
        rows: list[_Logged | None] = []
        end = time.monotonic() + self.deadline_s
        for row in range(size):
            share = max((end - time.monotonic()) / (size - row), self.deadline_s / size)
            try:
                (reward,), logged = self._attempt(_slice(columns, row, size), 1, share)
                rewards.append(reward)
                rows.append(logged)
            except Exception as error:
                failed.append((row, error))
                rewards.append(None)
                rows.append(None)
        return rewards, failed, _merge(rows)

    def _records(self, columns: dict[str, Any], failed: list[tuple[int, Exception]]) -> list[dict[str, Any]]:
        step = getattr(columns.get("trainer_state"), "global_step", None)
        return [
            {
                "reward": self.__name__,
                "step": step,
                "prompt": columns["prompts"][row],
                "completion": columns["completions"][row],
                "exception": type(error).__name__,
                "message": redacted(str(error)),
            }
            for row, error in failed
        ]

    def _count(self, parts: list[_Part]) -> None:
        """Counts a batch of all ranks, saves what failed, and stops the run beyond the budget."""
        size = sum(part[0] for part in parts)
        records = [record for part in parts for record in part[1]]
        self.samples += size
        self.failures += len(records)
        self.last_error = next((part[2] for part in reversed(parts) if part[2]), self.last_error)
        if not records:
            return
        if self._writes:
            self.failures_path.parent.mkdir(parents=True, exist_ok=True)
            append_rows(self.failures_path, records, default=repr)
        self._check_budget(len(records), size)

    def _check_budget(self, failed: int, size: int) -> None:
        share = failed / size
        if share <= self.budget.max_share and self.failures <= self.budget.max_total:
            return
        raise RewardError(
            f"reward {self.__name__!r} failed on {failed} of {size} samples, {self.failures} of {self.samples} in all",
            reason=(
                f"the budget is a share of {self.budget.max_share:g} in one call and {self.budget.max_total} in "
                f"all; last: {self.last_error}"
            ),
            remedy=f"the samples are in {self.failures_path}: correct the reward or the data, or raise the budget",
        )


def validated(rewards: Any, size: int) -> list[float | None]:
    """The rewards as plain floats and None.

    Raises:
        ValueError: not `size` values, or one that is no finite number.
        TypeError: not a sequence, or a bool or a text among them.
    """
    if isinstance(rewards, str | bytes | dict) or not hasattr(rewards, "__len__"):
        raise TypeError(f"a reward returns a list with one value per sample, not a {type(rewards).__name__}")
    if len(rewards) != size:
        raise ValueError(f"{len(rewards)} rewards for {size} samples")
    return [None if reward is None else _finite(_scalar(reward)) for reward in rewards]


def _scalar(reward: Any) -> Any:
    """The Python number in a zero-dimensional array or tensor."""
    return reward.item() if getattr(reward, "shape", None) == () else reward


def _finite(reward: Any) -> float:
    if isinstance(reward, bool) or not isinstance(reward, numbers.Real):
        raise TypeError(f"reward {reward!r} is a {type(reward).__name__}, not a number or None")
    if not math.isfinite(reward):
        raise ValueError(f"reward {reward!r} is not finite; None means undecided")
    return float(reward)


def _describe(error: Exception) -> str:
    return redacted(f"{type(error).__name__}: {error}")


def _from_signal(error: BaseException) -> bool:
    """Whether the handler of a signal raised it (`signal.signal(SIGTERM, lambda *_: sys.exit(143))`)."""
    heard = (signal.getsignal(number) for number in signal.valid_signals())
    handlers = {getattr(handler, "__code__", None) for handler in heard} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _slice(columns: dict[str, Any], row: int, size: int) -> dict[str, Any]:
    """The row of every column; what is no column (the trainer's state, callables) as it is."""
    return {
        name: [value[row]] if isinstance(value, list | tuple) and len(value) == size else value
        for name, value in columns.items()
    }


class _Logged:
    """Stands in for TRL's log callables, so that an attempt that fails leaves nothing logged."""

    def __init__(self) -> None:
        self.extras: dict[str, list[Any]] = {}
        self.metrics: dict[str, list[float]] = {}

    def log_extra(self, column: str, values: list[Any]) -> None:
        self.extras[column] = list(values)

    def log_metric(self, name: str, value: float) -> None:
        self.metrics.setdefault(name, []).append(value)

    def replay(self, kwargs: dict[str, Any]) -> None:
        """Pass everything on to the real callables."""
        for column, values in self.extras.items():
            kwargs["log_extra"](column, values)
        for name, numbers_ in self.metrics.items():
            for number in numbers_:
                kwargs["log_metric"](name, number)


def _merge(rows: list[_Logged | None]) -> _Logged:
    """What the samples logged one by one, as one batch: columns with None for failed samples."""
    merged = _Logged()
    logged = [row for row in rows if row is not None]
    for column in {column for row in logged for column in row.extras}:
        merged.extras[column] = [row.extras.get(column, [None])[0] if row else None for row in rows]
    for name in {name for row in logged for name in row.metrics}:
        values = [value for row in logged for value in row.metrics.get(name, [])]
        merged.metrics[name] = [sum(values) / len(values)]
    return merged
