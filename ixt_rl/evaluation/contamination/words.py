"""Texts as the words by which they are compared."""

from __future__ import annotations

import re
import unicodedata

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\W_{_IDEOGRAPH}]+")

NORMALISATION = (
    "Unicode NFKC, lower case; a word is a run of letters and digits (of Chinese and Japanese one character), and "
    "everything else, LaTeX's signs included, only parts words"
)


def words_of(text: str) -> list[str]:
    """The words of a text, in order: `$\\frac{1}{2}$ of Ann's` -> `frac 1 2 of ann s`."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
