"""Errors a user can act on: each names the value, the reason it was refused, and the remedy."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ixt_rl.redaction import redacted


class IxtRlError(Exception):
    """Base of every error this library raises on purpose; keys and passwords are taken out of its words.

    Args:
        what: what was wrong, with the offending value in it.
        reason: why that cannot work.
        remedy: what to do instead.
    """

    def __init__(self, what: str, *, reason: str = "", remedy: str = ""):
        what, reason, remedy = redacted(what), redacted(reason), redacted(remedy)
        self.what, self.reason, self.remedy = what, reason, remedy
        lines = [what]
        if reason:
            lines.append(f"  reason: {reason}")
        if remedy:
            lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))


class ConfigError(IxtRlError, ValueError):
    """A configuration that cannot run; raised before anything loads."""


class SelfCheckError(ConfigError):
    """Numbers that must be equal are not, on this model; raised before the first update."""


class DataError(IxtRlError, ValueError):
    """A dataset row or file that cannot be used; raised while the data loads, before any model does."""


class FileError(IxtRlError, OSError):
    """A file or folder that cannot be read or written: a full disk, a read-only or a wrong place."""


class BackendMissing(IxtRlError, ImportError):
    """An optional package is not installed; the remedy is the command that installs it."""


class BackendFailed(IxtRlError, RuntimeError):
    """A package outside this process failed more often than its fault budget allows, or did not start."""


class WeightsLost(BackendFailed):
    """No rollout engine holds the policy's weights any more; they can be sent again."""


class RankFailed(IxtRlError, RuntimeError):
    """A rank ended, or did not come where the others waited for it, so that the run cannot go on."""


class EndsWithLeader(RankFailed):
    """Rank 0 met an error, which it reports: the rank that raises this has nothing to add."""


class RewardError(IxtRlError, RuntimeError):
    """Rewards failed more often than their error budget allows."""


class PreconditionError(IxtRlError, RuntimeError):
    """A measured precondition of a run does not hold, so running on would be misleading."""


class WeightMismatch(IxtRlError, RuntimeError):
    """The weights that arrived at a rollout engine are not those that the trainer sent."""


class ParityError(IxtRlError, RuntimeError):
    """A rollout engine's log-probs are too far from the trainer's."""


_SHOWN = 100  # characters of a value that an error shows


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
