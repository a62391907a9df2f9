"""What telling the answer does, beside telling something else: the controls of a told gap.

    sampled       the plain prompt                told_form     the told prompt's form, with nothing in it
    told          the right answer                told_random   another problem's answer, right by chance at most
                                                  told_wrong    an answer that is known to be wrong

A gap that the form alone or any answer gives as well is none of the answer's: the model then writes in another manner
when it is told something, and does not use what it is told. Answers are graded against the right one in every mode.

Differences are paired by problem, Q of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ixt_rl.evaluation.statistics import estimate, paired_values
from ixt_rl.evaluation.statistics.means import MeanValue, mean_value

PLAIN, TOLD = "sampled", "told"
MODES = (PLAIN, TOLD, "told_form", "told_random", "told_wrong")
METRICS = ("strict", "checked")


@dataclass(frozen=True)
class ToldMode:
    """One way of asking.

    Args:
        mode: of `MODES`.
        shares: by metric, the share of completions with it.
        over_plain: by metric, that minus the plain prompt's.
        over_told: by metric, that minus the share told the right answer.
        length: tokens of a completion.
        longer: that minus the plain prompt's.
    """

    mode: str
    shares: dict[str, MeanValue]
    over_plain: dict[str, MeanValue]
    over_told: dict[str, MeanValue]
    length: MeanValue
    longer: MeanValue


def told_modes(values: Mapping[str, Mapping[str, np.ndarray]]) -> list[ToldMode]:
    """The modes that were measured, in the order of `MODES`.

    Args:
        values: of `Answers`: by mode and metric, float64 [Q, n], nan where undecided.
    """
    means = {
        mode: {name: over_samples(found) for name, found in values[mode].items() if name in (*METRICS, "length")}
        for mode in MODES
        if mode in values
    }
    found = []
    for mode, own in means.items():
        metrics = [name for name in METRICS if name in own]
        found.append(
            ToldMode(
                mode,
                shares={name: _share(own[name]) for name in metrics},
                over_plain={name: _difference(own, means.get(PLAIN, {}), name) for name in metrics if mode != PLAIN},
                over_told={name: _difference(own, means.get(TOLD, {}), name) for name in metrics if mode != TOLD},
                length=mean_value(own["length"]),
                longer=mean_value(own["length"] - means[PLAIN]["length"] if mode != PLAIN and PLAIN in means else []),
            )
        )
    return found


def gap_of(found: list[ToldMode]) -> dict[str, float]:
    """`told/gap`: told the right answer minus plain, strict in a world, else checked; `_low` and `_high`: 95 %."""
    over = next((mode.over_plain for mode in found if mode.mode == TOLD), {})
    gap = next((over[name] for name in METRICS if name in over), MeanValue(None))
    given = {"told/gap": gap.value, "told/gap_low": gap.low, "told/gap_high": gap.high}
    return {name: value for name, value in given.items() if value is not None}


def as_data(found: list[ToldMode]) -> list[dict[str, object]]:
    """Plain values, as a stage's result has them."""
    return [asdict(one) for one in found]


def over_samples(values: np.ndarray) -> np.ndarray:
    """[Q, n] -> [Q], the mean of what is decided; nan where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values, axis=1)


def _share(values: np.ndarray) -> MeanValue:
    found = estimate(values)
    return MeanValue(found.value, found.low, found.high, found.questions)


def _difference(own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], name: str) -> MeanValue:
    if name not in other or np.isnan(own[name] - other[name]).all():
        return MeanValue(None)
    found = paired_values(own[name], other[name])
    return MeanValue(found.difference, found.low, found.high, found.questions)
