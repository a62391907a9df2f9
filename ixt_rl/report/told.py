"""What a report says of the told mode: its controls, and how far it is from the true posterior.

summary.json's `told` and `posterior` of `evaluate` stages -> one table each, with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.report.results import DASH
from ixt_rl.report.run_folder import RunRecord, StageRecord, number

_SHOWN = {
    "sampled": "nothing: the plain prompt",
    "told": "the right answer",
    "told_form": "nothing, in that form",
    "told_random": "another problem's answer",
    "told_wrong": "a wrong answer",
}
_METRICS = ("strict", "checked")
_DIVERGENCES = (
    ("true_told", "KL(true ‖ told): how far the told model is from the true posterior"),
    ("per_token", "the same, a token"),
    ("true_policy", "KL(true ‖ plain): how far the model is that is told nothing"),
    ("gain", "the difference: how much nearer telling brings it"),
    ("told_true", "KL(told ‖ true), among completions that have the answer"),
)


@dataclass(frozen=True)
class IntervalCell:
    """A value as text, and its interval; "" where there is none."""

    value: str
    between: str = ""


@dataclass(frozen=True)
class IntervalTable:
    """Rows of intervals.

    Args:
        caption: stage, view and seed.
        groups: of columns, without the first: the name of each, or "", and the columns' titles.
        rows: (name, cells).
        said: sentences above it.
        note: below it.
    """

    caption: str
    groups: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[IntervalCell]]]
    said: list[str]
    note: str = ""


def told_tables(run: RunRecord) -> list[IntervalTable]:
    """The controls of each stage and seed that has them."""
    return [
        _controls(_caption(stage, seed, found), [one for one in modes if isinstance(one, Mapping)])
        for stage in run.stages
        for found in [_by_seed(stage, "told")]
        for seed, modes in found.items()
        if isinstance(modes, list)
    ]


def posterior_tables(run: RunRecord) -> list[IntervalTable]:
    """The divergences of each stage and seed that has them."""
    return [
        _divergences(_caption(stage, seed, found), measured, stage)
        for stage in run.stages
        for found in [_by_seed(stage, "posterior")]
        for seed, measured in found.items()
        if isinstance(measured, Mapping)
    ]


def _controls(caption: str, modes: Sequence[Mapping[str, Any]]) -> IntervalTable:
    metrics = [name for name in _METRICS if any(name in _block(one, "shares") for one in modes)]
    groups = [(name, ["share", "over plain", "over right answer"]) for name in metrics]
    rows = [
        (
            _SHOWN.get(str(one.get("mode")), str(one.get("mode"))),
            [
                *(
                    _interval(_block(one, part).get(name), sign=part != "shares")
                    for name in metrics
                    for part in ("shares", "over_plain", "over_told")
                ),
                _interval(one.get("length"), digits=1),
                _interval(one.get("longer"), digits=1, sign=True),
            ],
        )
        for one in modes
    ]
    said = [_reading(metrics[0], {str(one.get("mode")): one for one in modes})] if metrics else []
    groups += [("tokens", ["mean", "over plain"])]
    return IntervalTable(caption, groups, rows, [text for text in said if text])


def _reading(metric: str, modes: Mapping[str, Mapping[str, Any]]) -> str:
    """What of the told gap is the answer's, in words; "" where it was not measured."""
    over = {mode: number(_block(_block(one, "over_plain"), metric).get("value")) for mode, one in modes.items()}
    gap = over.get("told")
    if gap is None:
        return ""
    parts = [f"Told the right answer, {metric} is {gap:+.3f} over the plain prompt"]
    beside = [
        f"{value:+.3f} {words}"
        for mode, words in (
            ("told_form", "with nothing in its place"),
            ("told_random", "told another problem's answer"),
            ("told_wrong", "told a wrong one"),
        )
        if (value := over.get(mode)) is not None
    ]
    return "; it is ".join([*parts, ", ".join(beside)] if beside else parts) + "."


def _divergences(caption: str, found: Mapping[str, Any], stage: StageRecord) -> IntervalTable:
    rows = [
        (words, [_interval(found.get(name), digits=4 if name == "per_token" else 3, sign=name == "gain")])
        for name, words in _DIVERGENCES
    ]
    questions, undecided = found.get("questions"), found.get("undecided")
    block = stage.config.get("posterior") or {}
    how = (
        "every completion enumerated"
        if found.get("exact")
        else f"{block.get('samples', 64)} completions of the plain and of the told model each, median effective sample "
        f"size {_number(found.get('effective'), 0)}"
    )
    note = (
        f"{questions} problems, {undecided} of them undecided and in no mean; {how}. The told model has the answer in "
        f"{_number(found.get('right_told'), 3)} of its completions, the plain one in "
        f"{_number(found.get('right_policy'), 3)}. Tokens of a completion: {_number(found.get('length'), 1)} under the "
        f"true posterior, {_number(found.get('length_told'), 1)} told."
    )
    return IntervalTable(
        caption, [("", ["nats"])], rows, [text for text in [_nearer(_block(found, "gain"))] if text], note
    )


def _nearer(gain: Mapping[str, Any]) -> str:
    """Whether telling brings the model nearer to the true posterior, as far as the interval decides; "" without."""
    low, high = number(gain.get("low")), number(gain.get("high"))
    if number(gain.get("value")) is None:
        return ""
    if low is not None and low > 0:
        return "Told the answer, the model is nearer to the true posterior than told nothing."
    if high is not None and high < 0:
        return "Told the answer, the model is further from the true posterior than told nothing."
    return "Whether telling the answer brings the model nearer to the true posterior, the interval leaves open."


def _by_seed(stage: StageRecord, key: str) -> Mapping[str, Any]:
    found = stage.summary.get(key)
    return found if isinstance(found, Mapping) else {}


def _caption(stage: StageRecord, seed: str, seeds: Mapping[str, Any]) -> str:
    view = f", view {stage.view}" if stage.view else ""
    return f"{stage.name}{view}" + (f", seed {seed}" if len(seeds) > 1 else "")


def _block(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, Mapping) else {}


def _interval(found: Any, digits: int = 3, sign: bool = False) -> IntervalCell:
    if not isinstance(found, Mapping) or number(found.get("value")) is None:
        return IntervalCell(DASH)
    form = f"{'+' if sign else ''}.{digits}f"
    low, high = number(found.get("low")), number(found.get("high"))
    between = "" if low is None or high is None else f"{low:{form}} to {high:{form}}"
    return IntervalCell(f"{found['value']:{form}}", between)


def _number(value: Any, digits: int) -> str:
    found = number(value)
    return DASH if found is None else f"{found:.{digits}f}"
