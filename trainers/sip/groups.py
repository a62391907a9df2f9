"""What SIP makes of the candidates of one prefix: merged, chosen from, weighed. Plain Python, no model.

Candidates with the same ids are one text, whoever wrote them. Among texts with the same score the best and the worst
are drawn by a hash of (seed, prefix, ids): every text is as likely as any other, in whatever order they come, and
another step or prefix draws anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from ixt_rl.errors import DataError
from ixt_rl.rollout.trl_adapter import call_seed
from ixt_rl.types import SOURCES, Candidate, FinishReason

_BEST, _WORST = 0, 1  # purposes of a draw
_DIGITS = 9  # scores are means, whose last digits depend on the order of the summands
_EPSILON = 1e-4  # of TRL's GRPO, beside the standard deviation


@dataclass(frozen=True)
class Proposed:
    """A candidate as its source gave it, before equal ones become one text.

    Args:
        candidate: not judged yet.
        logprobs: log-probs of its ids as an engine sampled them; None where none did.
        finish_reason: how a rollout ended; None for what was not sampled.
    """

    candidate: Candidate
    logprobs: tuple[float, ...] | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Text:
    """Candidates of one group with the same ids.

    Args:
        candidate: stands for them, with their verdict: of the sources that wrote it the first, in the order original,
            rewrite, rollout, others by name.
        written: how many of them each source wrote.
        logprobs: log-probs of the ids as a rollout's engine sampled them; None without a rollout.
    """

    candidate: Candidate
    written: Counter[str]
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
        fallback: all candidates but the document's own suffix were filtered: nobody is asked, and the suffix, if it is
            a candidate, is the best.
    """

    prefix_ids: tuple[int, ...]
    texts: tuple[Text, ...]
    best: Text | None = None
    worst: Text | None = None
    fallback: bool = False

    @property
    def decided(self) -> list[Text]:
        return [text for text in self.texts if text.score is not None]

    @property
    def tied(self) -> bool:
        """Whether all scores are one, or all candidates are."""
        return len(self.texts) == 1 or (len(self.decided) > 1 and self.worst is None)

    def written_by(self, source: str) -> Text | None:
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
        equal = min(scores) == max(scores)  # of these `fmean` may be another number
        mean, std = scores[0] if equal else fmean(scores), stdev(scores)
        return [(text, (text.score - mean) / (std + _EPSILON)) for text in self.decided if text.score is not None]


def merge(proposed: Iterable[Proposed]) -> tuple[Text, ...]:
    """The different texts among the candidates of a group, which come in any order, sorted by their ids."""
    found: dict[tuple[int, ...], Text] = {}
    for one in sorted(proposed, key=lambda one: _rank(one.candidate.source)):
        candidate = one.candidate
        text = found.get(candidate.ids) or Text(candidate, Counter())
        written = text.written + Counter([candidate.source])
        known = one.logprobs if text.logprobs is None else text.logprobs
        found[candidate.ids] = replace(text, written=written, logprobs=known)
    return tuple(found[ids] for ids in sorted(found))


def _rank(source: str) -> tuple[int, str]:
    return (SOURCES.index(source) if source in SOURCES else len(SOURCES), source)
