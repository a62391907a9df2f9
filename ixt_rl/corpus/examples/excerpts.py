"""Documents cut in two and spoiled or labelled: the first half of `ixt-rl examples`.

All cut documents are held in memory, because a suffix is spoiled with those of others, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from ixt_rl.blocks.checks import data_files
from ixt_rl.corpus.examples.spoil import SPOILERS, same_text, spoil
from ixt_rl.corpus.examples.spoil_prompt import load_spoil_prompt
from ixt_rl.corpus.examples.training_rows import Excerpt, read_label
from ixt_rl.data.document_source import DocumentSource, SourceReader
from ixt_rl.data.readers import READERS, Cursor
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.data.token_rows import Documents
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.opening import JudgeSpec, open_judge
from ixt_rl.judging.rubric import Rubric
from ixt_rl.rewriting.rewriter import Rewriter, begun_alike
from ixt_rl.types import Document, SamplingParams

MODEL = "model"
"""The spoiler that is a language model, beside those of `ixt_rl.corpus.examples.spoil`."""

NO_LABEL, NOT_SPOILED = "no label", "not spoiled"


@dataclass(frozen=True)
class ExamplesJob:
    """What the rows depend on.

    Args:
        kind: whom they are for.
        source: a .jsonl, .json or .parquet file, a folder or a pattern of them.
        tokenizer: the policy's, in whose tokens documents are cut.
        asks: name or file of the rubric (judge) or of the rewrite prompt (rewriter).
        suffix_tokens, max_prefix_tokens: see `SuffixStream`.
        text, prompt: columns of the document, and of what it replies to.
        label: column that says of each document whether its suffix is fine; None: suffixes are spoiled.
        label_rubric: whose labels that column has.
        documents: how many are used; None: all.
        spoilers: names of `SPOILERS`, and `model`.
        model: who is the spoiler `model`.
        sampling: of the model.
        cache: file of the model's replies.
        seed: of all choices.

    Raises:
        ConfigError: settings that do not go together.
    """

    kind: Literal["judge", "rewriter"]
    source: str
    tokenizer: Any
    asks: str
    suffix_tokens: int = 128
    max_prefix_tokens: int = 1920
    text: str = "text"
    prompt: str | None = None
    label: str | None = None
    label_rubric: str = "safety"
    documents: int | None = None
    spoilers: tuple[str, ...] = tuple(SPOILERS)
    model: JudgeSpec | None = None
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(512))
    cache: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.spoilers if name not in (*SPOILERS, MODEL)]
        if unknown or not self.spoilers:
            raise ConfigError(
                f"spoilers {', '.join(self.spoilers) or '(none)'}",
                reason=f"there is no {unknown[0]}" if unknown else "nothing would be spoiled",
                remedy=f"choose of {', '.join([*SPOILERS, MODEL])}",
            )
        if (MODEL in self.spoilers) != (self.model is not None):
            raise ConfigError(
                f"spoilers {', '.join(self.spoilers)} with{'' if self.model else 'out'} a model",
                reason="the spoiler `model` is a language model, and nothing else asks one",
                remedy="give --model and the spoiler `model`, or neither",
            )
        if self.label is not None and self.model is not None:
            raise ConfigError(
                "a label and a model", reason="labelled suffixes are not spoiled", remedy="give one of the two"
            )


@dataclass
class ExamplesMade:
    """What a job gave.

    Args:
        documents: of which there are rows.
        rows: written.
        spoilers: documents by who spoiled them.
        labels: documents by label.
        skipped: documents without a row, by reason.
    """

    documents: int = 0
    rows: int = 0
    spoilers: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        parts = [f"{self.rows} rows of {self.documents} documents"]
        for name, counts in (("spoiled", self.spoilers), ("labels", self.labels), ("skipped", self.skipped)):
            if counts:
                parts.append(f"{name}: " + ", ".join(f"{key} {counts[key]}" for key in sorted(counts)))
        return "; ".join(parts)


def make_excerpts(job: ExamplesJob, rubric: Rubric | None, made: ExamplesMade) -> list[Excerpt]:
    """The documents cut; labelled by the rubric's labels, or spoiled without a rubric."""
    if job.model is not None:
        job.model.check(job.sampling)
    labels: dict[str, str] = {}
    stream = SuffixStream(
        cast(Documents, _documents(job, rubric, labels)),  # read once, so that no cursor is asked for
        job.tokenizer,
        suffix_tokens=job.suffix_tokens,
        max_prefix_tokens=job.max_prefix_tokens,
        skip=lambda document: "" if rubric is None or labels[document.key] else NO_LABEL,
    )
    items = list(islice(stream, job.documents))
    decode = partial(job.tokenizer.decode, skip_special_tokens=True)
    # White space at the end would tell an original from what is spoiled.
    plain = [Excerpt(decode(x.prefix_ids), decode(x.suffix_ids).rstrip(), x.key, label=labels[x.key]) for x in items]
    found = plain if rubric is not None else _spoiled(job, items, plain)
    made.documents = len(found)
    made.skipped.update(stream.counts.skipped)
    made.skipped.update({NOT_SPOILED: len(plain) - len(found)} if len(found) < len(plain) else {})
    made.spoilers.update(one.spoiler for one in found if one.spoiler)
    made.labels.update(one.label for one in found if one.label)
    return found


