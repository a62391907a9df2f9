"""Which of the choices a completion gives: by its label, or by the choice's own text or value.

(B)   B.   \\boxed{B}   \\text{B}   B) 12   12 (B)   Option B   12          -> B
A or B   E where there is none                                        -> no choice, which is wrong
C where C is a label, and also the text of the choice labelled A      -> ambiguous: undecided
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ixt_rl.errors import DataError
from ixt_rl.rewards import Gold, MathReward, parse_gold
from ixt_rl.rewards.math.rules_notations import phrase_kind

_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|sf|it)|mbox|boxed)\s*\{([^{}]*)\}")
_SPACE = r"(?:\s|~|\\[,;:!> ]|\\q?quad(?![a-zA-Z]))+"
_AROUND = re.compile(rf"^{_SPACE}|{_SPACE}$")
_SAID = r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s*)?"
_ALONE = re.compile(rf"{_SAID}[(\[]?([A-Za-z0-9])[)\]]?[.:,]?", re.IGNORECASE)
_BEFORE = re.compile(
    rf"{_SAID}(?:[(\[]([A-Za-z0-9])[)\]][.:,]?|([A-Za-z0-9])[)\]:.,])\s*(.+)", re.IGNORECASE | re.DOTALL
)
_BARE_BEFORE = re.compile(rf"{_SAID}([A-Za-z0-9])\s+(.+)", re.IGNORECASE | re.DOTALL)
_BEHIND = re.compile(r"(.+?)\s+[(\[](?:option\s+|choice\s+)?([A-Za-z0-9])[)\]]", re.IGNORECASE | re.DOTALL)
_SEVERAL = re.compile(
    r"(?:both\s+|either\s+)?[(\[]?([A-Za-z])[)\]]?\s*(?:,|/|&|,?\s+(?:and|or)\s)\s*[(\[]?([A-Za-z])[)\]]?(?![A-Za-z]).*",
    re.IGNORECASE | re.DOTALL,
)
_REASON = re.compile(r"(?:because|since|as it)\b", re.IGNORECASE)
_WORDS = ("text", "mixed", "formula")
"""Kinds of values that a paraphrase can be right for: another spelling does not make them wrong."""


@dataclass(frozen=True)
class NamedChoice:
    """The choice that an answer names.

    Args:
        label: the choice's; None where it names none.
        why: how it was read, or why none was.
        decided: whether an answer without a label is decided: it is then none of the choices.
    """

    label: str | None
    why: str
    decided: bool = True


def chosen(answer: str, choices: Mapping[str, str], reward: MathReward) -> NamedChoice:
    """The choice that an extracted answer names.

    Args:
        answer: the final answer alone.
        choices: label -> text.
        reward: compares answers with choices' texts as mathematics.
    """
    text = _bare(answer)
    labels = {label.upper(): label for label in choices}
    same = _with_text(text, choices)
    alone = _ALONE.fullmatch(text)
    if alone and alone[1].upper() in labels:
        named = labels[alone[1].upper()]
        if same and same != [named]:
            return _ambiguous(f"{text!r} is a label, and the text of {' and '.join(same)}")
        return NamedChoice(named, "label")
    if same:
        return NamedChoice(same[0], "text") if len(same) == 1 else _ambiguous(f"the text of {' and '.join(same)}")
    several = _SEVERAL.fullmatch(text)
    if several and {several[1].upper(), several[2].upper()} <= set(labels) and several[1].upper() != several[2].upper():
        return NamedChoice(None, "two choices")
    if alone and alone[1].isalpha() and len(text) <= len(alone[0]):
        word = re.compile(rf"(?<![A-Za-z\\]){alone[1]}(?![A-Za-z])")
        if any(word.search(one) for one in choices.values()):  # I, of which a choice says `I only`
            return _ambiguous(f"{text!r} is no label, and stands in the text of a choice")
        return NamedChoice(None, f"{text!r} is none of {', '.join(choices)}")
    return _beside_text(text, choices, labels) or _by_value(text, choices, reward)


def _beside_text(text: str, choices: Mapping[str, str], labels: Mapping[str, str]) -> NamedChoice | None:
    """The label with something before or behind it; None where there is none."""
    for pattern, sure in ((_BEFORE, True), (_BEHIND, True), (_BARE_BEFORE, False)):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        letter, rest = (
            (match[2], match[1]) if pattern is _BEHIND else (match[1] or match[2], match[match.lastindex or 1])
        )
        named = labels.get(letter.upper())
        if named is None:
            continue
        of_rest = _with_text(rest, choices)
        if of_rest and named not in of_rest:
            return _ambiguous(f"the label {named} with the text of {' and '.join(of_rest)}")
        if sure or of_rest or _REASON.match(rest):
            return NamedChoice(named, "label")
    return None


def _by_value(text: str, choices: Mapping[str, str], reward: MathReward) -> NamedChoice:
    """The one choice whose text has the answer's value; undecided where that is open for any of them."""
    answer = _gold(text)
    if answer is None or _in_words(answer):
        return _ambiguous("no label, and no choice has this text")
    equal, undecided = [], False
    for label, one in choices.items():
        choice = _gold(one)
        score = None if choice is None else reward.judge([text], [choice])[0].score
        if score == 1.0:
            equal.append(label)
        elif score is None or (choice is not None and _in_words(choice)):
            undecided = True
    if len(equal) == 1 and not undecided:
        return NamedChoice(equal[0], "value")
    if not equal and not undecided:
        return NamedChoice(None, "none of the choices")
    return _ambiguous(
        "no label, and the value of more than one choice" if len(equal) > 1 else "no label, and a choice in words"
    )


def _gold(text: str) -> Gold | None:
    try:
        return parse_gold(text)
    except DataError:
        return None


def _in_words(gold: Gold) -> bool:
    """Whether it is prose; fixed phrases (`no solution`) are decided."""
    return gold.kind in _WORDS and phrase_kind(getattr(gold.value, "text", "")) is None


def _ambiguous(why: str) -> NamedChoice:
    return NamedChoice(None, f"ambiguous: {why}", decided=False)


def _with_text(text: str, choices: Mapping[str, str]) -> list[str]:
    """Labels of the choices that have this text, but for case, spaces and what it is wrapped in."""
    return [label for label, one in choices.items() if _plain(one) == _plain(text)]


def _bare(text: str) -> str:
    """Without what LaTeX and Markdown put around an answer."""
    before = None
    while before != text:
        before, text = text, _AROUND.sub("", _AROUND.sub("", _WRAPPED.sub(r"\1", text)).strip("$*`")).strip()
        text = re.sub(r"\\\{\s*([A-Za-z0-9])\s*\\\}", r"\1", text) if text.startswith("\\{") else text
        if re.fullmatch(r"\\\(.*\\\)|\\\[.*\\\]", text, re.DOTALL):
            text = text[2:-2]
    return text.replace("\\ ", " ")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", _bare(text)).strip().rstrip(".").lower()
