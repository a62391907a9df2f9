"""The choices of a multiple-choice question, however a row holds them, and which of them is the gold one.

["4", "5"]   ["A)4", "B)5"]   {"A": "4", "B": "5"}   {"label": ["A", "B"], "text": ["4", "5"]}   "A) 4 B) 5"   columns
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ixt_rl.data.fields import MISSING, as_text, find, is_missing, plain
from ixt_rl.errors import DataError
from ixt_rl.suites import Suite
from ixt_rl.suites.suite import Form

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKED = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:]\s*(.*)", re.DOTALL)
_MARKS = re.compile(r"(?:^|(?<=\s))\(?([A-Z])\) ")


@dataclass(frozen=True)
class Choices:
    """Labels and texts of a question's choices, and all of them as a prompt shows them: `(A) 4 (B) 5`."""

    texts: Mapping[str, str]
    lettered: str


def choices_of(row: Mapping[str, Any], suite: Suite, place: str) -> Choices | None:
    """The choices of a row by the first of the suite's alternatives that it has; None where it has none.

    An alternative is a field with all choices, or a list of fields with one each, of which the last ones may be empty.

    Args:
        place: file and row, for errors.

    Raises:
        DataError: a field is there and holds no choices that can be told apart.
    """
    if suite.kind != "choice":
        return None
    for one in suite.choices:
        if isinstance(one, list):
            values = [find(row, name) for name in one]
            while values and is_missing(values[-1]):
                values.pop()
            if len(values) < 2 or any(map(is_missing, values)):
                continue
            texts = [as_text(value, place).strip() for value in values]
            if suite.shuffle:
                drawn = random.Random("\n".join(texts))
                drawn.shuffle(texts)
            return _labelled(dict(zip(LETTERS, texts, strict=False)))
        value = find(row, one)
        if not is_missing(value):
            return _read(value, f"{place}: {one}")
    return None


def _read(value: Any, place: str) -> Choices:
    value = _written_out(value) if isinstance(value, str) else value
    if isinstance(value, str):
        return _in_one_text(value, place)
    if isinstance(value, Mapping):
        if {"label", "text"} <= set(value):
            labels, texts = value["label"], value["text"]
        else:
            labels, texts = [*value], [*value.values()]
        if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts) or len(labels) < 2:
            raise _refused(place, value, "its labels and texts do not go together")
        pairs = [(as_text(label, place).strip(), text) for label, text in zip(labels, texts, strict=True)]
        found = {label: as_text(text, place) for label, text in pairs if not is_missing(text)}
        if len(found) < 2:
            raise _refused(place, value, "it has fewer than two choices")
        return _labelled(found)
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise _refused(place, value, "it is no list of two or more choices")
    texts = [as_text(item, place) for item in value]
    marked = [_MARKED.fullmatch(text) for text in texts]
    if all(match and match[1].upper() == letter for match, letter in zip(marked, LETTERS, strict=False)):
        texts = [match[2] for match in marked if match]
    return _labelled(dict(zip(LETTERS, texts, strict=False)))


def _written_out(text: str) -> Any:
    """The list or object that a text is, as tables write one into a column; else the text."""
    if not text.strip().startswith(("[", "{")):
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _labelled(texts: Mapping[str, str]) -> Choices:
    stripped = {label: text.strip() for label, text in texts.items()}
    return Choices(stripped, " ".join(f"({label}) {text}" for label, text in stripped.items()))


def _in_one_text(value: str, place: str) -> Choices:
    """`A) 4 B) 5`; the text is shown as it stands, with both brackets."""
    text = value.strip()
    marks = [match for match, letter in zip(_MARKS.finditer(text), LETTERS, strict=False) if match[1] == letter]
    if len(marks) < 2 or marks[0].start() != 0:
        raise _refused(place, value, "it is no text like `A) 4 B) 5`")
    ends = [match.start() for match in marks[1:]] + [len(text)]
    texts = {match[1]: text[match.end() : end].strip() for match, end in zip(marks, ends, strict=True)}
    return Choices(texts, _MARKS.sub(r"(\1) ", text))


def _refused(place: str, value: Any, reason: str) -> DataError:
    return DataError(
        f"{place}={str(plain(value))[:80]}",
        reason=f"these are no choices: {reason}",
        remedy="give a list, an object of labels and texts, or map `choices` to the columns that hold one each",
    )


def gold_label(value: Any, form: Form, choices: Choices) -> str:
    """The label of the gold choice.

    Args:
        value: a letter, an index or the text of a choice; `form` says which, `auto` what it can be.

    Raises:
        DataError: it names no choice, or may name two; the reason says so.
    """
    labels = [*choices.texts]
    text = as_text(value, "gold").strip() if value is not MISSING else ""
    found: dict[str, str] = {}
    letter = re.fullmatch(r"[(\[]?([A-Za-z0-9])[)\].:]?", text)
    if form in ("auto", "letter", "plain", "first") and letter:
        named = next((label for label in labels if label.upper() == letter[1].upper()), "")
        found |= {named: "letter"} if named else {}
    if form in ("index", "index-from-1") or (form == "auto" and not found):
        number = re.fullmatch(r"\d{1,2}(?:\.0)?", text)
        at = int(text.partition(".")[0]) - (form == "index-from-1") if number else -1
        if 0 <= at < len(labels):
            found[labels[at]] = "index"
    if form in ("auto", "text") and not isinstance(value, int):
        same = [label for label, one in choices.texts.items() if one == text]
        found |= {same[0]: "text"} if len(same) == 1 else {}
    if len(found) != 1:
        reason = (
            f"it may be {' or '.join(f'{label} (by {how})' for label, how in found.items())}"
            if found
            else f"it is none of {', '.join(labels)}, and no text of them"
        )
        raise DataError(f"gold {text[:80]!r}", reason=reason, remedy="give `gold` its form: letter, index, text")
    return next(iter(found))
