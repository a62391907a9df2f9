"""Prefixes of documents as prompts and their suffixes as answers: rows for reinforcement learning on raw text."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from ixt_rl.conditioning import encode_prompt
from ixt_rl.data.block_sources import prefix_source
from ixt_rl.data.document_source import SourceReader
from ixt_rl.data.suffixes import SuffixStream
from ixt_rl.data.token_rows import Documents
from ixt_rl.errors import DataError

if TYPE_CHECKING:
    from ixt_rl.blocks.data import PrefixDataBlock

RETOKENIZED = "tokenized otherwise"
_SPLIT_SEED = 0


def load_prefixes(spec: PrefixDataBlock, tokenizer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training rows, evaluation rows) of `question` (the prefix) and `answer` (the suffix), both as text.

    Documents are cut in token space, by a `SuffixStream`. Prompts are text, so a prefix whose text has other tokens
    than the document had there (a word cut in two) is left out, as is what the stream skips. Rows for evaluation are
    set aside by a fixed shuffle.

    Raises:
        DataError: a file cannot be used, or no more than `eval_rows` rows are left; with the number skipped by reason.
    """
    reader = SourceReader(prefix_source(spec))
    reader.check()
    documents = list(islice(iter(reader.next, None), spec.max_rows))  # one pass at most
    stream = SuffixStream(
        cast(Documents, documents),  # read once, so that no cursor is asked for
        tokenizer,
        suffix_tokens=spec.suffix_tokens,
        min_prefix_tokens=spec.min_prefix_tokens,
        max_prefix_tokens=spec.max_prefix_tokens,
    )
    rows, skipped = [], Counter[str]()
    for item in stream:
        prefix, suffix = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (item.prefix_ids, item.suffix_ids))
        if tuple(encode_prompt(tokenizer, prefix)) == item.prefix_ids:
            rows.append({"question": prefix, "answer": suffix})
        else:
            skipped[RETOKENIZED] += 1
    if len(rows) <= spec.eval_rows:
        skipped.update(stream.counts.skipped)
        reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
        raise DataError(
            f"{spec.called}: {len(rows)} prefixes of {len(documents)} documents, with eval_rows={spec.eval_rows}",
            reason=f"none is left to train on; skipped {reasons or 'none'}",
            remedy="lower eval_rows or suffix_tokens, or give more documents",
        )
    random.Random(_SPLIT_SEED).shuffle(rows)
    return rows[spec.eval_rows :], rows[: spec.eval_rows]
