"""Why a gold answer cannot be judged: told when rows load, and again when verdicts are made anew from records."""

from __future__ import annotations

import re
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.rewards import parse_gold

NO_LETTER = "it is no letter, and the row has no choices"
MOST_WORDS = 40
"""A gold of more words is a text that has no answer in it, as far as can be seen."""


def why_bad(gold: Any, rule: str) -> str | None:
    """Why the gold of a row without choices cannot be judged; None where it can.

    Args:
        gold: text, or a list of accepted texts.
        rule: the suite's; under `choice` only a letter is a gold, for an index would be judged as a number.
    """
    if rule == "choice" and letter_of(str(gold)) is None:
        return NO_LETTER
    try:
        read = parse_gold(gold)
    except DataError as error:
        return error.reason
    words = len(read.text.split())
    if read.kind in ("text", "mixed") and words > MOST_WORDS:
        return f"it is prose of {words} words, no answer"
    return None


def letter_of(gold: str) -> str | None:
    """The letter that a gold is: `B`, `(b)`, `$B$`; None for anything else."""
    found = re.fullmatch(r"[\s$(]*([A-Za-z])[)$.\s]*", gold)
    return found[1].upper() if found else None
