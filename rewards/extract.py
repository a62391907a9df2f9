"""Finds the final answer in a completion. The last one counts: what a model took back is not its answer."""

from __future__ import annotations

import re
from typing import Literal, get_args

Extraction = Literal["last_box", "hashes", "auto"]
EXTRACTIONS: tuple[Extraction, ...] = get_args(Extraction)

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<open>\{)?|\\.|[{}]", re.DOTALL)
_LINE_ANSWER = re.compile(r"^[ \t>*_]*(?:A|Answer|Final answer)[ *_]*:[ \t*_]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_PHRASE = re.compile(
    r"\banswer(?:[ ]is|[ ]?=|[ ]?:)[ \t]*(?:therefore |simply |just |thus )?:?[ \t]*(\S.*)", re.IGNORECASE
)
_JOIN = re.compile(r"[\s$.]*(?:,|\\text\{\s*(?:and|or)\s*\}|and|or|,\s*and|,\s*or)[\s$]*")


def final_answer(text: str, how: Extraction = "auto") -> str | None:
    """The final answer of a completion, or None if it gives none.

    Args:
        text: the completion.
        how: `last_box` takes the content of the last `\\boxed{...}` (boxes joined by "and", "or" or a
            comma are one answer: giving two is not a way to be right once); `hashes` the rest of the
            line after the last `####`; `auto` the first of: last box, last `####`, last line starting
            with `A:` or `Answer:`, last "answer is ...".

    A last box whose brace is not closed is no answer: the completion was cut there.
    Time is linear in the length of the text.
    """
    if how == "last_box":
        return _last_box(text)
    if how == "hashes":
        return _after_hashes(text)
    if "\\boxed" in text or "\\fbox" in text:
        return _last_box(text)
    return _after_hashes(text) or _last_match(_LINE_ANSWER, text) or _last_match(_PHRASE, text)


def _after_hashes(text: str) -> str | None:
    _, marker, rest = text.rpartition("####")
    return rest.strip().partition("\n")[0].strip() or None if marker else None


def _last_match(pattern: re.Pattern[str], text: str) -> str | None:
    found = None
    for match in pattern.finditer(text):
        found = match[1]
    if found is None:
        return None
    found = re.split(r"(?<=[^\s.])\.(?:\s|$)", found.strip(), maxsplit=1)[0]
    return found.strip().strip("*_").strip() or None


def _last_box(text: str) -> str | None:
    boxes, unclosed_start = _boxes(text)
    if not boxes or unclosed_start > boxes[-1][0]:
        return None
    start, inner, end = boxes[-1]
    answers = [text[inner:end].strip()]
    for earlier_start, earlier_inner, earlier_end in reversed(boxes[:-1]):
        if earlier_end > start or not _JOIN.fullmatch(text[earlier_end + 1 : start]):
            break
        answers.insert(0, text[earlier_inner:earlier_end].strip())
        start = earlier_start
    return ", ".join(answers) or None


def _boxes(text: str) -> tuple[list[tuple[int, int, int]], int]:
    """All closed boxes as (start of the command, start and end of the content), by start; the innermost
    of nested ones only. And the start of the last box left open, or -1. One pass over the text."""
    stack: list[tuple[int, int] | None] = []  # open braces; a box's with its start and content start
    boxes: list[tuple[int, int, int]] = []
    for match in _BOX_TOKEN.finditer(text):
        token = match[0]
        if token.startswith(("\\boxed", "\\fbox")):
            if match["open"]:
                stack.append((match.start(), match.end()))
            elif match.end() < len(text):  # \boxed 5: TeX takes one token
                boxes.append((match.start(), match.end(), match.end() + 1))
        elif token == "{":
            stack.append(None)
        elif token == "}" and stack:
            opened = stack.pop()
            holds_box = boxes and opened is not None and boxes[-1][0] > opened[0]
            if opened is not None and not holds_box:
                boxes.append((*opened, match.start()))
    return boxes, max((opened[0] for opened in stack if opened), default=-1)
