"""Mutations of texts and of values, each a function of a seeded generator."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

TOKENS = [
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"',
        "'",
        "- ",
        "? ",
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "!!float ",
        "!!bool ",
        "|",
        ">",
    ),
    *("\0", "\n", "\r\n", "\t", " ", "\ufeff", "\u2028", "\x1b", "é", "\U0001f600", "#", "%", "@", "`", "---\n", "..."),
    *("null", "true", "~", "-0", "1e999", ".nan", "-.inf", "NaN", "Infinity", "0x" + "f" * 50, "9" * 400, "-1", "1.5"),
    *("{question}", "{answer}", "{x!r}", "{{", "../..", "/dev/null", "~", "python:x.py:f", "%s", "$(x)", "<think>"),
    *('{"a": ' * 40, "[" * 300, "- " * 100, "x" * 5000, "\\ud800", '"\\u0000"', "[*a, *a, *a, *a, *a, *a, *a, *a, *a]"),
]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**32, 2**64, 10**18, 10**40, -(10**30), 0.0, -0.5, 1e-300, 1e300, 1.5),
    *(float("nan"), float("inf"), "", " ", "x", "0", "1e-5", "null", "\0", "\ud800", "x" * 5000, "../../x", "model"),
    *(
        [],
        [[]],
        [None],
        {},
        {"": {}},
        {"x": None},
        [1] * 50,
        {"type": "x"},
        ["a", 1, None, {}],
        "step",
        "train",
        "eval",
    ),
]


def text(rng: random.Random, source: str) -> str:
    """A text with a few pieces replaced, doubled, moved, cut or put in."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        start = rng.randrange(len(source) + 1)
        end = min(len(source), start + rng.choice((0, 1, 1, 4, 20, 200)))
        piece = rng.choice(
            (
                rng.choice(TOKENS),
                source[start:end] * 2,
                source[end : end + 30],
                "",
                source[:start][-40:],
                rng.choice(TOKENS),
            )
        )
        source = source[:start] + piece + source[end:]
        if rng.random() < 0.05:
            source = source[: rng.randrange(len(source) + 1)]
    return source


def data(rng: random.Random, source: bytes) -> bytes:
    """Bytes with some flipped, cut out, zeroed or put in."""
    mutated = bytearray(source)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(mutated) + 1)
        size = rng.choice((1, 1, 8, 64, 4096))
        way = rng.randrange(6)
        if way == 0:
            del mutated[at:]
        elif way == 1:
            mutated[at : at + size] = bytes(len(mutated[at : at + size]))
        elif way == 2:
            mutated[at:at] = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
        elif way == 3:
            mutated[at : at + size] = rng.randbytes(min(size, 16))
        elif way == 4:
            mutated[at : at + size] = b""
        else:
            mutated[at:at] = mutated[at : at + size]
    return bytes(mutated)


def value(rng: random.Random, source: Any) -> Any:
    """A copy of plain values with one to three of them replaced, doubled, renamed or gone."""
    copied = json.loads(json.dumps(source))
    for _ in range(rng.randint(1, 3)):
        copied = _change(rng, copied)
    return copied


def _change(rng: random.Random, source: Any) -> Any:
    if not isinstance(source, dict | list) or not source or rng.random() < 0.1:
        return copy.deepcopy(rng.choice(VALUES))
    keys = list(source) if isinstance(source, dict) else list(range(len(source)))
    key: Any = rng.choice(keys)
    if rng.random() < 0.5 and isinstance(source[key], dict | list):
        source[key] = _change(rng, source[key])
        return source
    way = rng.randrange(4)
    if way == 0:
        del source[key]
    elif way == 1 and isinstance(source, dict):
        source[rng.choice((*keys, "x", "type", "seed", "path"))] = source.pop(key)
    elif way == 1:
        source.append(source[key])
    else:
        source[key] = copy.deepcopy(rng.choice(VALUES))  # what is changed in one case is whole in the next
    return source
