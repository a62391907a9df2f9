"""What SIP makes of the candidates of one prefix: merged, chosen from, weighed. Plain Python, no model.

Candidates with the same ids are one text, whoever wrote them. Among texts with the same score the best and the worst
are drawn by a hash of (seed, prefix, ids): every text is as likely as any other, in whatever order they come, and
another step or prefix draws anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from statistics import fmean, stdev
from typing import get_args

from ixt_rl.errors import DataError
from ixt_rl.rollout.trl_adapter import call_seed
from ixt_rl.types import Candidate, CandidateSource

SOURCES: tuple[CandidateSource, ...] = get_args(CandidateSource)
_BEST, _WORST = 0, 1  # purposes of a draw
_DIGITS = 9  # scores are means, whose last digits depend on the order of the summands
_EPSILON = 1e-4  # of TRL's GRPO, beside the standard deviation


@dataclass(frozen=True)
class Text:
    """Candidates of one group with the same ids.

    Args:
        candidate: stands for them, with their verdict; the original or the rewrite where one of them is.
        written: how many of them each source wrote.
        logprobs: log-probs of the ids as a rollout's engine sampled them; None without a rollout.
    """

    candidate: Candidate
    written: Counter[CandidateSource]
    logprobs: tuple[float, ...] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        return self.candidate.ids

    @property
    def score(self) -> float | None:
        """None: undecided."""
        verdict = self.candidate.verdict
        return None if verdict is None or verdict.score is None else round(verdict.score, _DIGITS)

    @property
    def copies(self) -> int:
        return sum(self.written.values())


@dataclass(frozen=True)
class Group:
    """The candidates of a prefix.

    Args:
        prefix_ids: the prefix.
        texts: the different ones, in the order of `merge`.
        best, worst: texts with the highest and the lowest score, not the same one; None where nothing is decided, and
            the worst also where no score is below the best.
    """

    prefix_ids: tuple[int, ...]
    texts: tuple[Text, ...]
    best: Text | None = None
    worst: Text | None = None

    @property
    def decided(self) -> list[Text]:
        return [text for text in self.texts if text.score is not None]

    @property
    def tied(self) -> bool:
        """Whether all scores are one, or all candidates are."""
        return len(self.texts) == 1 or (len(self.decided) > 1 and self.worst is None)

    def written_by(self, source: CandidateSource) -> Text | None:
        """The first text of that source; of one that writes one, the only one."""
        return next((text for text in self.texts if source in text.written), None)

    def judged(self, candidates: Sequence[Candidate], seed: int) -> Group:
        """With the verdicts of `candidates`, one a text in the texts' order, and with the best and the worst drawn.

        Raises:
            DataError: these are not the texts' candidates.
        """
        if [candidate.ids for candidate in candidates] != [text.ids for text in self.texts]:
            raise DataError(
                f"answers on {len(candidates)} candidates of a group of {len(self.texts)}",
                reason="a judge gives the same candidates back, in the same order",
                remedy="leave a candidate that cannot be judged in its place, with a verdict whose score is None",
            )
        texts = [replace(text, candidate=candidate) for text, candidate in zip(self.texts, candidates, strict=True)]
        scores = [text.score for text in texts if text.score is not None]
        if not scores:
            return replace(self, texts=tuple(texts))
        best = self._draw([text for text in texts if text.score == max(scores)], seed, _BEST)
        worst = None
        if min(scores) < max(scores):
            worst = self._draw([text for text in texts if text.score == min(scores)], seed, _WORST)
        return replace(self, texts=tuple(texts), best=best, worst=worst)

    def _draw(self, texts: Iterable[Text], seed: int, purpose: int) -> Text:
        parts = (seed, purpose, len(self.prefix_ids), *self.prefix_ids)
        return min(texts, key=lambda text: (call_seed(*parts, *text.ids), text.ids))

    def advantages(self) -> list[tuple[Text, float]]:
        """(text, advantage) of the decided texts: GRPO's (score - mean) / (std + 1e-4), over all decided candidates.

        A text counts as often as it was written. Empty where fewer than two candidates are decided.
        """
        scores = [score for text in self.decided for score in [text.score] * text.copies if score is not None]
        if len(scores) < 2:
            return []
        mean, std = fmean(scores), stdev(scores)
        return [(text, (text.score - mean) / (std + _EPSILON)) for text in self.decided if text.score is not None]


def merge(candidates: Sequence[Candidate], logprobs: Sequence[tuple[float, ...] | None]) -> tuple[Text, ...]:
    """The different texts of a group, sorted by their ids.

    Args:
        candidates: in any order.
        logprobs: of each, as it was sampled; None where it was not.
    """
    found: dict[tuple[int, ...], Text] = {}
    ranked = sorted(zip(candidates, logprobs, strict=True), key=lambda pair: SOURCES.index(pair[0].source))
    for candidate, sampled in ranked:
        text = found.get(candidate.ids) or Text(candidate, Counter())
        written = text.written + Counter([candidate.source])
        known = sampled if text.logprobs is None else text.logprobs
        found[candidate.ids] = replace(text, written=written, logprobs=known)
    return tuple(found[ids] for ids in sorted(found))


@dataclass
class Shares:
    """What is logged of groups: lists of values by metric, each with one value a group or a candidate.

    Names, with s a source:

        chosen/s, rejected/s            share of s; a text that several sources wrote counts for each in equal parts
        chosen_raw/s, rejected_raw/s    the same without merging: the share of s among candidates with that score
        chosen_alone/s                  the text was written by s and by nobody else
        score/s, score/best             mean score; undecided ones do not count
        ties/all, ties/best             all scores equal, nothing to choose; several texts have the highest
        identical_share                 candidates equal to another one of their group
        undecided_share                 candidates without a score
        perfect/any_rollout             groups with a rollout of score 1, among those with a decided rollout; on a
                                        pairwise axis it is better than every other text, which ties make rare
        judge/spread                    standard deviation of a score over the judge's repeats, where it says so
    """

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in share_names()})

    def see(self, group: Group, trained: bool) -> None:
        """Counts a judged group; its best and worst only if they are trained on."""
        for text in group.texts:
            for source, written in text.written.items():
                self.values[f"score/{source}"] += [nan if text.score is None else text.score] * written
            self.values["undecided_share"] += [float(text.score is None)] * text.copies
            spread = getattr(text.candidate.verdict, "spread", None)
            self.values["judge/spread"].append(nan if spread is None else spread)
        copies = sum(text.copies for text in group.texts)
        self.values["identical_share"].append(1 - len(group.texts) / copies)
        self.values["ties/all"].append(float(group.tied))
        rollouts = [text.score for text in group.decided if text.written["rollout"]]
        self.values["perfect/any_rollout"].append(float(1.0 in rollouts) if rollouts else nan)
        if group.best is not None:
            self.values["score/best"].append(group.best.score if group.best.score is not None else nan)
            self.values["ties/best"].append(float(len(_equals(group, group.best)) > 1))
        for name, extreme in (("chosen", group.best), ("rejected", group.worst)):
            if trained and extreme is not None:
                self._shares(name, group, extreme)

    def _shares(self, name: str, group: Group, text: Text) -> None:
        rivals = sum((rival.written for rival in _equals(group, text)), Counter())
        for source in SOURCES:
            self.values[f"{name}/{source}"].append(float(source in text.written) / len(text.written))
            self.values[f"{name}_raw/{source}"].append(rivals[source] / rivals.total())
            if name == "chosen":
                self.values[f"chosen_alone/{source}"].append(float([*text.written] == [source]))


@dataclass
class Verified:
    """What a verifier that no training listens to says of groups, logged as means:

    verified/s               correctness of the candidates of source s
    verified/chosen          of the text that is trained on, or preferred; rejected: of the other one
    verified/any_rollout     groups in which some rollout is right
    """

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in verified_names()})

    def see(self, group: Group, right: Sequence[float | None]) -> None:
        """Counts a group; `right` is each text's correctness, None where it is not known."""
        known = [nan if one is None else one for one in right]
        by_ids = {text.ids: one for text, one in zip(group.texts, known, strict=True)}
        for text in group.texts:
            for source, written in text.written.items():
                self.values[f"verified/{source}"] += [by_ids[text.ids]] * written
        rollouts = [by_ids[text.ids] for text in group.texts if text.written["rollout"]]
        self.values["verified/any_rollout"].append(float(1.0 in rollouts) if rollouts else nan)
        for name, extreme in (("chosen", group.best), ("rejected", group.worst)):
            self.values[f"verified/{name}"].append(nan if extreme is None else by_ids[extreme.ids])


def verified_names() -> list[str]:
    """All metrics of `Verified`."""
    return [f"verified/{name}" for name in (*SOURCES, "chosen", "rejected", "any_rollout")]


def share_names() -> list[str]:
    """All metrics of `Shares`."""
    kinds = ("chosen", "chosen_raw", "chosen_alone", "rejected", "rejected_raw", "score")
    single = ("ties/all", "ties/best", "identical_share", "undecided_share", "perfect/any_rollout", "judge/spread")
    return [*(f"{kind}/{source}" for kind in kinds for source in SOURCES), "score/best", *single]


def _equals(group: Group, text: Text) -> list[Text]:
    return [rival for rival in group.texts if rival.score == text.score]
