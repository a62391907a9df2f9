"""Cleaned answer text as tokens, and splitting a run of tokens outside of brackets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.vocabulary import words_of

GREEK, FUNCTIONS = words_of("greek"), words_of("functions")
NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "infinity": "inf", "oo": "inf", "infty": "inf",
         "varepsilon": "epsilon", "vartheta": "theta", "varphi": "phi", "arsinh": "arcsinh", "cosec": "csc",
         "tg": "tan", "ctg": "cot", "sign": "sgn", "asinh": "arcsinh", "acosh": "arccosh",
         "atanh": "arctanh"}  # fmt: skip
CONSTANT_NAMES = {"pi", "e", "i", "inf"}
STOP_WORDS = words_of("short_words")
"""Short runs of letters that are words, not products of variables."""

OPENERS = {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"}
CLOSERS = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"}


class Token(NamedTuple):
    """A token: kind is num, cmd, id (a letter or known name), word, text (`\\text{...}`), env or op."""

    kind: str
    text: str
    spaced: bool = False


Tokens = list[Token]

_TOKEN = re.compile(
    r"(?P<space>\s*)(?:"
    r"(?P<env>\\(?:begin|end)\s*\{[A-Za-z]+\*?\})"
    r"|(?P<num>(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+(?![\d.A-Za-z])|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\.\d+|\.\d+|\d+)"
    r"|(?P<cmd>\\[A-Za-z]+|\\[^A-Za-z\s])|⟦(?P<text>[^⟦⟧]*)⟧|(?P<word>[A-Za-z]+|[^\W\d_A-Za-z]+)"
    r"|(?P<op>\+/-|\+-|<=|>=|!=|==|->|[^\sA-Za-z0-9\\]))"
)
_PLAIN_NUM = re.compile(r"\d+\.\d+|\.\d+|\d+")


def tokenize(text: str) -> Tokens:
    """Split cleaned text; `1,234` is one number outside of brackets and two inside of them.

    Raises:
        Unreadable: a character that belongs to no token.
    """
    tokens: Tokens = []
    at, depth, end = 0, 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"cannot read {text[at : at + 10]!r}")
        kind = match.lastgroup or ""
        piece, spaced, at = match[kind], bool(match["space"]), match.end()
        if kind == "num":
            if depth and "," in piece:
                at = match.start("num") + piece.index(",")
                piece = piece[: piece.index(",")]
            tokens.append(Token("num", piece.replace(",", ""), spaced))
            continue
        if kind == "word":
            tokens += _letters(piece, spaced)
            continue
        if kind == "cmd" and piece[1:] in NAMES:
            piece = "\\" + NAMES[piece[1:]]
        depth += (piece in OPENERS and piece != "{") - (piece in CLOSERS and piece != "}")
        if piece == "{" and not _is_argument(tokens):
            depth += 1
        elif piece == "}" and depth and _closes_set(tokens):
            depth -= 1
        tokens.append(Token(kind, piece, spaced))
    return tokens


def _is_argument(tokens: Tokens) -> bool:
    """Whether a brace here opens the argument of a command rather than a set."""
    if not tokens:
        return False
    last = tokens[-1]
    return (last.kind == "cmd" and last.text[1:2].isalpha()) or last.text in ("^", "_", "}", "]")


def _closes_set(tokens: Tokens) -> bool:
    depth = 0
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at].text == "}":
            depth += 1
        elif tokens[at].text == "{":
            if depth == 0:
                return not _is_argument(tokens[:at])
            depth -= 1
    return False


def _letters(run: str, spaced: bool) -> Tokens:
    """`sqrt` is one name; `xy` is a product of two symbols; `banana` is a word."""
    name = NAMES.get(run, run)
    if name in FUNCTIONS or name in CONSTANT_NAMES or name in GREEK or (len(name) == 1 and name.isascii()):
        return [Token("id", name, spaced)]
    if run.startswith("pi") and len(run) == 3:
        return [Token("id", "pi", spaced), Token("id", run[2])]
    return [Token("word", run, spaced)]


def split(tokens: Tokens, at_token: Callable[[Token, int], bool]) -> tuple[list[Tokens], Tokens]:
    """Split outside of brackets where `at_token(token, index)` says so: the parts, and the separators."""
    parts: list[Tokens] = [[]]
    separators: Tokens = []
    depth = 0
    for index, token in enumerate(tokens):
        if depth == 0 and at_token(token, index):
            separators.append(token)
            parts.append([])
            continue
        if token.kind == "env":
            depth += 1 if token.text.startswith("\\begin") else -1
        elif token.kind in ("op", "cmd"):
            depth += (token.text in OPENERS) - (token.text in CLOSERS)
        parts[-1].append(token)
    return parts, separators


def balanced(tokens: Tokens) -> bool:
    """Whether no bracket inside closes one outside, so that the pair around the tokens belongs together."""
    depth = 0
    for token in tokens:
        if token.kind in ("op", "cmd"):
            depth += (token.text in OPENERS) - (token.text in CLOSERS)
            if depth < 0:
                return False
    return depth == 0


def spell(tokens: Tokens) -> str:
    """Tokens as text again, spaces only where they were."""
    return "".join(
        (" " if token.spaced else "") + (f"⟦{token.text}⟧" if token.kind == "text" else token.text) for token in tokens
    ).strip()
