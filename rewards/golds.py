"""Gold answers, typed and checked when the data loads: a row that cannot be judged is refused there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.rewards.answers import (
    Based,
    Choice,
    Clock,
    Interval,
    Matrix,
    Quantity,
    Relation,
    Sequence,
    Union,
    Value,
    Words,
    parse_answer,
)
from ixt_rl.rewards.expression import symbols
from ixt_rl.rewards.extract import Extraction, final_answer
from ixt_rl.rewards.outcome import TooLarge, Unreadable

_NOT_ANSWERS = {"nan", "null", "undefined answer", "n a"}


@dataclass(frozen=True)
class Gold:
    """A gold answer.

    Args:
        text: the answer alone, as the data has it.
        kind: number, expression, equation, inequality, tuple, ratio, interval, set, list, matrix, choice,
            clock, based (digits in a base) or text.
        value: the answer as read.
    """

    text: str
    kind: str
    value: Value


def kind_of(value: Value) -> str:
    """The name of a value's type, as it is shown in reports."""
    if isinstance(value, Quantity):
        return "expression" if symbols(value.expr) else "number"
    if isinstance(value, Relation):
        return "equation" if set(value.operators) == {"="} else "inequality"
    if isinstance(value, Sequence):
        return {"paren": "tuple", "bracket": "interval", "set": "set", "list": "list", "ratio": "ratio"}[value.style]
    names: dict[type, str] = {
        Interval: "interval", Union: "set", Matrix: "matrix", Choice: "choice", Clock: "clock", Based: "based",
        Words: "text",
    }  # fmt: skip
    return names[type(value)]


def parse_gold(answer: Any, *, row: int | str | None = None) -> Gold:
    """Read a gold answer.

    Args:
        answer: the answer alone, or a worked solution whose answer follows `####` or stands in the last
            `\\boxed{}`; numbers are taken as they are.
        row: the row's number or id, for the error.

    Raises:
        DataError: empty, not finite, too large, or not readable as any kind of answer.
    """
    where = "" if row is None else f"row {row}: "
    if isinstance(answer, Gold):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise DataError(
            f"{where}gold answer {answer!r} is a {type(answer).__name__}",
            reason="a gold answer is a text or a number",
            remedy="map the `answer` field to the column with the final answer",
        )
    if not isinstance(answer, str) and not isfinite(answer):
        raise _refusal(where, repr(answer), "it is not finite")
    try:
        return _parse_text(_answer_part(str(answer)))
    except (Unreadable, TooLarge) as error:
        raise _refusal(where, _shown(str(answer)), str(error)) from error


def check_golds(rows: Iterable[Any], *, field: str = "answer") -> list[Gold]:
    """Read all gold answers of a dataset.

    Args:
        rows: mappings with the gold answer under `field`, or the gold answers themselves.

    Raises:
        DataError: naming every unreadable row (at most the first ten in the text).
    """
    golds, errors = [], []
    for number, row in enumerate(rows):
        if isinstance(row, dict) and field not in row:
            raise DataError(
                f"row {number} has no field {field!r}",
                reason=f"its fields are {', '.join(map(repr, row))}",
                remedy="name the column with the final answer",
            )
        try:
            golds.append(parse_gold(row[field] if isinstance(row, dict) else row, row=number))
        except DataError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        shown = "\n".join(f"    {error.what}: {error.reason}" for error in errors[:10])
        raise DataError(
            f"{len(errors)} of {len(golds) + len(errors)} gold answers cannot be read",
            reason=f"the first ones:\n{shown}",
            remedy=_REMEDY,
        )
    return golds


_REMEDY = "correct or drop the row, or give the final answer alone (a number, LaTeX, a choice letter, a text)"


def _refusal(where: str, shown: str, reason: str) -> DataError:
    return DataError(f"{where}gold answer {shown} cannot be read", reason=reason, remedy=_REMEDY)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _answer_part(text: str) -> str:
    if "####" not in text and "\\boxed" not in text:
        return text
    how: Extraction = "hashes" if "####" in text else "last_box"
    found = final_answer(text, how)
    if found is None:
        raise Unreadable(f"no complete final answer ({how})")
    return found


@lru_cache(maxsize=100_000)
def _parse_text(text: str) -> Gold:
    value = parse_answer(text)
    if isinstance(value, Words) and (not value.text or value.text in _NOT_ANSWERS):
        raise Unreadable("it is no answer")
    return Gold(text.strip(), kind_of(value), value)
