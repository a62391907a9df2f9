"""What the last evaluation found problem by problem, kept beside a stage's metrics: intervals and paired differences.

answered.json     questions: hash of the problems, in order
                  values:    `<mode>/<metric>` -> the mean over samples of each problem, null where undecided
                  clusters:  of each problem, what it shares with others, such as a document; missing: each its own
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
    from ixt_rl.run.folder import StageFolder

ANSWERED = "answered.json"
METRICS = ("strict", "checked")


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
) -> None:
    """Keeps values of each question, in place of those of an evaluation before.

    Args:
        questions: Q of them, as JSON; two stages with the same ones are compared one by one.
        values: `<mode>/<metric>` -> Q numbers, None where undecided.
        clusters: of each question, for intervals; None: each its own.
    """
    asked = sha256(json.dumps(questions, default=str).encode()).hexdigest()
    write_json(
        folder / ANSWERED,
        {"questions": asked, "values": values} | ({} if clusters is None else {"clusters": clusters}),
    )


def intervals(folder: Path) -> dict[str, float]:
    """`<mode>/<metric>_low` and `_high` of what is kept: 95 %, over problems; nothing where nothing is."""
    found: dict[str, float] = {}
    for name in (read_json(folder / ANSWERED) or {}).get("values", {}):
        interval = _interval([folder], name)
        if interval is not None:
            found |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
    return found


def interval_of(metric: str, stages: Sequence[StageFolder], others: Sequence[StageFolder]) -> dict[str, float]:
    """`low` and `high` of a metric's mean over seeds, of a difference with its two-sided p-value as `p`.

    Over problems: 95 %. A difference is paired by problem, and has no interval where the two were measured on others.

    Args:
        metric: `<mode>/<metric>`.
        stages: folders of a stage, one a seed.
        others: of the stage that is subtracted; empty: none is.
    """
    paths = [folder.path for folder in stages]
    if not others:
        found = _interval(paths, metric)
        return {} if found is None else {"low": found[0], "high": found[1]}
    both = [_values(where, metric) for where in (paths, [folder.path for folder in others])]
    if both[0] is None or both[1] is None or both[0].questions != both[1].questions:
        return {}
    import numpy as np

    from ixt_rl.evaluation.statistics import paired_values

    own, other = both[0].values, both[1].values
    if np.isnan(own - other).all():
        return {}
    difference = paired_values(own, other, both[0].clusters)
    given = {"low": difference.low, "high": difference.high, "p": difference.p_value}
    return {name: value for name, value in given.items() if value is not None}


def _interval(paths: Sequence[Path], metric: str) -> tuple[float, float] | None:
    from ixt_rl.evaluation.statistics import estimate

    found = _values(paths, metric)
    if found is None:
        return None
    measured = estimate(found.values, found.clusters)
    return None if measured.low is None or measured.high is None else (measured.low, measured.high)


class _Kept(NamedTuple):
    questions: str  # hash
    values: np.ndarray  # float64 [Q]: means over seeds
    clusters: list[str] | None


def _values(paths: Sequence[Path], metric: str) -> _Kept | None:
    """None where some seed has none, or other problems."""
    import numpy as np

    kept = [read_json(path / ANSWERED) or {} for path in paths]
    if not kept or len({one.get("questions") for one in kept}) > 1:
        return None
    values = [one.get("values", {}).get(metric) for one in kept]
    if not all(values):
        return None
    return _Kept(kept[0]["questions"], np.mean(np.array(values, np.float64), axis=0), kept[0].get("clusters"))
