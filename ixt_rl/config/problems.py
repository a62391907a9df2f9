"""What is wrong with a configuration: one `Problem` each, all of them in one `InvalidConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ixt_rl.errors import ConfigError
from ixt_rl.yaml_io import Path

Refused = tuple[Path, ConfigError]
"""The path of a key, and what another block of the file has against its value."""

_SHOWN = 30  # problems that an error's text has


def keys_of(dotted: str) -> Path:
    """`data.sources.0` as the keys and places that it is made of."""
    return tuple(int(part) if part.isdigit() else part for part in dotted.split("."))


@dataclass(frozen=True)
class ConfigProblem:
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


class BlocksAtOdds(ConfigError):
    """What blocks of one file refuse of each other: all of it, each with the path of its key in `refused`."""

    def __init__(self, refused: Sequence[Refused]):
        self.refused = list(refused)
        super().__init__("\n".join(str(error) for _, error in self.refused))


class InvalidConfig(ConfigError):
    """A configuration with one or more problems; `problems` lists them all, the text as many as one reads."""

    def __init__(self, source: str, problems: list[ConfigProblem]):
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        super().__init__("\n".join([f"{source}: {count}", *map(str, problems[:_SHOWN]), *more]))
