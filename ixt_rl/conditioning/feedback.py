"""Feedback as text: templates that render it and parse it back, and the feedback that a wish asks for."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from importlib import resources
from math import isfinite
from typing import Any

from ixt_rl.blocks.documents import TAG
from ixt_rl.conditioning.own_template import OwnFeedbackTemplate, own_feedback_template
from ixt_rl.errors import DataError, did_you_mean
from ixt_rl.types import Document, Feedback
from ixt_rl.yaml_io import parse_yaml

_CRITIQUE = "critique:\n"
LOWEST, HIGHEST = 1, 5  # the scale of levels and of the shipped rubrics' axes


@functools.cache
def shipped() -> dict[str, Any]:
    """`templates`, `domains` and `words` of feedback.yaml."""
    source = resources.files("ixt_rl.conditioning").joinpath("feedback.yaml")
    return parse_yaml(source.read_text(encoding="utf-8"), "feedback.yaml").value


@dataclass(frozen=True)
class FeedbackTemplate:
    """Feedback <-> text.

        <one of the five level texts>
        <axis>: <score>                 one line an axis, `_` as a space; with `scores`
        critique:
        <the critique, as it is>        with `critique`

    What is absent in the feedback has no line, so feedback that holds nothing is "".

    Args:
        levels: five different texts of one line, worst first.
        scores: whether axis scores are written.
        critique: whether the critique is written.
        separator: what stands between feedback and document; not part of what `render` gives.

    Raises:
        DataError: the texts cannot be told apart when parsed.
    """

    levels: tuple[str, ...]
    scores: bool = False
    critique: bool = False
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        texts = self.levels
        good = len(texts) == len(set(texts)) == HIGHEST and all(text and "\n" not in text for text in texts)
        if not good or any(text + "\n" == _CRITIQUE or _score_line(text) for text in texts):
            raise DataError(
                f"level texts {list(texts)!r}",
                reason="they could not be told apart when feedback is read back",
                remedy="give five different texts of one line, none of them like `axis: number` or `critique:`",
            )

    def shown(self, feedback: Feedback) -> Feedback:
        """What of `feedback` this template writes: never the judge's name, nor a tag."""
        return replace(
            feedback,
            scores=feedback.scores if self.scores else {},
            critique=feedback.critique if self.critique else "",
            judge="",
            tag="",
        )

    def render(self, feedback: Feedback, document: Document | None = None) -> str:
        """The text, whatever the document; `parse` of it is `shown(feedback)`. Undecided feedback without scores and
        critique is ""."""
        shown = self.shown(feedback)
        parts = [] if shown.level is None else [self.levels[shown.level - 1]]
        parts += [f"{axis.replace('_', ' ')}: {_number(score)}" for axis, score in shown.scores.items()]
        parts += [_CRITIQUE + shown.critique] if shown.critique else []
        return "\n".join(parts)

    def parse(self, text: str) -> Feedback:
        """The feedback that `render` wrote as `text`.

        Raises:
            DataError: this template writes no such text.
        """
        head, critique = _split_critique(text)
        lines = head.split("\n") if head else []
        level = None
        if lines and lines[0] in self.levels:
            level = self.levels.index(lines.pop(0)) + 1
        scores: dict[str, float] = {}
        for line in lines:
            pair = _score_line(line)
            if pair is None or pair[0] in scores:
                raise self._foreign(text, f"the line {line[:80]!r} is neither its level text nor a new `axis: number`")
            scores[pair[0]] = pair[1]
        found = Feedback(level, scores, critique)
        if found != self.shown(found):
            raise self._foreign(text, "it holds scores or a critique, which this template does not write")
        return found

    def _foreign(self, text: str, reason: str) -> DataError:
        shown = text if len(text) <= 80 else text[:77] + "..."
        return DataError(
            f"feedback text {shown!r}",
            reason=reason,
            remedy="parse with the template that rendered it, and without the document or the separator",
        )


def _split_critique(text: str) -> tuple[str, str]:
    """(lines before, critique): the first line `critique:` starts it, and it goes to the end."""
    if text.startswith(_CRITIQUE):
        return "", text[len(_CRITIQUE) :]
    head, _, critique = text.partition("\n" + _CRITIQUE)
    return head, critique


def _score_line(line: str) -> tuple[str, float] | None:
    """(axis, score) of a line `axis: number`, or None."""
    words, separator, number = line.rpartition(": ")
    axis = words.replace(" ", "_")
    try:
        score = float(number)
    except ValueError:
        return None
    named = separator and "_" not in words and axis.isidentifier() and axis == axis.lower()
    return (axis, score) if named and isfinite(score) else None


def _number(score: float) -> str:
    """The shortest text that reads back as `score`; whole numbers without a point."""
    return repr(score).removesuffix(".0")