def _documents(job: ExamplesJob, rubric: Rubric | None, labels: dict[str, str]) -> Iterator[Document]:
    """One pass over the files; fills `labels` by the documents' keys."""
    source = DocumentSource(tuple(data_files(job.source)), job.text, job.prompt, feedback=None)
    if source.is_hub:
        raise DataError(
            f"{job.source}: no such file",
            reason=f"rows are read from files that end in {', '.join(READERS)}",
            remedy="name such a file, a folder or a pattern; save a dataset of the hub as one first",
        )
    SourceReader(source).check()
    wanted = [*source.columns, *([job.label] if job.label else [])]
    for file in source.files:
        cursor = Cursor()
        for row in READERS[Path(file).suffix](file, cursor, wanted):
            key = f"{file}:{cursor.row}"
            for column in wanted:
                if column not in row or (column != job.label and not isinstance(row[column], str)):
                    raise DataError(
                        f"{key}: column {column!r}",
                        reason=f"it holds {type(row[column]).__name__}, not text" if column in row else "it is missing",
                        remedy=f"its columns are {', '.join(row)}: name another, or remove the row",
                    )
            labels[key] = read_label(row[job.label], rubric, key) if rubric is not None and job.label else ""
            if not row[job.text].isspace() and row[job.text]:
                yield Document(row[job.text], row[job.prompt] if job.prompt else "", None, key)


def _spoiled(job: ExamplesJob, items: Sequence[PrefixSuffix], plain: Sequence[Excerpt]) -> list[Excerpt]:
    """The excerpts with what they are spoiled into; those that nobody can spoil are left out."""
    random = [Random(f"{job.seed}/{index}") for index in range(len(items))]
    orders = [one.sample(job.spoilers, len(job.spoilers)) for one in random]
    by_model = _by_model(job, [item for item, order in zip(items, orders, strict=True) if order[0] == MODEL])
    suffixes = [one.suffix for one in plain]
    found: list[Excerpt] = []
    for one, numbers, order in zip(plain, random, orders, strict=True):
        text = next(by_model) if order[0] == MODEL else None
        if text and not same_text(text, one.suffix):
            worse: tuple[str, str] | None = (MODEL, begun_alike(text.rstrip(), one.suffix))
        else:
            worse = spoil(one.suffix, numbers, suffixes, [name for name in order if name != MODEL])
        if worse is not None:
            found.append(Excerpt(one.prefix, one.suffix, one.document, *worse))
    return found


def _by_model(job: ExamplesJob, items: Sequence[PrefixSuffix]) -> Iterator[str | None]:
    """What the model makes of each suffix, in order; None where it gives nothing that can be used."""
    if job.model is None or not items:
        return iter(())
    cache = JudgeCache(job.cache) if job.cache else None
    with open_judge(job.model, job.sampling) as backend:
        ask = Rewriter(
            backend, job.sampling, job.tokenizer, load_spoil_prompt(), suffix_tokens=job.suffix_tokens, cache=cache
        )
        candidates = ask(items)
    if cache is not None:
        cache.close()
    return iter([None if one is None else one.text for one in candidates])
