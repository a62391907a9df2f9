"""What a run file may set of a program's flags, and what is said of the others. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ixt_rl.errors import ConfigError, did_you_mean, show

Flag = bool | int | float | str


@dataclass(frozen=True)
class Takes:
    """Values of a flag.

    Args:
        kind: of a value; a whole number is a float, too.
        says: which values, in words.
        fits: whether a value of that kind is one.
    """

    kind: type
    says: str
    fits: Callable[[Any], bool] = lambda value: True

    @classmethod
    def one_of(cls, *words: str) -> Takes:
        """One of some words."""
        return cls(str, f"one of: {', '.join(words)}", words.__contains__)

    def takes(self, value: Flag) -> bool:
        """Whether a flag may have a value."""
        right = type(value) is self.kind or (self.kind is float and type(value) is int)
        return right and self.fits(value)


SWITCH = Takes(bool, "true or false")
AT_LEAST_ONE = Takes(int, "a whole number from 1 on", lambda value: value >= 1)
ABOVE_ZERO = Takes(float, "a number above 0", lambda value: 0 < value < float("inf"))
SHARE = Takes(float, "a number above 0, and at most 1", lambda value: 0 < value <= 1)
EXPERTS = Takes.one_of("eager", "batched_mm", "grouped_mm", "deepgemm")
GRADIENTS = Takes.one_of("fp32", "bf16")

CHECKPOINTS = "the run folder keeps and rotates checkpoints"
TRACKERS = "report_to names trackers"


@dataclass(frozen=True)
class FlagTable:
    """Every flag of a program of OpenRLHF 0.11.2, which tests/openrlhf compares with its parser.

    Args:
        program: its module in `openrlhf.cli`.
        set: flag -> the key of a run file that sets it.
        free: flags of memory, speed and devices, which `openrlhf.flags` may have -> what they take.
        refused: flag -> why a run file may not set it.
    """

    program: str
    set: Mapping[str, str]
    free: Mapping[str, Takes]
    refused: Mapping[str, str]

    def check(self, flags: dict[str, Flag]) -> dict[str, Flag]:
        """`flags`, as they are.

        Raises:
            ConfigError: one is not free, or has a value that the program would not take.
        """
        for name, given in flags.items():
            what = f"flags: {name}={show(given)}"
            if name in self.set:
                raise ConfigError(what, reason=f"{self.set[name]} sets it", remedy="leave it out of flags")
            if name in self.refused:
                raise ConfigError(what, reason=self.refused[name], remedy="leave it out")
            if name not in self.free:
                raise ConfigError(
                    what,
                    reason=f"{self.program} of OpenRLHF 0.11 has no such flag that may be set here",
                    remedy=did_you_mean(name, list(self.free)) + f"set some of: {', '.join(self.free)}",
                )
            if not self.free[name].takes(given):
                raise ConfigError(
                    what,
                    reason=f"{self.program} would not take that value",
                    remedy=f"write {self.free[name].says}",
                )
        return flags
