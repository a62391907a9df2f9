"""Final answers as Minerva's authors spell them (arXiv 2206.14858, appendix D), and lm-eval after them."""

from __future__ import annotations

import re

_REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"), (",\\text{and}", ","),
    ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_UNITS = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "sue", "points", "feet"),
    *("minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students"),
    *("childrentickets", "multiples"),
)
_DROPPED = (
    *("\\ldots", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}"),
    *("\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots"),
)
_KEPT_INSIDE = (r"(\\text\{)(.*?)(\})", r"(\\textbf\{)(.*?)(\})", r"(\\overline\{)(.*?)(\})", r"(\\boxed\{)(.*)(\})")


def normalized(answer: str) -> str:
    """What follows the last `=`, without units and text mode, with short fractions and roots written out.

    lm-eval 0.4.13 keeps what appendix D breaks: units go as words first and never out of the name of a command, as
    "ft" of left; indexed roots keep their index; commas go out of thousands only.
    """
    answer = answer.rpartition("=")[2]
    for unit in _UNITS:
        answer = re.sub(rf"(?<!\\)\b{unit}\b", "", answer)
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    parts = re.split(r"(\\[a-zA-Z]+)", answer)
    for unit in _UNITS:
        parts = [part if part.startswith("\\") else part.replace(unit, "") for part in parts]
    answer = "".join(parts)
    for words in _DROPPED:
        answer = answer.replace(words, "")
    answer = re.sub(r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$", answer)
    for pattern in _KEPT_INSIDE:
        answer = re.sub(pattern, r"\2", answer)
    answer = re.sub(r"(frac)([^{])(.)", r"frac{\2}{\3}", answer)
    answer = re.sub(r"(sqrt)(\[[^\]]*\])(\w)", r"\1\2{\3}", answer)
    answer = re.sub(r"(sqrt)(?!\[)([^{])", r"sqrt{\2}", answer).replace("$", "")
    return answer.replace(",", "") if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+", answer) else answer
