"""Questions, and what several readings of one question come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor

from ixt_rl.judging.backend import Reply
from ixt_rl.judging.parse import Reading
from ixt_rl.judging.rubric import VERDICT, Rubric
from ixt_rl.types import Feedback, Verdict

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Question:
    """One text to be judged, or two to be compared.

    Args:
        rubric: what is asked.
        fields: the rubric's texts by name.
    """

    rubric: Rubric
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Vote:
    """One reading, and the replies it took (two if the first had to be repaired).

    Args:
        reading: labels are those of the question's own order, also where `swapped`.
        replies: in the order in which they came.
        swapped: whether the pair was asked in the other order.
    """

    reading: Reading
    replies: tuple[Reply, ...]
    swapped: bool = False


@dataclass(frozen=True)
class Answer:
    """What the judge found. Undecided is `verdict.score is None`, with the reason in `verdict.evidence`.

    Args:
        verdict: the overall axis, on 0..1.
        axes: every axis, on 0..1; labels are the values on the rubric's own scale, or the rubric's labels.
        scores: the decided values by axis, on the rubric's own scales.
        critique: the judge's words, from the first reading that has any; of a pair, from one in the question's own
            order, whose words mean by A and B what the question does, and for the label that the pair got.
        votes: everything it rests on.
        judge: the name of the judge.
        consistent: for pairs, whether both orders gave the same label; None if that cannot be said.
    """

    verdict: Verdict
    axes: Mapping[str, Verdict]
    scores: Mapping[str, float]
    critique: str
    votes: tuple[Vote, ...]
    judge: str
    consistent: bool | None = None

    @property
    def replies(self) -> tuple[Reply, ...]:
        return tuple(reply for vote in self.votes for reply in vote.replies)

    @property
    def text(self) -> str:
        """The raw text of the last reply of the first vote."""
        return self.votes[0].replies[-1].text

    @property
    def prompt_tokens(self) -> int:
        return sum(reply.prompt_tokens for reply in self.replies)

    @property
    def completion_tokens(self) -> int:
        return sum(reply.completion_tokens for reply in self.replies)

    @property
    def level(self) -> int | None:
        """The overall verdict in five levels, 1 + round(4 score), or None."""
        return None if self.verdict.score is None else 1 + floor(4 * self.verdict.score + 0.5)

    @property
    def feedback(self) -> Feedback:
        """What a model is conditioned on; the overall value is its level, the other axes its scores."""
        scores = {name: score for name, score in self.scores.items() if name not in ("overall", VERDICT)}
        return Feedback(self.level, scores, self.critique, self.judge)


@dataclass
class Tally:
    """Counts of a judge's work since it was made.

    Args:
        questions: answered, decided or not.
        decided: with an overall score.
        undecided: number of axis readings without a value, by the kind of reason.
        requests: sent to the backend, repairs included; cached ones are not.
        cached: answered from the cache, or together with an equal request under way.
        failed: requests whose transport failed after all retries, or whose function raised.
        refused: requests that cannot be answered.
        truncated: replies cut at `max_new_tokens`.
        looped: replies cut early, because they looped.
        retries: further attempts.
        repairs: answers sent back to be written again.
        repaired: those after which fewer axes were undecided.
        pairs: pairs with a label in both orders.
        disagreed: those whose labels differ.
        prompt_tokens, completion_tokens: of requests, without the cached.
        seconds: sum over requests; those of an endpoint overlap.
        cost: in the currency of the prices given.
    """

    questions: int = 0
    decided: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    cached: int = 0
    failed: int = 0
    refused: int = 0
    truncated: int = 0
    looped: int = 0
    retries: int = 0
    repairs: int = 0
    repaired: int = 0
    pairs: int = 0
    disagreed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def count_reply(self, reply: Reply, prices: tuple[float, float]) -> None:
        """Adds a reply that was asked for; `prices` are per million prompt and completion tokens."""
        self.requests += 1
        self.failed += reply.finish == "failed"
        self.refused += reply.finish == "refused"
        self.truncated += reply.finish == "length"
        self.looped += reply.finish == "looped"
        self.retries += reply.retries
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.seconds += reply.seconds
        self.cost += (prices[0] * reply.prompt_tokens + prices[1] * reply.completion_tokens) / 1e6

    def count_answer(self, answer: Answer) -> None:
        self.questions += 1
        self.decided += answer.verdict.score is not None
        for vote in answer.votes:
            self.undecided.update(reason.partition(":")[0] for reason in vote.reading.reasons.values())
        if answer.consistent is not None:
            self.pairs += 1
            self.disagreed += not answer.consistent


def combine(rubric: Rubric, votes: Sequence[Vote], judge: str) -> Answer:
    """The mean over the decided readings of each axis; of a pair, over the means of both orders.

    A pair of which one order is undecided is undecided: the other order alone has the judge's preference for a place
    in it. The label of several readings is the one that most gave; where two were given equally often, the label whose
    score is nearest to the mean, so that A and B in either order come to a tie.
    """
    seconds = sum(reply.seconds for vote in votes for reply in vote.replies)
    orders = [
        [vote for vote in votes if vote.swapped is swapped] for swapped in ((False, True) if rubric.pair else (False,))
    ]
    axes: dict[str, Verdict] = {}
    scores: dict[str, float] = {}
    for name, axis in rubric.axes.items():
        means = [_mean([vote.reading.values[name] for vote in order]) for order in orders]
        value = None if None in means else _mean(means)
        if value is None:
            reason = next(vote.reading.reasons[name] for vote in votes if name in vote.reading.reasons)
            axes[name] = Verdict(None, UNDECIDED, reason, seconds)
            continue
        scores[name] = value
        label = _label(rubric, votes, value) if axis.labels else f"{value:g}"
        axes[name] = Verdict(axis.unit(value), label, "", seconds)
    consistent = None
    if rubric.pair and scores:
        first, second = (
            _label(rubric, order, _mean([v.reading.values[VERDICT] for v in order]) or 0.0) for order in orders
        )
        consistent = first == second
    verdict = axes[rubric.main]
    critique = _words(rubric, votes, verdict)
    if verdict.score is not None:
        verdict = Verdict(verdict.score, verdict.label, critique, seconds)
    return Answer(verdict, axes, scores, critique, tuple(votes), judge, consistent)


def _words(rubric: Rubric, votes: Sequence[Vote], verdict: Verdict) -> str:
    """See `Answer.critique`; "" where A was named in one order and B in the other: no words say why they are a tie."""
    if rubric.pair:
        votes = [vote for vote in votes if not vote.swapped]
        if verdict.score is not None:
            votes = [vote for vote in votes if vote.reading.label == verdict.label]
    return next((vote.reading.comment for vote in votes if vote.reading.comment), "")


def _mean(values: Sequence[float | None]) -> float | None:
    decided = [value for value in values if value is not None]
    return sum(decided) / len(decided) if decided else None


def _label(rubric: Rubric, votes: Sequence[Vote], mean: float) -> str:
    counts = Counter(vote.reading.label for vote in votes if vote.reading.label).most_common()
    if len(counts) == 1 or counts[0][1] > counts[1][1]:
        return counts[0][0]
    labels = rubric.axes[VERDICT].labels
    return min(labels, key=lambda label: abs(labels[label] - mean))
