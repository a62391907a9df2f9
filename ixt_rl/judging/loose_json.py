"""JSON objects in prose, as language models write them: single quotes, trailing commas, bare words, stray braces.

An object is lexed to its closing brace, rewritten token by token as JSON, and read by `json`. All of it is linear: no
pattern backtracks, nesting is limited, and so is what failed attempts may cost.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 8
_COST = 2  # characters lexed in all, as a multiple of the text
_MOST = 200_000  # of these characters in all, where thinking makes an answer long
_MISSES = 200  # braces that look like an object's and are not

# A quote ends a string only before `,`, `:`, a bracket or a brace, so that "it's" and a "quoted" word do no harm.
_TOKEN = re.compile(
    r"""\s*+(?:
        (?P<punctuation>[{}\[\]:,])
      | "(?P<double>(?:[^"\\]++|\\.|"(?!\s*+[,:}\]]))*+)"
      | '(?P<single>(?:[^'\\]++|\\.|'(?!\s*+[,:}\]]))*+)'
      | (?P<bare>[^\s{}\[\]:,"']++)
    )""",
    re.VERBOSE | re.DOTALL,
)
_START = re.compile(r"""\{\s*+(?:\}|"(?:[^"\\\n]|\\.)*+"\s*+:|'(?:[^'\\\n]|\\.)*+'\s*+:|[A-Za-z_]\w*+\s*+:)""")
_ESCAPE = re.compile(r"""\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\'|\\|\"""")
_WORDS = {"true": "true", "false": "false", "null": "null", "None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class Found:
    """The objects of a text.

    Args:
        objects: (start, end, object) of every outermost object that can be read, in order.
        cut: where an object starts that the text does not finish; None if there is none. What comes after it is part
            of it.
        tangled: whether the search was given up for its cost.
    """

    objects: tuple[tuple[int, int, dict[str, Any]], ...]
    cut: int | None = None
    tangled: bool = False


def find_objects(text: str) -> Found:
    """Every outermost JSON object in `text`; see the head of this file for what is forgiven."""
    objects: list[tuple[int, int, dict[str, Any]]] = []
    position, spent, misses = 0, 0, 0
    while (position := text.find("{", position)) >= 0:
        if not _START.match(text, position):
            position += 1
            continue
        end, source = _rewrite(text, position)
        spent += abs(end) - position
        if end < 0:
            return Found(tuple(objects), cut=position)
        value = _load(source)
        if value is not None:
            objects.append((position, end, value))
            position = end
        else:
            position += 1
            misses += 1
        if spent > _COST * len(text) or misses > _MISSES:
            return Found(tuple(objects), tangled=True)
    return Found(tuple(objects))


def complete_objects(text: str) -> list[tuple[int, int]]:
    """(start, end) of the outermost objects that can be read; what is cut or broken is passed over as prose.

    The search ends where it has cost too much.
    """
    spans: list[tuple[int, int]] = []
    position, spent, misses = 0, 0, 0
    limit = min(_COST * len(text), _MOST)
    while (position := text.find("{", position)) >= 0 and spent <= limit and misses <= _MISSES:
        if not _START.match(text, position):
            position += 1
            continue
        end, source = _rewrite(text, position)
        spent += abs(end) - position
        if end > 0 and _load(source) is not None:
            spans.append((position, end))
            position = end
        else:
            position += 1
            misses += 1
    return spans


def _rewrite(text: str, start: int) -> tuple[int, str]:
    """(end, strict JSON) of the object that starts at `start`.

    The end is negative if the text ends first. The JSON is "" where brackets do not match or nest too deep.
    """
    closers: list[str] = []
    out: list[str] = []
    position = start
    while match := _TOKEN.match(text, position):
        position = match.end()
        mark = match["punctuation"]
        if mark in ("{", "["):
            closers.append("}" if mark == "{" else "]")
            out.append(mark)
            if len(closers) > MAX_DEPTH:
                return position, ""
        elif mark in ("}", "]"):
            if closers.pop() != mark:
                return position, ""
            if out[-1] == ",":
                out.pop()
            out.append(mark)
            if not closers:
                return position, "".join(out)
        elif mark:
            out.append(mark)
        else:
            out.append(_scalar(match))
    return -len(text), ""


def _scalar(match: re.Match[str]) -> str:
    word = match["bare"]
    if word is None:
        body = match["double"] if match["double"] is not None else match["single"]
        return f'"{_ESCAPE.sub(_escape, body)}"'
    if word in _WORDS:
        return _WORDS[word]
    try:
        json.loads(word)
    except ValueError:  # 4/5, 80%, an unquoted key
        return json.dumps(word)
    return word


def _escape(match: re.Match[str]) -> str:
    r"""Keeps JSON's escapes, and doubles the backslash of others: judges write \boxed{4}."""
    return {"\\'": "'", "\\": "\\\\", '"': '\\"'}.get(match[0], match[0])


def _load(source: str) -> dict[str, Any] | None:
    try:
        value = json.loads(source, strict=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
