"""Rows to train judges and rewriters on (SIP, arXiv 2601.21343): prompts as they are asked, with what is right.

documents, cut --Excerpt--> judge_pairs: original against spoiled, in both orders -> label
                            judge_labels: one continuation                          -> label of its document
                            rewriter_rows: fine ones to copy, others to rewrite     -> good, target
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.rubric import VERDICT, Rubric
from ixt_rl.rewriting.prompt import COPY, REWRITE, RewritePrompt

Row = dict[str, Any]

_SINGLE = "continuation"


@dataclass(frozen=True)
class Excerpt:
    """A document cut in two, as texts, with what it was spoiled into or what is known of it.

    Args:
        prefix: how it begins.
        suffix: how its author went on.
        document: where it came from.
        spoiler: who spoiled it; "" if nobody did.
        spoiled: the worse suffix; "" without a spoiler.
        label: what is known of the suffix, a label of the rubric; "" if nothing is.
    """

    prefix: str
    suffix: str
    document: str
    spoiler: str = ""
    spoiled: str = ""
    label: str = ""


def judge_pairs(excerpts: Sequence[Excerpt], rubric: Rubric) -> Iterator[Row]:
    """Two rows an excerpt: the original first (it wins), and the spoiled one first (the second wins).

    Rows have `prompt`, `label`, the texts under the rubric's names (`prefix`, `a`, `b`), `spoiler` and `document`.

    Raises:
        ConfigError: see `check_pair`.
    """
    pair = check_pair(rubric)
    first_wins = next(label for label, score in rubric.axes[VERDICT].labels.items() if score == 1)
    for one in excerpts:
        fields = dict(zip(("prefix", *pair), (one.prefix, one.suffix, one.spoiled), strict=True))
        for swapped, label in ((False, first_wins), (True, rubric.swapped(first_wins))):
            texts = rubric.in_order(fields, swapped)
            yield {
                "prompt": prompt_text(rubric, texts), "label": label, **texts,
                "spoiler": one.spoiler, "document": one.document,
            }  # fmt: skip


def judge_labels(excerpts: Sequence[Excerpt], rubric: Rubric) -> Iterator[Row]:
    """One row an excerpt, with its label: `prompt`, `label`, `prefix`, `continuation`, `document`.

    Raises:
        ConfigError: see `check_single`.
    """
    check_single(rubric)
    for one in excerpts:
        texts = {"prefix": one.prefix, _SINGLE: one.suffix}
        prompt = prompt_text(rubric, rubric.in_order(texts, swapped=False))
        yield {"prompt": prompt, "label": one.label, **texts, "document": one.document}


def rewriter_rows(excerpts: Sequence[Excerpt], prompt: RewritePrompt, good: str | None = None) -> Iterator[Row]:
    """Suffixes to be copied (`good`) and others to be rewritten.

    A spoiled excerpt gives two rows: its original is good, its spoiled suffix is not. A labelled one gives one row.
    Rows have `prompt`, `target` (an answer that is right; where none is known, `<rewrite>...</rewrite>`), `prefix`,
    `suffix` (the one shown), `original` (what a rewrite is compared with), `good`, `spoiler` and `document`.

    Args:
        excerpts: spoiled or labelled ones.
        prompt: what is asked.
        good: the label of suffixes that are fine; None: excerpts are spoiled ones.
    """
    for one in excerpts:
        shown = [(one.suffix, True), (one.spoiled, False)] if good is None else [(one.suffix, one.label == good)]
        for suffix, fine in shown:
            texts = prompt.in_order({"prefix": one.prefix, "suffix": suffix}, swapped=False)
            known = one.suffix.strip() if one.spoiled else "..."
            target = COPY if fine else f"<{REWRITE}>{known}</{REWRITE}>"
            yield {
                "prompt": prompt_text(prompt, texts), "target": target, "prefix": one.prefix, "suffix": suffix,
                "original": one.suffix, "good": fine, "spoiler": "" if fine else one.spoiler,
                "document": one.document,
            }  # fmt: skip


def prompt_text(rubric: Rubric, texts: Mapping[str, str]) -> str:
    """The one message of a question, without a schema to decode under."""
    (message,) = rubric.messages(texts)
    return message["content"]


def best_label(rubric: Rubric) -> str:
    """The label with the highest score."""
    labels = rubric.axes[VERDICT].labels
    return max(labels, key=lambda label: labels[label])


def check_pair(rubric: Rubric) -> tuple[str, str]:
    """The fields that the rubric compares.

    Raises:
        ConfigError: it compares nothing, or asks for other texts than a prefix and two suffixes.
    """
    if rubric.pair is None or {*rubric.fields} != {"prefix", *rubric.pair}:
        raise ConfigError(
            f"rubric {rubric.name} for pairs of suffixes, which asks for {', '.join(rubric.fields)}",
            reason="a row has a prefix and two suffixes to compare",
            remedy="use pairwise-quality, or a rubric with `prefix` and a `pair`",
        )
    return rubric.pair


def check_single(rubric: Rubric) -> None:
    """Raises ConfigError unless the rubric has a verdict on one continuation."""
    if not rubric.by_label or rubric.pair or {*rubric.fields} != {"prefix", _SINGLE}:
        raise ConfigError(
            f"rubric {rubric.name} for labelled suffixes, which asks for {', '.join(rubric.fields)}",
            reason="a row has a prefix and one continuation, and the answer is a label",
            remedy="use safety, or a rubric with the axis `verdict`, `prefix` and `continuation`",
        )


def read_label(value: Any, rubric: Rubric, place: str) -> str:
    """The rubric's label that a value of a column stands for; "" for null and blank.

    Taken are the labels and their aliases in any case, their scores, and true and false for 1 and 0.

    Raises:
        DataError: a value that is none of these.
    """
    axis = rubric.axes[VERDICT]
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if isinstance(value, bool | int | float):
        found = next((label for label, score in axis.labels.items() if score == value), None)
    else:
        known = {name.casefold(): label for name, label in [*((x, x) for x in axis.labels), *axis.aliases.items()]}
        found = known.get(str(value).strip().casefold())
    if found is None:
        raise DataError(
            f"{place}: label {value!r:.60}",
            reason=f"it is none of rubric {rubric.name}: {', '.join([*axis.labels, *axis.aliases])}",
            remedy="name another column, or write those labels (true and false are 1 and 0)",
        )
    return found
