"""How the authors of MATH spell answers to compare them as texts (arXiv 2103.03874); lm-eval's AIME does so."""

from __future__ import annotations

import re

from ixt_rl.evaluation.harnesses.qwen_spelling import braced_fractions


def equal_spelling(answer: str, gold: str) -> bool:
    """Whether both are spelled alike; texts that cannot be spelled are compared as they are."""
    try:
        return _spelled(answer) == _spelled(gold)
    except ValueError:
        return answer == gold


def _spelled(text: str) -> str:
    """Raises ValueError where theirs ends in an error: units twice, a root or fraction of nothing, a/b of words."""
    for before, after in (
        ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
        ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""),
    ):  # fmt: skip
        text = text.replace(before, after)
    value, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise ValueError("units twice")
    for before, after in (("\\%", ""), (" .", " 0."), ("{.", "{0.")):
        value = value.replace(before, after)
    if not value:
        return ""
    value = f"0{value}" if value.startswith(".") else value
    name, *rest = value.split("=")
    if len(rest) == 1 and len(name) <= 2:
        value = rest[0]
    if re.search(r"\\sqrt(?=$|\\sqrt)", value):
        raise ValueError("a root of nothing")
    value = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", value).replace(" ", "")
    value = "\\frac{1}{2}" if (value := _fractions(value)) == "0.5" else value
    parts = value.split("/")
    if len(parts) == 2:
        whole = [str(int(part)) for part in parts]
        value = f"\\frac{{{whole[0]}}}{{{whole[1]}}}" if whole == parts else value
    return value


def _fractions(text: str) -> str:
    below = text.split("\\frac")[1:]
    if next((piece for piece in below if len(piece) < 2 and piece != "{"), None) == "":
        raise ValueError("a fraction of nothing")
    return braced_fractions(text)
