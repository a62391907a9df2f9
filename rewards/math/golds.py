"""Gold answers, typed and checked when the data loads: a row that cannot be judged is refused there, or dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from numbers import Rational, Real
from typing import Any, Literal

from ixt_rl.errors import DataError
from ixt_rl.rewards.math.extract import Extraction, final_answer
from ixt_rl.rewards.math.outcome import TooLarge, TwoReadings, Unreadable
from ixt_rl.rewards.math.read import parse_answer
from ixt_rl.rewards.math.spelling import canonical, clean
from ixt_rl.rewards.math.values import Labelled, Quantity, Value, Words, kind_of
from ixt_rl.rewards.math.values import Sequence as Several

OnBadGold = Literal["refuse", "drop"]
_NOT_ANSWERS = {"nan", "null", "undefined answer", "n a", "none none", "nil", "unknown answer"}
_TWO_NUMBERS = re.compile(r"[1-9]\d{2}(?:,[1-9]\d{2})+")
"""`120,144` is as well a number as two of them; `1,234` and `70,000` are taken for numbers."""


@dataclass(frozen=True)
class Gold:
    """A gold answer.

    Args:
        text: the answer alone, as the data has it.
        kind: number, expression, equation, inequality, tuple, ratio, interval, set, list, matrix, system, congruence,
            choice, clock, based (digits in a base), text, mixed (text with formulas) or formula (compared by spelling).
        value: the answer as read.
        readings: all that it can mean; an answer is right or wrong where it is so under each of them.
        spelling: the canonical text: an answer spelled like it is right.
        nouns: what its unit counts, in the singular.
        alternatives: several accepted answers, of which this is the first; empty for one.
    """

    text: str
    kind: str
    value: Value
    readings: tuple[Value, ...] = ()
    spelling: str = ""
    nouns: frozenset[str] = frozenset()
    alternatives: tuple[Gold, ...] = ()

    @property
    def texts(self) -> str | list[str]:
        """The text, or those of the alternatives: `parse_gold` makes the same gold of it."""
        return [gold.text for gold in self.alternatives] if self.alternatives else self.text


@dataclass(frozen=True)
class GoldReport:
    """What became of a dataset's gold answers.

    Args:
        kinds: how many golds there are of each kind, by its name.
        dropped: (row, value, reason) of those that cannot be judged.
    """

    kinds: dict[str, int]
    dropped: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        """Counts for a report: kinds, and the dropped by reason."""
        return {
            "kinds": self.kinds,
            "dropped": len(self.dropped),
            "reasons": dict(Counter(r for *_, r in self.dropped)),
        }


def parse_gold(answer: Any, *, row: int | str | None = None) -> Gold:
    """Read a gold answer.

    Args:
        answer: the answer alone, or a worked solution whose answer follows `####` or stands in the last
            `\\boxed{}`; numbers are taken as they are; a list or tuple of such answers, each of which is accepted.
        row: the row's number or id, for the error.

    Raises:
        DataError: empty, not finite, too large, or not readable as any kind of answer.
    """
    where = "" if row is None else f"row {row}: "
    if isinstance(answer, Gold):
        return answer
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return _one_of(answer, row)
    if isinstance(answer, bool) or not isinstance(answer, str | Real):
        raise DataError(
            f"{where}gold answer {answer!r} is a {type(answer).__name__}",
            reason="a gold answer is a text or a number, or a list of those that are accepted",
            remedy="map the `answer` field to the column with the final answer",
        )
    if not isinstance(answer, str) and not isfinite(answer):
        raise _refusal(where, repr(answer), "it is not finite")
    try:
        return _parse_text(_answer_part(answer) if isinstance(answer, str) else _number_text(answer))
    except (Unreadable, TooLarge) as error:
        raise _refusal(where, _shown(str(answer)), str(error)) from error


def _one_of(answers: Sequence[Any], row: int | str | None) -> Gold:
    if not answers:
        raise _refusal("" if row is None else f"row {row}: ", "[]", "no answer is accepted")
    golds = tuple(
        form for answer in answers for gold in [parse_gold(answer, row=row)] for form in gold.alternatives or (gold,)
    )
    first = golds[0]
    if len(golds) == 1:
        return first
    return Gold(first.text, first.kind, first.value, first.readings, first.spelling, first.nouns, golds)


def _number_text(value: Real) -> str:
    """A number as digits: no exponent, and a fraction as one."""
    if isinstance(value, Rational):
        return str(Fraction(value))
    exact = Fraction(str(float(value)))
    return str(exact.numerator) if exact.denominator == 1 else str(float(value))


def typed_golds(rows: Iterable[Any], *, field: str = "answer") -> tuple[list[int], list[Gold], GoldReport]:
    """Read the gold answers of a dataset, leaving out those that cannot be judged.

    Args:
        rows: mappings with the gold answer under `field`, or the gold answers themselves.

    Returns:
        (numbers of the rows that stay, their golds, the report).

    Raises:
        DataError: a row without the field.
    """
    kept: list[int] = []
    golds: list[Gold] = []
    dropped: list[tuple[int, str, str]] = []
    for number, answer in enumerate(_answers(rows, field)):
        try:
            golds.append(parse_gold(answer, row=number))
            kept.append(number)
        except DataError as error:
            dropped.append((number, _shown(str(answer)), error.reason))
    return kept, golds, GoldReport(dict(Counter(gold.kind for gold in golds).most_common()), dropped)


def check_golds(rows: Iterable[Any], *, field: str = "answer") -> list[Gold]:
    """Read all gold answers of a dataset.

    Args:
        rows: mappings with the gold answer under `field`, or the gold answers themselves.

    Raises:
        DataError: naming every unreadable row (at most the first ten in the text).
    """
    golds, errors = [], []
    for number, answer in enumerate(_answers(rows, field)):
        try:
            golds.append(parse_gold(answer, row=number))
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


def _answers(rows: Iterable[Any], field: str) -> Iterable[Any]:
    for number, row in enumerate(rows):
        if isinstance(row, dict) and field not in row:
            raise DataError(
                f"row {number} has no field {field!r}",
                reason=f"its fields are {', '.join(map(repr, row))}",
                remedy="name the column with the final answer",
            )
        yield row[field] if isinstance(row, dict) else row


_REMEDY = (
    "correct the row, leave such rows out with on_bad_gold: drop, or give the final answer alone (a number, LaTeX, a "
    "choice letter, a text)"
)


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


@lru_cache(maxsize=20_000)
def _parse_text(text: str) -> Gold:
    try:
        readings: tuple[Value, ...] = (parse_answer(text, gold=True),)
    except TwoReadings:
        readings = tuple(parse_answer(text, gold=True, slash=slash) for slash in ("left", "right"))
    value = readings[0]
    if isinstance(value, Words) and (not value.text or value.text in _NOT_ANSWERS):
        raise Unreadable("it is no answer")
    if _TWO_NUMBERS.fullmatch(clean(text)):
        readings = (value, parse_answer(clean(text).replace(",", ", "), gold=True))
    return Gold(text.strip(), kind_of(value), value, readings, canonical(text), _nouns(value))


def _nouns(value: Value) -> frozenset[str]:
    """What the units of a gold count."""
    if isinstance(value, Quantity):
        return frozenset(name[1:] for name, _ in value.unit.powers if name.startswith("#"))
    if isinstance(value, Several):
        return frozenset().union(*map(_nouns, value.items))
    return _nouns(value.value) if isinstance(value, Labelled) else frozenset()
