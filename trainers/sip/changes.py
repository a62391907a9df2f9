"""What becomes of the corpus: the texts that are trained, beside the suffixes that stood there. Plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ixt_rl.trainers.sip.objectives import Example

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

CHANGES = ("corpus/changed", "corpus/length", "corpus/vocabulary", "corpus/new_tokens")

_Ids = tuple[int, ...]
Trained = tuple[_Ids, _Ids, _Ids]
"""Ids of a prefix, of the suffix that stood there, and of the text that is trained."""


def trained_texts(items: Sequence[PrefixSuffix], examples: Sequence[Example | None]) -> list[Trained]:
    """What is trained of the prompts that train one text (of a pair, the chosen).

    Args:
        items: the prompts.
        examples: what each puts into the loss; None: nothing. Those with advantages train several texts, and are left
            out.
    """
    return [
        (tuple(item.prefix_ids), tuple(item.suffix_ids), example.texts[0].ids)
        for item, example in zip(items, examples, strict=True)
        if example is not None and not example.advantages
    ]


def changes(trained: Sequence[Trained]) -> dict[str, list[float]]:
    """One value by metric of an update, of all its ranks; none where the texts, or the suffixes that stood there, have
    no tokens.

        corpus/changed      share of prompts whose text is not the document's own suffix
        corpus/length       tokens of the texts, over those of the suffixes
        corpus/vocabulary   different tokens in the texts, over those in the suffixes: of as many prompts each
        corpus/new_tokens   share of the texts' tokens that stand neither in prefix nor in suffix

    Args:
        trained: see `trained_texts`.
    """
    suffixes, texts = [suffix for _, suffix, _ in trained], [text for *_, text in trained]
    known = [{*prefix, *suffix} for prefix, suffix, _ in trained]
    length, before = sum(map(len, texts)), sum(map(len, suffixes))
    if not length or not before:
        return {name: [] for name in CHANGES}
    new = sum(token not in seen for ids, seen in zip(texts, known, strict=True) for token in ids)
    return {
        "corpus/changed": [sum(a != b for a, b in zip(texts, suffixes, strict=True)) / len(trained)],
        "corpus/length": [length / before],
        "corpus/vocabulary": [len({*sum(texts, ())}) / len({*sum(suffixes, ())})],
        "corpus/new_tokens": [new / length],
    }
