"""A question from the fields of a row: text with {field}, and [[parts]] that are left out where a field is empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from ixt_rl.data.fields import as_messages, as_text, find, is_missing, plain
from ixt_rl.errors import DataError
from ixt_rl.evaluation.suites.choices import Choices
from ixt_rl.suites.suite import fields_of

_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


def question_of(row: Mapping[str, Any], alternatives: Sequence[str], choices: Choices | None, place: str) -> str | None:
    """The question by the first of the alternatives whose fields the row has; None where it has none.

    Raises:
        DataError: a field that is shown is an object.
    """
    for text in alternatives:
        shown = {"lettered": choices.lettered} if choices else {}
        needed = set(fields_of(_OPTIONAL.sub("", text)))
        if all(name in shown or not is_missing(find(row, name)) for name in needed):
            return _filled(text, _Row(row, shown, place))
    return None


class _Row(Mapping[str, Any]):
    """Fields by dotted names, as text."""

    def __init__(self, row: Mapping[str, Any], shown: Mapping[str, str], place: str):
        self.row, self.shown, self.place = row, shown, place

    def __getitem__(self, name: str) -> str:
        if name in self.shown:
            return self.shown[name]
        value = find(self.row, name)
        if isinstance(value, list) and value and isinstance(value[-1], Mapping):
            return as_messages(value, f"{self.place}: {name}")[-1]["content"]  # what the user asks
        if isinstance(value, list):
            return str(plain(value))  # as the field's harnesses print a list of choices
        return as_text(value, f"{self.place}: {name}")

    def __iter__(self):
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


class _Fields(Formatter):
    """`str.format` to which `{a.b}` is the field of that name; `:strip` and `:sentence` are formats of text."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "strip":
            return value.strip()
        if format_spec == "sentence":
            return value.strip() if value.strip().endswith(".") else value.strip() + "."
        if format_spec:
            raise DataError(
                f"{{...:{format_spec}}} in `question`",
                reason="no such format",
                remedy="write :strip, :sentence or none",
            )
        return value


def _filled(text: str, row: _Row) -> str:
    def part(match: re.Match[str]) -> str:
        names = fields_of(match[1])
        there = all(name in row.shown or not is_missing(find(row.row, name)) for name in names)
        return match[1] if there else ""

    return _Fields().vformat(_OPTIONAL.sub(part, text), (), row)
