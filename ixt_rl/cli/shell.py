"""What every command does around its work: errors without tracebacks, exit statuses, plain printing."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from ixt_rl import backends
from ixt_rl.errors import BackendMissing, ConfigError, DataError, EndsWithLeader, IxtRlError
from ixt_rl.files import readable
from ixt_rl.place import place
from ixt_rl.signals import Stopped, stoppable

_GO_ON = ("run", "demo", "annotate", "rewrite", "evaluate")  # commands that can be stopped at any moment

BAD_INPUT = 2
"""Exit status when the configuration, the data or the installation must change; other failures give 1."""


def say(text: str, style: str = "", *, stderr: bool = False) -> None:
    """Prints text as it is (no markup, no wrapping), coloured on a terminal."""
    Console(stderr=stderr, soft_wrap=True, highlight=False).print(Text(text, style=style))


def readable_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Prints the library's own errors, and the system's, without a traceback; turns them and signals into a status."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        follower = 0
        try:
            follower = place().rank
            with stoppable():
                command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            goes_on = "; the same command goes on from here" if command.__name__ in _GO_ON else ""
            if not follower:  # of a run's ranks the first one speaks
                say(f"{stop if isinstance(stop, Stopped) else 'stopped'}{goes_on}", "yellow", stderr=True)
            sys.exit(stop.status if isinstance(stop, Stopped) else 130)
        except (IxtRlError, OSError) as error:
            if os.environ.get("IXT_RL_TRACEBACK") == "1" or isinstance(error, BrokenPipeError):
                raise
            known = error if isinstance(error, IxtRlError) else readable(error)
            if isinstance(known, EndsWithLeader):
                sys.exit(1)
            say((f"rank {follower}: " if follower else "") + f"{type(known).__name__}: {known}", "red", stderr=True)
            sys.exit(BAD_INPUT if isinstance(known, ConfigError | DataError | BackendMissing) else 1)

    return wrapped


def require_core() -> None:
    for backend in backends.BACKENDS.values():
        if backend.core:
            backends.require(backend.name, used_for="this command")
