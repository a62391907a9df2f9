"""What the last evaluation found problem by problem, kept beside a stage's metrics: intervals and paired differences.

answered.json     sets:  of problems, one for each kind that is measured (problems, pairs, documents):
                      questions: hash of the problems, in order
                      values:    `<mode>/<metric>` -> the mean over samples of each problem, null where undecided
                      nats:      `<mode>` -> what the negative log-likelihoods of each problem's `tokens` sum to
                      clusters:  of each problem, what it shares with others, such as a document; missing: each its own
                  start: `<mode>/<metric>_low` and `_high` of the evaluation before the first update
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ixt_rl.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

    from ixt_rl.evaluation.evaluate import Answers
    from ixt_rl.evaluation.statistics.means import MeanValue
    from ixt_rl.run.folder import StageFolder

ANSWERED = "answered.json"
METRICS = ("strict", "checked")
PERPLEXITY = "/perplexity"
LARGEST = 700
"""Of a loss in nats whose perplexity is a float64."""


def write_answered(folder: Path, answers: Answers, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keeps the values of `METRICS` of every problem, in place of those of an evaluation before."""
    from ixt_rl.evaluation.controls import over_samples

    values = {
        f"{mode}/{name}": [None if math.isnan(value) else value for value in over_samples(found[name]).tolist()]
        for mode, found in answers.values.items()
        for name in METRICS
        if name in found
    }
    keep_answered(folder, [[row["question"], row["answer"]] for row in rows], values)


def keep_answered(
    folder: Path,
    questions: Sequence[Any],
    values: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str] | None = None,
    nats: Mapping[str, Sequence[float]] | None = None,
    tokens: Sequence[int] | None = None,
) -> None:
    """Keeps values of each question, in place of those of an evaluation before; other metrics' stay.

    Args:
        questions: Q of them, as JSON; two stages with the same ones are compared one by one.
        values: `<mode>/<metric>` -> Q numbers, None where undecided.
        clusters: of each question, for intervals; None: each its own.
        nats: `<mode>` -> Q sums over the `tokens` of each question, of which `<mode>/perplexity` is made.
    """
    asked = sha256(json.dumps(questions, default=str).encode()).hexdigest()
    given = {"clusters": clusters, "nats": nats, "tokens": tokens}
    there = {name: value for name, value in given.items() if value is not None}
    found = {"questions": asked, "values": values} | there
    others = [one for one in _sets(folder) if _metrics(one).isdisjoint(_metrics(found))]
    write_json(folder / ANSWERED, {"sets": [*others, found], "start": of_start(folder)})


def keep_start(folder: Path) -> None:
    """Keeps the intervals of what is kept, the evaluation before the first update."""
    kept = read_json(folder / ANSWERED)
    if kept is not None:
        write_json(folder / ANSWERED, {**kept, "start": intervals(folder)})


def of_start(folder: Path) -> dict[str, float]:
    """What `keep_start` has kept; nothing where it has not."""
    return (read_json(folder / ANSWERED) or {}).get("start", {})


def intervals(folder: Path) -> dict[str, float]:
    """`<mode>/<metric>_low` and `_high` of what is kept: 95 %, over problems; nothing where nothing is."""
    found: dict[str, float] = {}
    kept = _sets(folder)
    for name in sorted(set().union(*map(_metrics, kept))):
        interval = _interval([kept], name)
        if interval is not None:
            found |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
    return found


