"""How runs of tokens are cut: what separates values, what only ends a sentence, what is a name and no expression."""

from __future__ import annotations

import re

from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.tokens import Token, Tokens, balanced, spell, split
from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER

OPERATORS = {
    "\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", "<=": "<=", "\\leqq": "<=", "\\geqslant": ">=", "\\geq": ">=",
    "\\ge": ">=", ">=": ">=", "\\geqq": ">=", "\\neq": "!=", "\\ne": "!=", "!=": "!=", "\\lt": "<", "<": "<",
    "\\gt": ">", ">": ">", "==": "=", "=": "=", "\\approx": "~", "\\simeq": "~", "\\doteq": "~", "\\cong": "~",
    "\\equiv": "==", "\\in": "in",
}  # fmt: skip
_AND = {"and", "\\land", "\\wedge", "&", "和", "且"}
_OR = {"or", "\\lor", "\\vee", "或", "oder", "ou"}
_WHERE = {"where", "for", "with", "if", "when", "for all", "for any", "such that", "for some", "其中", "as"}
THEREFORE = {"\\Rightarrow", "\\implies", "\\Longrightarrow", "\\therefore", "\\iff", "\\Leftrightarrow"}
_INTEGER = re.compile(r"(?:and )?([a-zA-Z])(?: and [a-z])? (?:is|are|being)? ?(?:an |any |all )?integers?|"
                      r"(?:any |an |all )?integers? ([a-z])")  # fmt: skip
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d\s*(?:\^\s*\{?\d\}?\s*)?[A-Za-z]?\s*\}"
                         r"\s*\{\s*d\s*[A-Za-z]\s*(?:\^\s*\{?\d\}?\s*)?\}"
                         r"|d\s?[A-Za-z]\s?/\s?d\s?[A-Za-z]")  # fmt: skip
_LABELLING = {
    "\\partial",
    "\\nabla",
    "\\dim",
    "\\det",
    "\\min",
    "\\max",
    "\\cap",
    "\\cup",
    "\\setminus",
    "\\ker",
    "\\deg",
}
"""With one of these to the left of `=` the left is a name and not an expression."""


def stripped(tokens: Tokens) -> Tokens:
    """Without braces around all of it that are no set, and without what only ends a sentence."""
    tokens = trimmed(tokens)
    while len(tokens) > 2 and tokens[0].text == "{" and tokens[-1].text == "}" and balanced(tokens[1:-1]):
        if any(token.text in (",", ";", ":", "|") for token in tokens):
            break
        tokens = tokens[1:-1]
    return tokens


def trimmed(tokens: Tokens) -> Tokens:
    """Without commas, spaces and full stops around it."""
    start, end = 0, len(tokens)
    while start < end and (
        tokens[start].text in ("\\quad", ",", "\\cr", ";")
        or (tokens[start].kind == "text" and not tokens[start].text.strip())
    ):
        start += 1
    while end > start and (
        tokens[end - 1].text in ("\\quad", ",", ".", "\\cr", ";", "、")
        or (tokens[end - 1].kind == "text" and not tokens[end - 1].text.strip(" .,"))
    ):
        if tokens[end - 1].text == "." and end - start > 1 and tokens[end - 2].text == ".":
            break
        end -= 1
    return tokens[start:end]


def unaligned(tokens: Tokens) -> Tokens:
    """Aligned lines as one: a line that starts with a relation goes on, any other one is a further item."""
    rows, _ = split(tokens, lambda token, _: token.text == "\\cr")
    joined: Tokens = []
    for row in rows:
        row = trimmed([token for token in row if token.text != "&"])
        if row and joined and not (row[0].text in OPERATORS or row[0].text in ("+", "-")):
            joined.append(Token("op", ","))
        joined += row
    return joined


def separates(token: Token, at: int, tokens: Tokens) -> bool:
    if token.kind == "op":
        return token.text in (",", ";") or (token.text == "&" and at > 0)
    if token.kind in ("word", "text"):
        said = token.text.strip(" ,;.").lower()
        return said in _AND or said in _OR or (said in _WHERE and 0 < at < len(tokens) - 1)
    return token.text == "\\quad" or token.text in _AND or token.text in _OR


