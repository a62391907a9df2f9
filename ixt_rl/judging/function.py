"""A judge that is a Python function: a verifier, or any rule that can be computed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from ixt_rl.judging.backend import Reply, Request
from ixt_rl.judging.rubric import VERDICT, Rubric
from ixt_rl.types import Verdict


class FunctionBackend:
    """Calls `function(fields)` in this process, one request after the other.

    The function gives a value for the rubric's overall axis: a number, a label, a bool on a rubric by label, a
    `Verdict`, or None for undecided; or a mapping of axes (and `critique` or `reason`) to such values. What it gives is
    read by the same parser as a language model's answer, range checks included. What it raises costs its own question.

    Args:
        function: takes the question's fields by name.
        rubric: its axes; every question must be of this rubric.
        name: which function this is, version included; its module and name if not given.
    """

    constrained = True  # there is nothing to parse around
    capacity = 64

    def __init__(self, function: Callable[[Mapping[str, str]], Any], rubric: Rubric, name: str = ""):
        self.function = function
        self.rubric = rubric
        self._name = name or f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
        self._waiting: list[tuple[int, Request]] = []

    @property
    def name(self) -> str:
        return self._name

    def submit(self, ticket: int, request: Request) -> None:
        self._waiting.append((ticket, request))

    def collect(self) -> list[tuple[int, Reply]]:
        waiting, self._waiting = self._waiting, []
        return [(ticket, self._call(request)) for ticket, request in waiting]

    def drop(self) -> None:
        self._waiting = []

    def close(self) -> None:
        self.drop()

    def _call(self, request: Request) -> Reply:
        started = time.monotonic()
        try:
            found = self.function(request.fields)
            text = json.dumps(self._entries(found))
        except Exception as error:  # any, because the function is the user's
            seconds = time.monotonic() - started
            return Reply("", "failed", seconds=seconds, error=f"{self.name} raised {type(error).__name__}: {error}")
        return Reply(text, "stop", seconds=time.monotonic() - started)

    def _entries(self, found: Any) -> dict[str, Any]:
        if isinstance(found, Mapping):
            return {str(key): self._value(value) for key, value in found.items()}
        entries = {self.rubric.main: self._value(found)}
        if isinstance(found, Verdict):
            entries[self.rubric.comment_key] = found.evidence
        return entries

    def _value(self, value: Any) -> Any:
        """A label for a bool or a `Verdict` where labels are asked; anything else as it is."""
        if isinstance(value, Verdict):
            value = value.score
        labels = self.rubric.axes[VERDICT].labels if self.rubric.by_label else {}
        if isinstance(value, bool | int | float) and labels:
            return next((label for label, score in labels.items() if score == value), value)
        return value
