"""A judge's answer -> a value for every axis of the rubric, or the reason why there is none. Never raises.

What is forgiven: thinking, code fences, prose around the verdict, the liberties of `loose_json`, 4/5 and 80 %.
What is not: a value out of range, two readings of one verdict, and anything unfinished. Undecided is None, never 0.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ixt_rl.judging.loose_json import complete_objects, find_objects
from ixt_rl.judging.rubric import VERDICT, Axis, Rubric, well_formed

MAX_CHARACTERS = 50_000
"""Longest answer, thinking aside, that is still searched for a verdict."""

_TAG = r"(?:</?(?:think|thinking|thought|reasoning)>|\[/?THINK\])"
_THINKING = re.compile(rf"(?<![\"'`“‘«„「]){_TAG}|{_TAG}(?![\"'`”’»」])", re.IGNORECASE)  # not in quotes of its own
_VERDICT_LINE = re.compile(r"[\s>*_#`~-]{0,20}(?:final )?verdict[\s*_`]{0,10}[:：=]", re.IGNORECASE)
_MARKUP = " \t\r\"'“”‘’*_`~<>[](){}.!。"
_SCORE = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,9})?)\s{0,3}(?:(?:/|out of)\s{0,3}(\d{1,9}(?:\.\d{1,9})?)|(%))?")
_VALUE_KEYS = ("score", "value", "rating")


@dataclass(frozen=True)
class Reading:
    """What one answer says.

    Args:
        values: axis -> its number, on the rubric's own scale (a label's score from 0 to 1); None is undecided.
        reasons: axis -> why it is undecided, as `kind: detail`; the kinds are few and can be counted.
        label: the verdict's label; "" without one.
        comment: the judge's words, as far as they stand in the answer's JSON.
    """

    values: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    comment: str = ""

    @property
    def undecided(self) -> int:
        return len(self.reasons)


def undecided(rubric: Rubric, reason: str) -> Reading:
    """A reading without a single value."""
    return Reading(dict.fromkeys(rubric.axes), dict.fromkeys(rubric.axes, reason))


def strip_thinking(text: str) -> str:
    """What stands outside of `<think>...</think>` and its like.

    Tags may nest. A closing tag without an opening one closes what the prompt had opened: all before it goes. After an
    opening tag without a closing one all goes. What only speaks of a tag is no tag: in a string of a JSON object, or
    in quotes of its own.
    """
    if not _THINKING.search(text):
        return text.strip()
    return outside(text, tags(text, _quoted(text)))


def _quoted(text: str) -> list[tuple[int, int]]:
    """(start, end) of the JSON objects that speak of a tag in one of their strings, as far as they can be read."""
    return [(start, end) for start, end in complete_objects(text) if _THINKING.search(text, start, end)]


def tags(text: str, quoted: Sequence[tuple[int, int]] = ()) -> Iterator[re.Match[str]]:
    """The tags of thinking in a text, in order.

    Args:
        text: any.
        quoted: (start, end), in order, in which there are none.
    """
    found = _THINKING.finditer(text)
    if not quoted:
        return found
    starts = [start for start, _ in quoted]

    def is_quoted(tag: re.Match[str]) -> bool:
        before = bisect(starts, tag.start()) - 1
        return before >= 0 and tag.start() < quoted[before][1]

    return (tag for tag in found if not is_quoted(tag))


def closes(tag: re.Match[str]) -> bool:
    """Whether a tag of thinking is a closing one."""
    return tag[0][1] == "/"


def outside(text: str, found: Iterable[re.Match[str]]) -> str:
    """What of a text stands outside of thinking, by its tags."""
    kept: list[str] = []
    depth, position = 0, 0
    for tag in found:
        if depth == 0:
            kept.append(text[position : tag.start()])
        if closes(tag):
            if depth == 0:
                kept.clear()
            depth = max(depth - 1, 0)
        else:
            depth += 1
        position = tag.end()
    if depth == 0:
        kept.append(text[position:])
    return "".join(kept).strip()


def parse_answer(text: str, rubric: Rubric) -> Reading:
    """Reads an answer; the last verdict in it counts.

    Args:
        text: the answer as it came, of any length.
        rubric: what was asked.

    Returns:
        A `Reading` with an entry for every axis of `rubric`.
    """
    visible = strip_thinking(text)
    if not visible:
        return undecided(rubric, "no answer: nothing but thinking" if text.strip() else "no answer: empty")
    if len(visible) > MAX_CHARACTERS:
        return undecided(rubric, f"too long: {len(visible)} characters, more than {MAX_CHARACTERS}")
    found = find_objects(visible)
    if found.tangled:
        return undecided(rubric, "no verdict: too many braces")
    if found.cut is not None:
        return undecided(rubric, "unfinished: a JSON object is not closed")
    verdicts = [(end, _flat(value)) for _, end, value in found.objects]
    verdicts = [(end, entries) for end, entries in verdicts if not entries.keys().isdisjoint(rubric.axes)]
    if rubric.by_label:
        line = _last_line(visible, [(start, end) for start, end, _ in found.objects])
        if line is not None and (not verdicts or line[0] > verdicts[-1][0]):
            return _by_label(line[1], rubric, "")
    if not verdicts:
        wanted = "verdict line" if rubric.by_label else "JSON object with the scores"
        return undecided(rubric, f"no verdict: there is no {wanted}")
    entries = verdicts[-1][1]
    comment = entries.get(rubric.comment_key)
    comment = well_formed(comment) if isinstance(comment, str) else ""
    if rubric.by_label:
        return _by_label(entries[VERDICT], rubric, comment)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, axis in rubric.axes.items():
        value = _number(entries[name], axis) if name in entries else f"missing: there is no {name!r}"
        values[name] = value if isinstance(value, float) else None
        if isinstance(value, str):
            reasons[name] = value
    return Reading(values, reasons, comment=comment)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Keys as axes are written, groups like {"scores": {...}} dissolved, {"score": 4, "reason": ...} as its score."""
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        if isinstance(entry, dict):
            inner = next((entry[name] for name in _VALUE_KEYS if name in entry), None)
            if inner is None:
                flat |= _flat(entry)
                continue
            entry = inner
        flat[key.strip().lower().replace(" ", "_").replace("-", "_")] = entry
    return flat