def without_empty(parts: list[Tokens], separators: Tokens) -> tuple[list[Tokens], list[str]]:
    """Non-empty parts, and for each gap between two of them `and`, `or`, `where` or a comma."""
    kept: list[Tokens] = []
    kinds: list[str] = []
    gap = ""
    for at, part in enumerate(parts):
        if at:
            said = separators[at - 1].text.strip(" ,;.").lower()
            kind = "and" if said in _AND else "or" if said in _OR else "where" if said in _WHERE else ""
            gap = kind or gap
        part = trimmed(part)
        if not part:
            continue
        if kept:
            kinds.append(gap or ",")
        kept.append(part)
        gap = ""
    if not kept:
        raise Unreadable("empty")
    return kept, kinds


def join_parts(parts: list[Tokens]) -> Tokens:
    """The parts as one run again, with commas between them."""
    joined: Tokens = []
    for part in parts:
        joined += [Token("op", ","), *part] if joined else part
    return joined


def what_follows(tokens: Tokens, separator: Token) -> Tokens:
    """What follows the first such separator (by identity of its place)."""
    depth = 0
    for at, token in enumerate(tokens):
        if token is separator and depth == 0:
            return tokens[at + 1 :]
    return []


def domain_of(tokens: Tokens) -> tuple[str, str] | None:
    """(`k`, `Z`) of `k \\in \\mathbb{Z}` and of `k is an integer`; None for everything else."""
    while tokens and tokens[0].text.strip(" ,") in _WHERE:
        tokens = tokens[1:]
    text = spell(tokens).replace("⟦", " ").replace("⟧", " ").strip()
    match = re.fullmatch(r"([a-zA-Z])\s*\\in\s*\\set([ZN])(?:\s*\^?\s*[*+])?|([a-zA-Z])\s*\\in\s*(Z|N)", text)
    if match:
        return (match[1] or match[3]), (match[2] or match[4])
    match = _INTEGER.fullmatch(re.sub(r"\s+", " ", text))
    if match:
        return (match[1] or match[2]), "Z"
    match = re.fullmatch(r"([a-z])\s*=\s*(?:0\s*,\s*)?\\pm\s*1.*", text)
    return (match[1], "Z") if match else None


def label_of(tokens: Tokens) -> str | None:
    """The name in front of `=` when it is no expression: words, `P(X=2)`, `f(x)`, `(x, y)`; else None."""
    text = spell(tokens)
    if not may_be_named(tokens):
        return None
    if _DERIVATIVE.fullmatch(text):
        return re.sub(r"\s", "", text)
    if any(
        token.kind == "text" and len(token.text.strip()) > 1 and not token.text.strip().isupper() for token in tokens
    ):
        return text
    if any((token.kind == "word" and len(token.text) > 3) or token.text in _LABELLING for token in tokens):
        return text
    opened = next((at for at, token in enumerate(tokens) if token.text in ("(", "[")), 0)
    applied = opened > 0 and tokens[-1].text in (")", "]") and balanced(tokens[opened + 1 : -1])
    if applied and all(token.kind in ("id", "word", "text") or token.text in ("'", "^", "-", "{", "}", "_") or
                       (token.kind == "num" and token.text == "1") for token in tokens[:opened]):  # fmt: skip
        letters = [token for token in tokens[:opened] if token.kind in ("id", "word", "text")]
        if len(letters) == 1 and letters[0].text not in ("e", "i", "pi", "sin", "cos", "tan", "ln", "log", "sqrt"):
            return re.sub(r"\s", "", text)
    return None


def may_be_named(tokens: Tokens) -> bool:
    """Whether what could not be read to the left of `=` may still be a name: no words that change the meaning."""
    said = " ".join(token.text.lower() for token in tokens if token.kind in ("word", "text")).split()
    return balanced(tokens) and not CHANGES_NUMBER.intersection(said)
