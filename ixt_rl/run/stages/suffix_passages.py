"""The passages of a SIP stage: those that are trained, and those that are held out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from ixt_rl.blocks.passages import SuffixCorpusBlock, WorldPassagesBlock
from ixt_rl.conditioning import encode_prompt
from ixt_rl.conditioning.control import text_ids
from ixt_rl.data.block_sources import corpus_sources
from ixt_rl.data.holdout import Holdout
from ixt_rl.data.in_memory import MemoryCorpus, Repeated
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.data.token_rows import Documents
from ixt_rl.methods.sip import SipStage, SuffixEvaluationBlock
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.passages import Passage

_EVAL_SEED = 0  # held-out passages are the same for every stage and seed


class HeldOutPassage(NamedTuple):
    """A passage that is measured on.

    Args:
        prefix_ids: what continuations begin from.
        suffix_ids: of its own suffix, where it was cut in token space; else none.
        passage: both as text.
    """

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    passage: Passage


def passages(
    data: WorldPassagesBlock | SuffixCorpusBlock,
    tokenizer: Any,
    seed: int,
    epochs: int | None = None,
    held: Holdout | None = None,
) -> Repeated[PrefixSuffix] | SuffixStream:
    """The training passages, those of a world repeated or a stream of files; `epochs`: passes until they end.

    Raises:
        DataError: no document of the files can be cut.
    """
    if isinstance(data, SuffixCorpusBlock):
        sources = corpus_sources(data, read_feedback=False)
        read = partial(DocumentStream, sources, seed, holdout=held)
        return _stream(data, read, epochs, tokenizer, seed, "data")
    found = WORLDS[data.world]().passages("train", data.passages, seed)
    end = (tokenizer.eos_token_id,)
    made = [
        PrefixSuffix(
            tuple(encode_prompt(tokenizer, one.prefix)),
            (*text_ids(tokenizer, one.suffix), *end),
            f"{data.world} {index}",
        )
        for index, one in enumerate(found)
    ]
    return Repeated(made, seed, epochs)


def passage_notes(items: Repeated[PrefixSuffix] | SuffixStream) -> list[str]:
    """Which documents of files gave no passage, in every pass anew, in words; nothing if all did."""
    if not isinstance(items, SuffixStream):
        return []
    counts, empty = items.counts, getattr(items.documents, "empty", 0)
    reasons = {**counts.skipped, **({"without text": empty} if empty else {})}
    said = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    total = counts.documents + empty
    return [f"documents: {sum(reasons.values())} of {total} gave no prefix and suffix: {said}"] if reasons else []


def holdout(stage: SipStage) -> Holdout | None:
    """What the stage's evaluation sets aside of its files."""
    if stage.evaluation is None or stage.evaluation.holdout is None:
        return None
    assert isinstance(stage.data, SuffixCorpusBlock)
    return Holdout(corpus_sources(stage.data, read_feedback=False), stage.evaluation.holdout)


def held_out(
    stage: SipStage, section: SuffixEvaluationBlock, tokenizer: Any, held: Holdout | None = None
) -> list[HeldOutPassage]:
    """Passages for evaluation: of the world, of `evaluation.data`, or of the documents set aside.

    Raises:
        DataError: no document can be cut.
    """
    if isinstance(stage.data, WorldPassagesBlock) and section.data is None:
        found = WORLDS[stage.data.world]().passages("eval", section.prefixes, _EVAL_SEED)
        return [HeldOutPassage(tuple(encode_prompt(tokenizer, one.prefix)), (), one) for one in found]
    if held is None:
        assert section.data is not None
        sources = corpus_sources(section.data, read_feedback=False)
        read = partial(DocumentStream, sources, _EVAL_SEED)
        stream = _stream(section.data, read, None, tokenizer, _EVAL_SEED, "evaluation.data")
    else:
        assert isinstance(stage.data, SuffixCorpusBlock)
        passes = 1 if stage.data.cut == "end" else None  # a document has one end, and many other places
        apart = [*chain.from_iterable(held.documents)]
        again = partial(MemoryCorpus, apart, _EVAL_SEED)
        stream = _stream(stage.data, again, passes, tokenizer, _EVAL_SEED, "evaluation.holdout")
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    return [
        HeldOutPassage(one.prefix_ids, one.suffix_ids, Passage(decode(one.prefix_ids), decode(one.suffix_ids), one.key))
        for one in islice(stream, section.prefixes)
    ]


def _stream(
    data: SuffixCorpusBlock,
    read: Callable[[int | None], Documents],
    passes: int | None,
    tokenizer: Any,
    seed: int,
    where: str,
) -> SuffixStream:
    """The documents that `read` gives in so many passes, cut; raises DataError, which names `where`, if none can be."""
    cut = partial(
        SuffixStream,
        tokenizer=tokenizer,
        suffix_tokens=data.suffix_tokens,
        min_prefix_tokens=data.min_prefix_tokens,
        max_prefix_tokens=data.max_prefix_tokens,
        cut=data.cut,
        seed=seed,
    )
    cut(read(1)).require_one(where)
    return cut(read(passes))
