"""Tokenizing piece by piece, each piece once: what a byte-level BPE tokenizer gives, in a fraction of the time.

Most of the time of a Rust tokenizer goes into splitting text into words, and words repeat. Here text is cut

- before a space that a visible ASCII character follows;
- after an ASCII letter or digit, before ASCII of another kind (letter, digit, other);
- after ASCII punctuation, before an ASCII digit;

and the ids of the pieces are kept. That is exact where no token crosses a cut, and where a cut changes nothing before
or after it. So it is for byte-level BPE whose words are found by one of `PATTERNS`: in each, a run of letters or of
digits ends where another kind begins; nothing visible but a space or punctuation joins a word from the left, and
digits only a space; a run of white space gives up its last space to what visibly follows; and none looks behind.
A text that holds an added token is tokenized whole. Other tokenizers are called as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from tokenizers import models

_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2; also ByteLevel's own
    _CL100K % r"\p{N}{1,3}",  # Llama 3 and others
    _CL100K % r"\p{N}",  # Qwen 2, 2.5, 3
)

_PUNCTUATION = r"[!-/:-@\[-`{-~]"
_PIECES = re.compile(
    r" ?(?:[A-Za-z]++|[0-9]++)(?![^\x00-\x7f])"  # most pieces are one of these two
    rf"| ?{_PUNCTUATION}++(?=[0-9]| [!-~]|\Z)"
    r"|.+?(?:\Z|(?= [!-~])"  # the general case: up to the next cut
    r"|(?<=[A-Za-z])(?=[\x00-@\[-`{-\x7f])|(?<=[0-9])(?=[\x00-/:-\x7f])"
    rf"|(?<={_PUNCTUATION})(?=[0-9]))",
    re.DOTALL,
)
_MOST = 1 << 17  # pieces kept; about 30 MB
_LONGEST = 64  # characters of a piece that is kept


class WordCache:
    """Ids of texts without special tokens.

    Args:
        backend: a `tokenizers.Tokenizer` for which `cuts_are_exact`, and which does not change any more.
    """

    def __init__(self, backend):
        self._backend = backend
        self._ids: dict[str, tuple[int, ...]] = {}
        added = [re.escape(token.content) for token in backend.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(added) or r"(?!)")

    def __call__(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each text."""
        pieces = [[text] if self._added.search(text) else _PIECES.findall(text) for text in texts]
        known = self._ids
        missing = list(set(chain.from_iterable(pieces)).difference(known))
        if missing:
            if len(known) + len(missing) > _MOST:
                known = self._ids = {}
                missing = list(set(chain.from_iterable(pieces)))
            found = self._backend.encode_batch_fast(missing, add_special_tokens=False)
            known.update(zip(missing, [tuple(encoding.ids) for encoding in found], strict=True))
        ids = [tuple(chain.from_iterable(map(known.__getitem__, words))) for words in pieces]
        for piece in missing:
            if len(piece) > _LONGEST:
                del known[piece]
        return ids


def cuts_are_exact(backend) -> bool:
    """Whether text may be tokenized in the pieces that this module cuts.

    Args:
        backend: a `tokenizers.Tokenizer`.
    """
    model, splitter, normalizer = backend.model, _settings(backend.pre_tokenizer), _settings(backend.normalizer)
    if not isinstance(model, models.BPE) or model.dropout or (normalizer and normalizer["type"] != "NFC"):
        return False
    added = backend.get_added_tokens_decoder().values()
    if normalizer and not all(token.content.isascii() for token in added):
        return False
    if splitter is None:
        return False
    steps = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    return all(map(_keeps_cuts, steps)) and any(map(_splits_words, steps))


def _settings(part: Any) -> dict[str, Any] | None:
    """A part of a tokenizer as its file has it, without writing out the whole file."""
    return None if part is None else json.loads(part.__getstate__())


def _splits_words(step: dict) -> bool:
    return step["type"] == "Split" or (step["type"] == "ByteLevel" and step["use_regex"])


def _keeps_cuts(step: dict) -> bool:
    if step["type"] == "Split":
        return step["pattern"].get("Regex") in PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
    return step["type"] == "ByteLevel" and not step["add_prefix_space"]
