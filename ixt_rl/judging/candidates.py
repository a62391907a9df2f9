"""SIP's judge: the candidates of a prefix, compared with each other and judged each on its own.

groups --distinct texts--> questions of every axis --Judge.ask--> answers --mean by text and axis--> weighted mean

Nothing here depends on the order of the candidates: a group's texts are sorted before they are asked for, so that a
pair is the same question, with the same seeds and the same place in the cache, wherever its texts stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import isfinite
from statistics import stdev
from typing import Literal, get_args

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.judging.answer import UNDECIDED, Answer, Question
from ixt_rl.judging.client import Judge
from ixt_rl.judging.rubric import Rubric, load_rubric, whole_characters
from ixt_rl.types import Candidate, Verdict

Against = Literal["all", "original"]
"""What pairwise axes compare a text with: every other one of its group, or the original suffix as the pivot."""

QUALITY = "quality"
_FILES = {QUALITY: "pairwise-quality"}
_BESIDE = ("prefix", "original")  # texts a rubric may ask for besides those it judges


@dataclass(frozen=True)
class CandidateVerdict(Verdict):
    """A verdict with what it is made of.

    Args:
        axes: the score of each axis on 0..1; None where it is undecided.
        spread: standard deviation (n - 1) of the score over the repeats in which it is decided; None below two.
    """

    axes: Mapping[str, float | None] = field(default_factory=dict)
    spread: float | None = None


@dataclass
class CandidateTally:
    """Counts since the judge was made; what undecided answers died of is in `Judge.tally`.

    Args:
        groups: prefixes whose candidates were judged.
        candidates: in all of them.
        merged: candidates with the text of another one of their group, judged with it.
        undecided: candidates without a score, the merged ones included.
        comparisons: pairs of texts compared, each in both orders.
        ties: of which with a score of exactly 1/2, because neither is better or because the orders disagree.
        comparisons_undecided: of which without a score.
        ordered: of which with a label in both orders.
        inconsistent: of which with another label in each order.
        single: texts judged on their own, once for each such axis.
        single_undecided: of which without a score.
    """

    groups: int = 0
    candidates: int = 0
    merged: int = 0
    undecided: int = 0
    comparisons: int = 0
    ties: int = 0
    comparisons_undecided: int = 0
    ordered: int = 0
    inconsistent: int = 0
    single: int = 0
    single_undecided: int = 0

    @property
    def self_agreement(self) -> float | None:
        """Share of comparisons in which both orders gave the same label; None without one."""
        return 1 - self.inconsistent / self.ordered if self.ordered else None

    def count_answer(self, answer: Answer, compared: bool) -> None:
        score = answer.verdict.score
        if not compared:
            self.single += 1
            self.single_undecided += score is None
            return
        self.comparisons += 1
        self.ties += score == 0.5
        self.comparisons_undecided += score is None
        self.ordered += answer.consistent is not None
        self.inconsistent += answer.consistent is False


@dataclass(frozen=True)
class _Judged:
    """One question, and the texts that its answer is about: one, or the two of a comparison."""

    axis: str
    texts: tuple[str, ...]
    question: Question


@dataclass(frozen=True)
class _Found:
    """What one answer says of one text: on 0..1 over all repeats, and by repeat."""

    score: float | None
    repeats: tuple[float | None, ...]
    seconds: float

    def changed(self, change: Callable[[float], float]) -> _Found:
        """With every decided value changed."""
        values = [None if value is None else change(value) for value in (self.score, *self.repeats)]
        return _Found(values[0], tuple(values[1:]), self.seconds)


class CandidateJudge:
    """Gives the candidates of a prefix their verdicts.

    The score of a candidate is the weighted mean of its axes, on 0..1. On a pairwise axis (quality) that is the mean
    over its decided comparisons of win = 1, tie = 1/2, loss = 0; a comparison is asked in both orders and is the mean
    of the two. On the others (safety, factuality) it is the judge's score of the text. Both are means over the judge's
    `repeats`. A candidate with an axis on which nothing is decided is undecided as a whole, because a mean over other
    axes than its rivals' could not be compared with theirs; so is, on a pairwise axis, a text without a rival.

    Bad answers never raise. A backend that is down is retried, skipped and in the end given up as `Judge` says.

    Args:
        judge: asks; its repeats, sampling, cache and patience are used.
        weights: axis -> weight above 0. An axis is `quality` (rubric `pairwise-quality`), or any rubric by name or
            file, such as `safety` and `factuality`, whose texts are `prefix`, `original` and `continuation`.
        against: `all`: K (K - 1) / 2 comparisons of K distinct texts; `original`: one for each text but the original
            suffix, with it. It need not be a candidate; as one it scores 1/2.

    Raises:
        ConfigError: no axis, a weight that is no positive number, an unknown `against`, or a rubric that asks for
            other texts.
        DataError: no such rubric.
    """

    def __init__(self, judge: Judge, weights: Mapping[str, float], *, against: Against = "all"):
        if against not in get_args(Against):
            raise ConfigError(
                f"against={against!r}",
                reason="texts are compared with all others, or with the original",
                remedy=f"{did_you_mean(against, list(get_args(Against)))}one of {', '.join(get_args(Against))}",
            )
        _check_weights(weights)
        self.judge, self.against = judge, against
        self.weights = dict(weights)
        self.rubrics = load_axes(weights)
        self.tally = CandidateTally()

    @property
    def parameters(self) -> int | None:
        """Of the judge's model; None where nobody says."""
        return self.judge.parameters

    def __call__(
        self, prefixes: Sequence[str], originals: Sequence[str], groups: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        """The same candidates in the same order, with verdicts (`CandidateVerdict`).

        Args:
            prefixes: one a group.
            originals: the documents' own suffixes, one a group.
            groups: candidates of each prefix; those with equal texts are judged once.

        Raises:
            DataError, BackendFailed: see `Judge.stream`.
        """
        asked = [
            list(self._questions(prefix, original, sorted({candidate.text for candidate in group})))
            for prefix, original, group in zip(prefixes, originals, groups, strict=True)
        ]
        answers = iter(self.judge.ask(entry.question for entries in asked for entry in entries))
        return [
            self._judged(original, group, [(entry, next(answers)) for entry in entries])
            for original, group, entries in zip(originals, groups, asked, strict=True)
        ]

    def _questions(self, prefix: str, original: str, texts: Sequence[str]) -> Iterator[_Judged]:
        known = {"prefix": prefix, "original": original}
        about: tuple[str, ...]
        for axis, rubric in self.rubrics.items():
            names = rubric.pair or ("continuation",)
            for about in self._compared(original, texts) if rubric.pair else zip(texts):
                fields = known | dict(zip(names, about, strict=True))
                shown = [name for name in fields if name in (*rubric.fields, *rubric.optional)]
                used = {name: whole_characters(fields[name]) for name in shown}
                yield _Judged(axis, about, Question(rubric, used))

    def _compared(self, original: str, texts: Sequence[str]) -> Iterable[tuple[str, str]]:
        if self.against == "all":
            return combinations(texts, 2)
        return [(min(text, original), max(text, original)) for text in texts if text != original]

    def _judged(
        self, original: str, group: Sequence[Candidate], answers: Sequence[tuple[_Judged, Answer]]
    ) -> list[Candidate]:
        found: dict[str, dict[str, list[_Found]]] = {
            candidate.text: {axis: [] for axis in self.weights} for candidate in group
        }
        for entry, answer in answers:
            compared = len(entry.texts) == 2
            self.tally.count_answer(answer, compared)
            one = _of_first(answer, self.rubrics[entry.axis])
            for text in entry.texts:
                if compared and self.against == "original" and text == original:
                    of_text = one.changed(lambda _: 0.5)  # the pivot is as good as itself
                else:
                    of_text = one if text == entry.texts[0] else one.changed(lambda score: 1 - score)
                if text in found:
                    found[text][entry.axis].append(of_text)
        verdicts = {text: self._verdict(by_axis) for text, by_axis in found.items()}
        judged = [replace(candidate, verdict=verdicts[candidate.text]) for candidate in group]
        self.tally.groups += 1
        self.tally.candidates += len(group)
        self.tally.merged += len(group) - len(verdicts)
        self.tally.undecided += sum(verdicts[candidate.text].score is None for candidate in group)
        return judged

    def _verdict(self, by_axis: Mapping[str, Sequence[_Found]]) -> CandidateVerdict:
        axes = {axis: _mean([one.score for one in found]) for axis, found in by_axis.items()}
        seconds = sum(one.seconds for found in by_axis.values() for one in found)
        by_repeat = [
            self._weighted({axis: _mean([one.repeats[r] for one in found]) for axis, found in by_axis.items()})
            for r in range(self.judge.repeats)
        ]
        decided = [score for score in by_repeat if score is not None]
        spread = stdev(decided) if len(decided) > 1 else None
        score = self._weighted(axes)
        evidence = ", ".join(f"{axis} {UNDECIDED if s is None else f'{s:.4g}'}" for axis, s in axes.items())
        return CandidateVerdict(score, UNDECIDED if score is None else "judged", evidence, seconds, axes, spread)

    def _weighted(self, axes: Mapping[str, float | None]) -> float | None:
        """sum_a w_a s_a / sum_a w_a, or None if an axis is undecided."""
        total = 0.0
        for axis, weight in self.weights.items():
            score = axes[axis]
            if score is None:
                return None
            total += weight * score
        return total / sum(self.weights.values())


def _of_first(answer: Answer, rubric: Rubric) -> _Found:
    """What an answer says of the text, or of the first of two."""
    axis = rubric.axes[rubric.main]
    values = [vote.reading.values[rubric.main] for vote in answer.votes]
    votes = [None if value is None else axis.unit(value) for value in values]
    if rubric.pair:  # the votes of one order, then as many of the other
        half = len(votes) // 2
        votes = [_both(first, second) for first, second in zip(votes[:half], votes[half:], strict=True)]
    return _Found(answer.verdict.score, tuple(votes), answer.verdict.seconds)


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2


def _mean(values: Sequence[float | None]) -> float | None:
    """Over the decided; None without one."""
    decided = [value for value in values if value is not None]
    return sum(decided) / len(decided) if decided else None


def _check_weights(weights: Mapping[str, float]) -> None:
    if not weights:
        raise ConfigError("weights={}", reason="a judge needs an axis", remedy="give for instance {quality: 1.0}")
    for axis, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight) or weight <= 0:
            raise ConfigError(
                f"weight={weight!r} of axis {axis}",
                reason="a score is the weighted mean of its axes",
                remedy="give a positive number, or leave the axis out",
            )


def load_axes(names: Iterable[str]) -> dict[str, Rubric]:
    """The rubric of each axis of candidates.

    Raises:
        DataError: see `load_rubric`.
        ConfigError: one asks for what candidates do not have.
    """
    rubrics = {name: load_rubric(_FILES.get(name, name)) for name in names}
    for rubric in rubrics.values():
        _check_rubric(rubric)
    return rubrics


def _check_rubric(rubric: Rubric) -> None:
    judged = rubric.pair or ("continuation",)
    unknown = sorted({*rubric.fields} - {*_BESIDE, *judged})
    if unknown or not {*judged} <= {*rubric.fields}:
        raise ConfigError(
            f"rubric {rubric.name} for candidates, which asks for {', '.join(rubric.fields)}",
            reason=f"a group of candidates has no {', '.join(unknown)}" if unknown else "it reads no `continuation`",
            remedy="use `prefix` and `original`, and `continuation` or a `pair`",
        )
