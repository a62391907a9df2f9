"""A judge that is a Python function: a verifier, or any rule that can be computed."""

from __future__ import annotations

import json
import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from ixt_rl.judging.backend import Reply, Request
from ixt_rl.judging.rubric import Axis, Rubric
from ixt_rl.redaction import redacted
from ixt_rl.types import Verdict
from ixt_rl.under_way import NOTHING, UnderWay, WatchUnderWay


class FunctionBackend:
    """Calls `function(fields)` in this process, one request after the other.

    The function gives a value for the rubric's overall axis: a number, a label, a bool on a rubric by label, a
    `Verdict`, or None for undecided; or a mapping, a dataclass or a pydantic model of axes (and `critique` or `reason`)
    with such values. Numbers and bools may be numpy's or torch's, arrays and tensors of one element included, or
    `Decimal` and `Fraction`; NaN and infinity are undecided. What it gives is read by the same parser as a language
    model's answer, range checks included. What it raises costs its own question.

    Args:
        function: takes the question's fields by name.
        name: which function this is, version included; its module and name if not given.
    """

    constrained = True  # there is nothing to parse around
    watch: WatchUnderWay | None = None
    converses = False
    capacity = 64

    def __init__(self, function: Callable[[Mapping[str, str]], Any], name: str = ""):
        self.function = function
        self._name = name or f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
        self._waiting: list[tuple[int, Request]] = []

    @property
    def name(self) -> str:
        return self._name

    def submit(self, ticket: int, request: Request) -> None:
        self._waiting.append((ticket, request))

    def collect(self) -> list[tuple[int, Reply]]:
        waiting, self._waiting = self._waiting, []
        replies: list[tuple[int, Reply]] = []
        for ticket, request in waiting:
            if self.watch is not None:
                self.watch(UnderWay(1, len(waiting) - len(replies) - 1, len(replies), tokens=None))
            replies.append((ticket, self._call(request)))
        if self.watch is not None:
            self.watch(NOTHING)
        return replies

    def drop(self) -> None:
        self._waiting = []

    def close(self) -> None:
        self.drop()

    def _call(self, request: Request) -> Reply:
        started = time.monotonic()
        try:
            found = self.function(request.fields)
            text = json.dumps(_entries(found, request.rubric), default=_json)
        except Exception as error:  # any, because the function is the user's
            seconds = time.monotonic() - started
            said = redacted(f"{self.name} raised {type(error).__name__}: {error}")
            return Reply("", "failed", seconds=seconds, error=said)
        return Reply(text, "stop", seconds=time.monotonic() - started)


def _entries(found: Any, rubric: Rubric) -> dict[str, Any]:
    if not isinstance(found, Verdict):
        if is_dataclass(found) and not isinstance(found, type):
            found = {entry.name: getattr(found, entry.name) for entry in fields(found)}
        elif isinstance(found, BaseModel):
            found = found.model_dump()
    if isinstance(found, Mapping):
        return {str(name): _value(value, rubric.axes.get(str(name))) for name, value in found.items()}
    entries = {rubric.main: _value(found, rubric.axes[rubric.main])}
    if isinstance(found, Verdict):
        entries[rubric.comment_key] = found.evidence
    return entries


def _value(value: Any, axis: Axis | None) -> Any:
    """As the axis has it: a label for a score or a bool, a number on its range for a `Verdict`'s score."""
    if isinstance(value, Verdict):
        value = plain(value.score)
        if axis and value is not None and not axis.labels:
            return axis.low + value * (axis.high - axis.low)
    value = plain(value)
    if axis and axis.labels and isinstance(value, bool | int | float):
        return next((label for label, score in axis.labels.items() if score == value), value)
    return value


def _json(value: Any) -> Any:
    """What stands deeper in an answer, or beside its axes."""
    number = plain(value)
    if number is not value:
        return number
    return value.tolist() if callable(getattr(value, "tolist", None)) else str(value)


def plain(value: Any) -> Any:
    """A number, in whatever library's type, as a bool, an int or a float; anything else as it is."""
    shape = getattr(value, "shape", None)
    if shape is not None and math.prod(shape) == 1 and callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | Decimal):
        try:
            return float(value)
        except OverflowError:  # a fraction beyond all floats
            return math.inf
        except ValueError:  # a signalling NaN
            return math.nan
    return value
