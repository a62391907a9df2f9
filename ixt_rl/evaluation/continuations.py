"""How well a policy continues held-out prefixes: measured text by text, and compared with another's continuations.

prefixes -> engine, in several modes -> texts --Examiner--> properties of each text
                                              --Examiner--> ours against theirs: wins, ties, losses
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ixt_rl.errors import DataError
from ixt_rl.evaluation.evaluate import Mode
from ixt_rl.judging.candidates import CandidateJudge, CandidateVerdict
from ixt_rl.ngrams import copied_share, repeated_share
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.types import Candidate
from ixt_rl.worlds.passages import Passage

QUALITY = "quality"
_NGRAM = 4


class Examiner(Protocol):
    """An independent judge: one that no training listens to."""

    def measure(self, passages: Sequence[Passage], texts: Sequence[str]) -> list[Mapping[str, float | None]]:
        """Properties of each text, on 0..1; None is undecided, and leaves a mean untouched."""
        ...

    def compare(self, passages: Sequence[Passage], ours: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        """1 where ours is the better text, 0 where theirs is, 0.5 for a tie; None is undecided.

        One that compares nothing has an attribute `compares = False`; one that has read the originals, and so cannot
        compare with them, `reads_originals = True`. They are not asked then."""
        ...


class WorldExaminer:
    """A world's verifier, which knows all: `world.measure(prefix, original, text)`, compared by its `quality`."""

    def __init__(self, world: Any):
        self.world = world

    def measure(self, passages: Sequence[Passage], texts: Sequence[str]) -> list[Mapping[str, float | None]]:
        return [self.world.measure(p.prefix, p.suffix, text) for p, text in zip(passages, texts, strict=True)]

    def compare(self, passages: Sequence[Passage], ours: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        pairs = zip(self.measure(passages, ours), self.measure(passages, theirs), strict=True)
        return [_better(mine[QUALITY], other[QUALITY]) for mine, other in pairs]


class JudgeExaminer:
    """Any judge: its pointwise axes measure, its pairwise axis `quality` compares.

    Args:
        pointwise: judge of the pointwise axes; None where there are none.
        pairwise: judge of `quality` alone; None where nothing is compared.
    """

    def __init__(self, pointwise: CandidateJudge | None, pairwise: CandidateJudge | None):
        self.pointwise, self.pairwise = pointwise, pairwise
        self.compares = pairwise is not None

    def measure(self, passages: Sequence[Passage], texts: Sequence[str]) -> list[Mapping[str, float | None]]:
        if self.pointwise is None:
            return [{} for _ in texts]
        groups = [[Candidate("rollout", (), text)] for text in texts]
        found = self.pointwise([p.prefix for p in passages], [p.suffix for p in passages], groups)
        return [_axes(group[0]) for group in found]

    def compare(self, passages: Sequence[Passage], ours: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        assert self.pairwise is not None  # `compares` says so
        groups = [
            [Candidate("rollout", (), mine), Candidate("original", (), other)]
            for mine, other in zip(ours, theirs, strict=True)
        ]
        asked = [index for index, (mine, other) in enumerate(groups) if mine.text != other.text]
        found = self.pairwise(
            [passages[i].prefix for i in asked], [passages[i].suffix for i in asked], [groups[i] for i in asked]
        )
        scores: list[float | None] = [0.5] * len(groups)  # equal texts tie
        for index, (mine, _) in zip(asked, found, strict=True):
            score = mine.verdict.score if mine.verdict else None
            scores[index] = None if score is None else _better(score, 0.5)
        return scores


class Continued(NamedTuple):
    """What `evaluate_continuations` found.

    Args:
        metrics: by `<mode>/<metric>`.
        texts: by mode, one a passage.
        samples: to read.
        values: by `<mode>/<metric>`, one a passage: its properties, its comparisons as `win_rate`, `repetition` and
            `copying`; None: undecided.
    """

    metrics: dict[str, float]
    texts: dict[str, list[str]]
    samples: list[dict[str, Any]]
    values: dict[str, list[float | None]]


def evaluate_continuations(
    engine: RolloutEngine,
    tokenizer: Any,
    passages: Sequence[Passage],
    modes: Sequence[Mode],
    examiner: Examiner,
    opponent: Mapping[str, Sequence[str]] | None = None,
    beside: Mapping[str, Examiner] | None = None,
) -> Continued:
    """What there is to say of a policy's continuations.

    Of every property the mean over texts where it is decided; `length` (tokens), `ended` (share that was not
    cut off); `repetition` and `copying`, means of the shares of a text's 4-grams of tokens that were there before, and
    that stand in what the policy was shown (a policy that says more of both may please its judge alone); and of the
    comparisons, over those that are decided, the shares `wins`, `ties`, `losses`; `win_rate` = wins + ties / 2 and
    `win_share` = wins / (wins + losses), which leaves ties out. `undecided` is the share of texts that some of this
    leaves out: a property or the comparison is undecided.

    Args:
        modes: with the prompts of `passages`, and n = 1.
        examiner: measures and compares.
        opponent: the other side's texts by mode; None: the originals.
        beside: further examiners. Their properties stand beside the first one's, their win rates are called
            `<name>_win_rate`.

    Raises:
        DataError: the opponent has other modes, or fewer texts.
    """
    metrics: dict[str, float] = {}
    texts: dict[str, list[str]] = {}
    samples: list[dict[str, Any]] = []
    values: dict[str, list[float | None]] = {}
    for mode in modes:
        rollouts = [group[0] for group in engine.generate(mode.prompts, mode.sampling, 1)]
        ours = [text_before_stop(tokenizer, one.completion_ids, mode.sampling.stop) for one in rollouts]
        theirs = [passage.suffix for passage in passages] if opponent is None else _texts_of(opponent, mode, passages)
        measured = examiner.measure(passages, ours)
        compares = _compares(examiner, opponent)
        compared: list[float | None] = [None] * len(ours)
        if compares:
            compared = examiner.compare(passages, ours, theirs)
        counted = [
            {
                "repetition": repeated_share(one.completion_ids, _NGRAM),
                "copying": copied_share(one.completion_ids, ids, _NGRAM),
            }
            for one, ids in zip(rollouts, mode.prompts, strict=True)
        ]
        asked = zip(measured, compared, strict=True)
        said = [(*found.values(), score) if compares else (*found.values(),) for found, score in asked]
        ours_by_itself = [
            {
                **({"undecided": float(None in answers)} if answers else {}),
                "length": float(len(rollout.completion_ids)),
                "ended": float(rollout.finish_reason != "length"),
            }
            for answers, rollout in zip(said, rollouts, strict=True)
        ]
        means = _means(measured) | _means(ours_by_itself) | _means(counted) | _shares(compared)
        decided = {"win_rate": compared} if compares else {}
        for name, other in (beside or {}).items():
            further = other.measure(passages, ours)
            measured = [{**found, **more} for found, more in zip(measured, further, strict=True)]
            means |= _means(further)
            if _compares(other, opponent):
                decided[f"{name}_win_rate"] = scores = other.compare(passages, ours, theirs)
                if "win_rate" in (shares := _shares(scores)):
                    means[f"{name}_win_rate"] = shares["win_rate"]
        names = dict.fromkeys(name for found in measured for name in found)
        values |= {f"{mode.name}/{name}": [found.get(name) for found in measured] for name in names}
        values |= {f"{mode.name}/{name}": scores for name, scores in decided.items()}
        values |= {f"{mode.name}/{name}": [found[name] for found in counted] for name in ("repetition", "copying")}
        metrics |= {f"{mode.name}/{name}": mean for name, mean in means.items()}
        texts[mode.name] = ours
        for passage, text, found, score in list(zip(passages, ours, measured, compared, strict=True))[: mode.keep]:
            right = found.get("right")
            samples.append(
                {
                    **({} if right is None else {"checked": right == 1}),
                    "mode": mode.name,
                    "question": passage.prefix,
                    "answer": passage.suffix,
                    "completion": text,
                    "length": len(text.split()),
                    **{name: value for name, value in found.items() if value is not None},
                    "against": {None: "undecided", 1.0: "wins", 0.5: "ties", 0.0: "loses"}[score],
                }
            )
    return Continued(metrics, texts, samples, values)


def _compares(examiner: Examiner, opponent: Mapping[str, Sequence[str]] | None) -> bool:
    """Whether there is something to ask it: who has read the originals finds nothing as good as they are."""
    return getattr(examiner, "compares", True) and not (
        opponent is None and getattr(examiner, "reads_originals", False)
    )


def _means(measured: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Of every property the mean over texts where it is decided."""
    values: dict[str, list[float]] = defaultdict(list)
    for found in measured:
        for name, value in found.items():
            if value is not None:
                values[name].append(value)
    return {name: math.fsum(v) / len(v) for name, v in values.items()}


def _shares(compared: Sequence[float | None]) -> dict[str, float]:
    decided = [score for score in compared if score is not None]
    if not decided:
        return {}
    wins, losses = decided.count(1.0), decided.count(0.0)
    ties = len(decided) - wins - losses
    shares = {"wins": wins, "ties": ties, "losses": losses, "win_rate": wins + ties / 2}
    found = {name: count / len(decided) for name, count in shares.items()}
    return found | ({"win_share": wins / (wins + losses)} if wins + losses else {})


def _texts_of(opponent: Mapping[str, Sequence[str]], mode: Mode, passages: Sequence[Passage]) -> Sequence[str]:
    found = opponent.get(mode.name, ())
    if len(found) < len(passages):
        raise DataError(
            f"{len(found)} continuations to compare with in mode {mode.name}",
            reason=f"{len(passages)} prefixes are measured; the other has {', '.join(opponent) or 'no modes'}",
            remedy="give both stages the same evaluation.prefixes and temperatures",
        )
    return found[: len(passages)]


def _better(mine: float | None, other: float | None) -> float | None:
    if mine is None or other is None:
        return None
    return 1.0 if mine > other else 0.0 if mine < other else 0.5


def _axes(candidate: Candidate) -> Mapping[str, float | None]:
    verdict = candidate.verdict
    return verdict.axes if isinstance(verdict, CandidateVerdict) else {}
