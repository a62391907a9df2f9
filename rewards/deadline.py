"""A call that is stopped waiting for: a reward that sleeps, loops or waits for a server costs a sample, not the run."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")

_SIGNAL = getattr(signal, "SIGURG", None)  # ignored by default, and meant for nothing that Python does
_AGAIN = 1.0  # seconds, at most, to the next try where what was called caught the first


class _Over(BaseException):
    """The deadline, in the midst of a call; no `Exception`, because functions catch those."""


def call_within(seconds: float, function: Callable[..., Value], /, **arguments: Any) -> Value:
    """What `function` returns, or raises, unless it takes longer.

    In the main thread the call is interrupted, as by Ctrl-C: it ends, and its `finally` blocks run. (Code outside of
    Python that neither returns nor heeds signals cannot be.) In another thread the function runs in one of its own,
    which is left behind.

    Raises:
        TimeoutError: it took longer than `seconds`.
    """
    if _SIGNAL is not None and threading.current_thread() is threading.main_thread():
        return _interrupted(seconds, function, arguments)
    return _left_behind(seconds, function, arguments)


def _interrupted(seconds: float, function: Callable[..., Value], arguments: dict[str, Any]) -> Value:
    assert _SIGNAL is not None
    running, done, main = threading.Event(), threading.Event(), threading.get_ident()

    def interrupt(number: int, frame: object) -> None:
        if running.is_set():
            raise _Over

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            signal.pthread_kill(main, _SIGNAL)
            wait = min(seconds, _AGAIN)

    before = signal.signal(_SIGNAL, interrupt)
    watcher = threading.Thread(target=watch, name="reward-deadline", daemon=True)
    try:
        running.set()
        watcher.start()
        try:
            return function(**arguments)
        finally:
            running.clear()
    except _Over:
        raise _too_late(seconds) from None
    finally:
        running.clear()
        done.set()
        watcher.join()
        signal.signal(_SIGNAL, before if before is not None else signal.SIG_DFL)


def _left_behind(seconds: float, function: Callable[..., Value], arguments: dict[str, Any]) -> Value:
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, function(**arguments)))
        except BaseException as error:  # raised again where it was called
            outcome.put((False, error))

    threading.Thread(target=run, name="reward", daemon=True).start()
    try:
        returned, value = outcome.get(timeout=seconds)
    except queue.Empty:
        raise _too_late(seconds) from None
    if not returned:
        raise value
    return value


def _too_late(seconds: float) -> TimeoutError:
    return TimeoutError(f"no answer within its deadline of {seconds:.3g} s")
