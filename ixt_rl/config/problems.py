"""What is wrong with a configuration: one `Problem` each, all of them in one `InvalidConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ixt_rl.errors import ConfigError

_SHOWN = 100  # characters of a value that an error shows


@dataclass(frozen=True)
class Problem:
    """One refused value.

    Args:
        path: dotted key path as an override would write it (stages by name), "" for the whole file.
        value: what was found there, ready to print.
        reason: why it cannot work.
        remedy: what to do instead.
        where: file line or override it came from, "" if unknown.
    """

    path: str
    value: str
    reason: str
    remedy: str
    where: str = ""

    def __str__(self) -> str:
        head = self.path or "the whole file"
        place = f" ({self.where})" if self.where else ""
        return f"  {head}{place}: {self.value}\n      reason: {self.reason}\n      remedy: {self.remedy}"


class InvalidConfig(ConfigError):
    """A configuration with one or more problems; `problems` lists them all."""

    def __init__(self, source: str, problems: list[Problem]):
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *map(str, problems)]))


def show(value: Any) -> str:
    """A value on one line, as YAML would show it, cut to a readable length."""
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: ..." for key in value) + "}"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + " ..."


def closest(word: Any, known: list[str]) -> list[str]:
    """The known words that look like `word`, at most two, the best first; case does not count."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in get_close_matches(str(word).lower(), lower, n=2, cutoff=0.6)]


def did_you_mean(word: Any, known: list[str]) -> str:
    """ "did you mean `x`? " for the known words closest to `word`, or ""."""
    close = closest(word, known)
    return f"did you mean {' or '.join(f'`{name}`' for name in close)}? " if close else ""