@dataclass(frozen=True)
class TagTemplate:
    """The tag of a document alone, as MeCo (arXiv 2501.01956) has a document's URL: no judge is asked.

    Args:
        separator: what stands between tag and document.
    """

    separator: str = "\n\n"

    scores = False
    critique = False

    def render(self, feedback: Feedback, document: Document | None = None) -> str:
        """The tag, "" without one."""
        return feedback.tag

    def parse(self, text: str) -> Feedback:
        """The feedback that `render` wrote as `text`."""
        return Feedback(tag=text)


AnyFeedbackTemplate = FeedbackTemplate | TagTemplate | OwnFeedbackTemplate
"""One of this library's, or one's own."""


def wished_feedback(template: AnyFeedbackTemplate | None, wish: str) -> Feedback:
    """What a wish in words asks for: the very tag where tags are shown, else what `target_feedback` reads in it.

    Raises:
        DataError: see `target_feedback`.
    """
    return Feedback(tag=wish) if isinstance(template, TagTemplate) else target_feedback(wish)


def load_feedback_template(spec: str | dict[str, Any]) -> AnyFeedbackTemplate:
    """A template by its name in feedback.yaml, by `python:FILE.py:NAME`, or from a mapping with its fields.

    Raises:
        ConfigError: see `own_feedback_template`.
        DataError: no template has that name, or the fields are not those of a template.
    """
    if isinstance(spec, str):
        if spec.startswith("python:"):
            return own_feedback_template(spec.removeprefix("python:"))
        if spec == TAG:
            return TagTemplate()
        known = shipped()["templates"]
        if spec not in known:
            raise DataError(
                f"feedback template {spec!r}",
                reason="no template has that name",
                remedy=f"{did_you_mean(spec, [*known, TAG])}one of {', '.join([*known, TAG])}",
            )
        return load_feedback_template(known[spec])
    unknown = set(spec) - {"levels", "scores", "critique", "separator"}
    if unknown or "levels" not in spec:
        raise DataError(
            f"feedback template with the fields {', '.join(map(repr, spec))}",
            reason=f"unknown: {', '.join(sorted(map(repr, unknown)))}" if unknown else "`levels` is missing",
            remedy="give `levels` (five texts), and if you like `scores`, `critique`, `separator`",
        )
    return FeedbackTemplate(**{**spec, "levels": tuple(map(str, spec["levels"]))})


def target_feedback(wish: str) -> Feedback:
    """The feedback to put before a prompt at inference, from a wish in words.

    A wish is a comma-separated list, in any order, of at most one domain, at most one word for the quality, and
    scores by name: `best`; `math, best`; `math, best, difficulty=5`. With a domain every axis of it has a score, and
    the critique is the domain's; without, only the level and the scores named are given. The quality is `best` if no
    word is given.

    Raises:
        DataError: a word that is neither, two of a kind, an axis the domain does not have, or a score out of range.
    """
    domains, words = shipped()["domains"], shipped()["words"]
    picked: dict[str, str] = {}
    named: dict[str, float] = {}
    for item in (" ".join(part.split()) for part in wish.split(",")):
        if "=" in item:
            axis, score = _named_score(wish, item)
            named[axis] = score
            continue
        kind = "domain" if item.lower() in domains else "quality" if item.lower() in words else ""
        if not kind or kind in picked:
            raise DataError(
                f"wish {wish!r}",
                reason=f"it names a second {kind}, {item!r}" if kind else f"{item!r} is no domain and no quality",
                remedy=("keep one of them" if kind else did_you_mean(item, [*domains, *words]))
                + f"; domains: {', '.join(domains)}; qualities: {', '.join(words)}; scores: `difficulty=4`",
            )
        picked[kind] = item.lower()
    level = words[picked.get("quality", "best")]
    if "domain" not in picked:
        return Feedback(level, named)
    domain = domains[picked["domain"]]
    scores = {**dict.fromkeys(domain["axes"], level), **domain.get("neutral", {})}
    for axis in named.keys() - scores.keys():
        raise DataError(
            f"wish {wish!r}",
            reason=f"{picked['domain']} has no axis {axis!r}",
            remedy=f"{did_you_mean(axis, list(scores))}its axes: {', '.join(scores)}",
        )
    return Feedback(level, {**scores, **named}, domain["critiques"][level - 1])


def _named_score(wish: str, item: str) -> tuple[str, float]:
    axis, _, text = (part.strip() for part in item.partition("="))
    axis = axis.lower().replace(" ", "_")
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not axis.isidentifier() or not LOWEST <= score <= HIGHEST:
        raise DataError(
            f"wish {wish!r}",
            reason=f"{item!r} is not an axis and a score from {LOWEST} to {HIGHEST}",
            remedy="write it like `difficulty=4`",
        )
    return axis, score