def _number(value: Any, axis: Axis) -> float | str:
    """A number within the axis's range, or the reason why there is none."""
    shown = repr(value)[:40]
    if isinstance(value, str):
        match = _SCORE.fullmatch(value.strip())
        if not match:
            return f"not a number: {shown}"
        number, whole, percent = match.groups()
        value = float(number)
        if percent and axis.low == 0:
            value *= axis.high / 100
        elif whole and axis.low == 0 and float(whole) > 0:
            value *= axis.high / float(whole)
        elif percent or (whole and float(whole) != axis.high):  # 80 % of a scale from 1 to 5 is a guess
            return f"other scale: {shown} where {axis.wants} was asked"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"not a number: {shown}"
    if not axis.low <= value <= axis.high or not isfinite(value):
        return f"out of range: {shown} where {axis.wants} was asked"
    return float(value)


def _last_line(text: str, objects: list[tuple[int, int]]) -> tuple[int, str] | None:
    """(position, what follows) of the last line `Verdict: ...` outside of objects."""
    end = len(text)
    inside = len(objects) - 1
    while end >= 0:
        start = text.rfind("\n", 0, end) + 1
        while inside >= 0 and objects[inside][0] > start:
            inside -= 1
        match = _VERDICT_LINE.match(text, start, end)
        if match and not (inside >= 0 and start < objects[inside][1]):
            return start, text[match.end() : end]
        end = start - 1
    return None


def _by_label(value: Any, rubric: Rubric, comment: str) -> Reading:
    axis = rubric.axes[VERDICT]
    label = _label(value, axis) if isinstance(value, str) else None
    if label is None:
        reason = f"no label: {repr(value)[:40]} where {axis.wants} was asked"
        return Reading({VERDICT: None}, {VERDICT: reason}, comment=comment)
    return Reading({VERDICT: axis.labels[label]}, label=label, comment=comment)


def _label(text: str, axis: Axis) -> str | None:
    """The label that `text` is, or begins with; None if it names none, or another one too."""
    known = {label.casefold(): label for label in axis.labels}
    known |= {alias.casefold(): label for alias, label in axis.aliases.items()}
    words = text[:500].strip(_MARKUP)
    exact = known.get(words.casefold())
    if exact is not None:
        return exact
    # "A (follows from the beginning)", "yes; it only reports"
    head, _, rest = re.sub(r"[.,;:(—–]", "\n", words, count=1).partition("\n")
    label = known.get(head.strip(_MARKUP).casefold())
    others = {key for key, meant in known.items() if meant != label}
    # "a" is an article; "A" is a label
    words_after = (word for word in re.findall(r"\w+", rest) if len(word) > 1 or word.isupper())
    return None if any(word.casefold() in others for word in words_after) else label
