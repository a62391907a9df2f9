"""Which candidates may be judged and chosen: what is filtered is out of its group before anybody is asked.

A document's own suffix is never filtered: a prompt of which nothing else is left falls back to it. Shares are those of
token n-grams, so that no language needs word boundaries. Plain Python, no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.candidate_filters import (
    CopiedPrefixFilterBlock,
    EmptyFilterBlock,
    PythonFilterBlock,
    RepetitionFilterBlock,
    TooShortFilterBlock,
    TruncatedFilterBlock,
    filter_name,
)
from ixt_rl.errors import DataError
from ixt_rl.import_path import load_named
from ixt_rl.ngrams import copied_share, repeated_share
from ixt_rl.trainers.sip.groups import Group, Proposed, merge
from ixt_rl.types import FinishReason

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

ORIGINAL = "original"


@dataclass(frozen=True)
class Filtered:
    """A candidate as filters see it.

    Args:
        prefix, original, text: of the prompt, of its own suffix, and of the candidate, without special tokens.
        source: who wrote it.
        prefix_ids, ids: of prefix and candidate, special tokens left out.
        finish_reason: how a rollout ended; None for what was not sampled.
    """

    prefix: str
    original: str
    text: str
    source: str
    prefix_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finish_reason: FinishReason | None


CandidateFilter = Callable[[Filtered], bool]
"""Whether a candidate may be judged."""


def candidate_filter(block: Any) -> CandidateFilter:
    """The filter of a run file's block.

    Raises:
        ConfigError: a function of one's own cannot be imported.
    """
    match block:
        case EmptyFilterBlock():
            return lambda one: bool(one.text.strip())
        case TooShortFilterBlock(min_tokens=least):
            return lambda one: len(one.ids) >= least
        case TruncatedFilterBlock():
            return lambda one: one.finish_reason != "length"
        case RepetitionFilterBlock(ngram=n, max_share=most):
            return lambda one: repeated_share(one.ids, n) <= most
        case CopiedPrefixFilterBlock(ngram=n, max_share=most):
            return lambda one: copied_share(one.ids, one.prefix_ids, n) <= most
        case PythonFilterBlock(path=path):
            function = load_named(path, "filter", "function")
            return lambda one: function(**vars(one))
    raise TypeError(f"no filter block: {block!r}")


def candidate_filters(blocks: Sequence[Any]) -> dict[str, CandidateFilter]:
    """Filters by name, in the order of their blocks."""
    return {filter_name(block): candidate_filter(block) for block in blocks}


def filtered_groups(
    filters: Mapping[str, CandidateFilter],
    items: Sequence[PrefixSuffix],
    proposed: Sequence[Sequence[Proposed]],
    tokenizer: Any,
    count: Callable[[str, list[float]], None],
) -> list[Group]:
    """The groups of prompts, of the candidates that may be judged; `count` is told what was filtered, by metric.

    `filtered/<name>` is a share of candidates, the documents' own apart: each is counted for the first filter that
    refuses it. `filtered/all` is the share of prompts of which nothing but the original, or nothing, is left.

    Raises:
        DataError: a filter raised, or said neither True nor False.
    """
    if not filters:
        return [Group(tuple(item.prefix_ids), merge(of)) for item, of in zip(items, proposed, strict=True)]
    counts: dict[str, list[float]] = {name: [] for name in filter_names(filters)}
    special = {*tokenizer.all_special_ids}
    groups = []
    for item, of_item in zip(items, proposed, strict=True):
        prefix, original = (
            tokenizer.decode(ids, skip_special_tokens=True) for ids in (item.prefix_ids, item.suffix_ids)
        )
        plain = tuple(token for token in item.prefix_ids if token not in special)
        left, others, gone = [], 0, 0
        for one in of_item:
            candidate = one.candidate
            if candidate.source == ORIGINAL:
                left.append(one)
                continue
            ids = tuple(token for token in candidate.ids if token not in special)
            seen = Filtered(prefix, original, candidate.text, candidate.source, plain, ids, one.finish_reason)
            refused = next((name for name, ask in filters.items() if not _asked(name, ask, seen)), None)
            for name in filters:
                counts[f"filtered/{name}"].append(float(name == refused))
            if refused is None:
                left.append(one)
            others, gone = others + (refused is None), gone + (refused is not None)
        fallback, texts = bool(gone and not others), merge(left)
        counts["filtered/all"].append(float(fallback))
        best = texts[0] if fallback and texts else None
        groups.append(Group(tuple(item.prefix_ids), texts, best, fallback=fallback))
    for name, values in counts.items():
        count(name, values)
    return groups


def filter_names(filters: Mapping[str, CandidateFilter]) -> list[str]:
    """All metrics of `filtered`; none without filters."""
    return [*(f"filtered/{name}" for name in filters), "filtered/all"] if filters else []


def _asked(name: str, ask: CandidateFilter, seen: Filtered) -> bool:
    try:
        said = ask(seen)
    except Exception as error:  # any, because it may be the user's
        raise DataError(
            f"filter {name} of a candidate of source {seen.source!r}",
            reason=f"it raised {type(error).__name__}: {error}",
            remedy="let it take prefix, original, text, source, prefix_ids, ids and finish_reason, or **_",
        ) from error
    if not isinstance(said, bool):
        raise DataError(
            f"filter {name} gave {said!r:.80}",
            reason="it says whether a candidate may be judged",
            remedy="return True or False",
        )
    return said