def interval_of(metric: str, stages: Sequence[StageFolder], others: Sequence[StageFolder]) -> dict[str, float]:
    """`low` and `high` of a metric's mean over seeds, of a difference with its two-sided p-value as `p`.

    Over problems: 95 %. A difference is paired by problem, and has no interval where the two were measured on others;
    one of perplexities has none (see `ratio_of`).

    Args:
        metric: `<mode>/<metric>`.
        stages: folders of a stage, one a seed.
        others: of the stage that is subtracted; empty: none is.
    """
    if not others:
        found = _interval([_sets(folder.path) for folder in stages], metric)
        return {} if found is None else {"low": found[0], "high": found[1]}
    both = [_values([_sets(folder.path) for folder in folders], metric) for folders in (stages, others)]
    if both[0] is None or both[1] is None or both[0].questions != both[1].questions or both[0].tokens is not None:
        return {}
    import numpy as np

    from ixt_rl.evaluation.statistics import paired_values

    own, other = both[0].values, both[1].values
    if np.isnan(own - other).all():
        return {}
    difference = paired_values(own, other, both[0].clusters)
    given = {"low": difference.low, "high": difference.high, "p": difference.p_value}
    return {name: value for name, value in given.items() if value is not None}


def ratio_of(metric: str, stages: Sequence[StageFolder], others: Sequence[StageFolder]) -> dict[str, float]:
    """`low`, `high` and `p` of a perplexity over that of other stages on the same tokens; nothing for other metrics.

    95 %, over problems; with several seeds a perplexity is that of their mean loss.
    """
    own, other = (_values([_sets(folder.path) for folder in folders], metric) for folders in (stages, others))
    if own is None or other is None or own.questions != other.questions:
        return {}
    if own.tokens is None or other.tokens is None or own.tokens.tolist() != other.tokens.tolist():
        return {}

    from ixt_rl.evaluation.statistics import mean_per_token
    from ixt_rl.evaluation.statistics.clustered import clusters_of
    from ixt_rl.evaluation.statistics.paired import sign_flip_test

    apart = own.values - other.values
    ends = _exponentials(mean_per_token(apart, own.tokens, own.clusters))
    if ends is None:
        return {}
    p = sign_flip_test(clusters_of(own.clusters, len(apart)).sums(apart))
    return {"low": ends[0], "high": ends[1], "p": p}


def _interval(seeds: Sequence[list[dict[str, Any]]], metric: str) -> tuple[float, float] | None:
    from ixt_rl.evaluation.statistics import estimate, mean_per_token

    found = _values(seeds, metric)
    if found is None:
        return None
    if found.tokens is not None:
        return _exponentials(mean_per_token(found.values, found.tokens, found.clusters))
    measured = estimate(found.values, found.clusters)
    return None if measured.low is None or measured.high is None else (measured.low, measured.high)


def _exponentials(loss: MeanValue) -> tuple[float, float] | None:
    """The interval of a perplexity from that of its loss; None where there is none, or it is beyond any float."""
    if loss.low is None or loss.high is None or loss.high > LARGEST:
        return None
    return math.exp(loss.low), math.exp(loss.high)


class _Kept(NamedTuple):
    questions: str  # hash
    values: np.ndarray  # float64 [Q]: means over seeds
    clusters: list[str] | None
    tokens: np.ndarray | None = None  # [Q], where the values are nats


def _values(seeds: Sequence[list[dict[str, Any]]], metric: str) -> _Kept | None:
    """Of the sets of each seed; None where some seed has none, or other problems."""
    import numpy as np

    kept = [next((one for one in sets if metric in _metrics(one)), {}) for sets in seeds]
    if not kept or not all(kept) or len({one["questions"] for one in kept}) > 1:
        return None
    mode = metric.removesuffix(PERPLEXITY)
    values = [one["values"].get(metric) or one.get("nats", {}).get(mode) for one in kept]
    if not all(values):
        return None
    tokens = np.array(kept[0]["tokens"], np.float64) if mode in kept[0].get("nats", {}) else None
    return _Kept(kept[0]["questions"], np.mean(np.array(values, np.float64), axis=0), kept[0].get("clusters"), tokens)


def _sets(folder: Path) -> list[dict[str, Any]]:
    return (read_json(folder / ANSWERED) or {}).get("sets", [])


def _metrics(kept: Mapping[str, Any]) -> set[str]:
    """Of a set: those of its values, and the perplexities of its nats."""
    return {*kept["values"], *(f"{mode}{PERPLEXITY}" for mode in kept.get("nats", ()))}
