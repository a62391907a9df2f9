"""Log-prob margins of preference pairs: by how much the better reply is likelier than the worse, under each wish.

    margin = sum_{t <= n} log p(c_t | f, x, c_<t) - sum_{t <= n} log p(r_t | f, x, r_<t)         nats
    n = the shorter reply's tokens: both are cut to it, without their ends, so that length decides nothing

with prompt x, wished feedback f (or none), chosen c, rejected r. Intervals and p-values are over conversations: pairs
that begin alike are one cluster.

Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.data.preferences import PreferencePair
from ixt_rl.errors import DataError
from ixt_rl.evaluation.statistics import estimate
from ixt_rl.evaluation.statistics.clustered import Clusters, clusters_of, moments
from ixt_rl.evaluation.statistics.paired import sign_flip_test
from ixt_rl.types import Document, Feedback

Ids = tuple[int, ...]

Score = Callable[[Sequence[Ids], Sequence[Ids]], np.ndarray]
"""(N prompts, N replies) as ids -> float64 [N], the log-probs of the replies after their prompts."""

LEVEL = 0.95


class PairMargins:
    """Pairs as tokens, ready to be scored again and again.

    Args:
        pairs: at least one.
        conditioner: makes their tokens, without dropout and with `train_turns: last`.
        wishes: name -> the feedback that is asked for, or None; the first is the arm's own. Neighbours are compared.

    Pairs whose replies are alike as far as they are compared (one goes on where the other ends) have no better one:
    they are left out, and `alike` says how many.

    `rows` has what was last measured of each pair: `begins`, `tokens` (n), and by wish the two log-probs; `of_pairs` by
    metric what each pair has: whether the better reply is ahead, 0 or 1, its margin, and its drop; `nats` by mode what
    the negative log-likelihoods of the `tokens` of each better reply sum to.

    Raises:
        DataError: no pair, or none whose replies differ as far as they are compared.
    """

    def __init__(
        self, pairs: Sequence[PreferencePair], conditioner: Conditioner, wishes: Mapping[str, Feedback | None]
    ):
        if not pairs:
            raise DataError(
                "0 preference pairs to measure",
                reason="none is held out, or all prompts are too long",
                remedy="raise pairs.holdout or pairs.max_prompt_tokens",
            )
        self.wishes = list(wishes)
        asked = {
            name: [_cut(*(_said(conditioner, side, wished) for side in (pair.chosen, pair.rejected))) for pair in pairs]
            for name, wished in wishes.items()
        }
        differ = [place for place, (_, chosen, rejected) in enumerate(asked[self.wishes[0]]) if chosen != rejected]
        self.alike = len(pairs) - len(differ)
        if not differ:
            raise DataError(
                f"{len(pairs)} preference pairs to measure, none with two replies that differ",
                reason="both are compared as far as the shorter one goes",
                remedy="raise pairs.max_reply_tokens, or give other pairs",
            )
        self.asked = {name: [found[place] for place in differ] for name, found in asked.items()}
        self.names = [" / ".join(pairs[place].begins) for place in differ]
        self.tokens = np.array([len(reply) for _, reply, _ in self.asked[self.wishes[0]]], np.float64)
        self.rows: list[dict[str, Any]] = []
        self.of_pairs: dict[str, list[float]] = {}
        self.nats: dict[str, list[float]] = {}

    def __call__(self, score: Score) -> dict[str, float]:
        """`pairs/...` of the first wish, `pairs@<wish>/...` of the others.

        `margin` (nats) and `margin_per_token`, means over pairs; `accuracy`, the share of pairs with a margin above 0;
        `perplexity` of the chosen replies. From the second wish on `drop`, by how much the margin is below that under
        the wish before, with `drop_p`, two-sided, by exchanging signs of conversations. `..._low`, `..._high`: 95 %.
        """
        logp = self._scored(score)
        clusters = clusters_of(self.names, len(self.names))
        margins = {name: both[0] - both[1] for name, both in logp.items()}
        found: dict[str, float] = {}
        for place, name in enumerate(self.wishes):
            mode = f"pairs@{name}" if place else "pairs"
            found |= _with_interval(f"{mode}/margin", margins[name], clusters)
            found |= _with_interval(f"{mode}/margin_per_token", margins[name] / self.tokens, clusters)
            ahead = (margins[name] > 0).astype(np.float64)
            self.of_pairs |= {f"{mode}/accuracy": ahead.tolist(), f"{mode}/margin": margins[name].tolist()}
            right = estimate(ahead, self.names, LEVEL)
            found |= _named(f"{mode}/accuracy", right.value, right.low, right.high)
            self.nats[mode] = (-logp[name][0]).tolist()
            found[f"{mode}/perplexity"] = float(np.exp(-logp[name][0].sum() / self.tokens.sum()))
        for before, name in pairwise(self.wishes):
            drop = margins[before] - margins[name]
            found |= _with_interval(f"pairs@{name}/drop", drop, clusters)
            found[f"pairs@{name}/drop_p"] = sign_flip_test(clusters.sums(drop))
            self.of_pairs[f"pairs@{name}/drop"] = drop.tolist()
        self.rows = [
            {
                "begins": begins,
                "tokens": int(self.tokens[place]),
                "logp": {name: [float(logp[name][side][place]) for side in (0, 1)] for name in self.wishes},
            }
            for place, begins in enumerate(self.names)
        ]
        return found

    def _scored(self, score: Score) -> dict[str, np.ndarray]:
        """By wish float64 [2, P], chosen and rejected; what two wishes show alike is scored once."""
        places: dict[tuple[Ids, Ids], int] = {}
        by_wish = {
            name: np.array(
                [
                    [places.setdefault((prompt, reply), len(places)) for reply in (chosen, rejected)]
                    for prompt, chosen, rejected in asked
                ]
            ).T
            for name, asked in self.asked.items()
        }
        values = score([prompt for prompt, _ in places], [reply for _, reply in places])
        return {name: values[where] for name, where in by_wish.items()}


def _said(conditioner: Conditioner, reply: Document, wished: Feedback | None) -> tuple[Ids, Ids]:
    """(what stands before a reply, the reply without its end), by the code that training uses."""
    (segments,) = conditioner.segments([replace(reply, feedback=wished)], first=0)
    place = next(i for i, segment in enumerate(segments) if segment.role == "completion" and segment.trained)
    before = [token for segment in segments[:place] for token in segment.ids or ()]
    return tuple(before), tuple(segments[place].ids or ())


def _cut(chosen: tuple[Ids, Ids], rejected: tuple[Ids, Ids]) -> tuple[Ids, Ids, Ids]:
    """(prompt, chosen, rejected), both replies of the shorter one's length."""
    n = min(len(chosen[1]), len(rejected[1]))
    return chosen[0], chosen[1][:n], rejected[1][:n]


def _with_interval(name: str, values: np.ndarray, clusters: Clusters) -> dict[str, float]:
    mean = float(values.mean())
    if len(clusters.sizes) < 2:
        return _named(name, mean, None, None)
    found = moments(values, clusters)
    half = found.half_width(LEVEL)
    return _named(name, mean, mean - half, mean + half)


def _named(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, float]:
    given = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: number for key, number in given.items() if number is not None}
