"""Samples on the same problems before and after a stage, side by side."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any

from ixt_rl.report.arms import shows_feedback, wish_of
from ixt_rl.report.run_folder import RunRecord, StageRecord, number, unique

# verdict -> (mark, words); the page colours by the key
VERDICTS = {
    "right": ("✓", "right"),
    "lucky": ("≈", "right by luck"),
    "wrong": ("✗", "wrong"),
    "valued": ("•", "of another value"),
    "undecided": ("?", "undecided"),
}


@dataclass(frozen=True)
class Pair:
    """One problem: the sample before, the sample after; either may be missing."""

    question: str
    answer: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class Samples:
    """The pairs of one stage and mode, of the run's first seed.

    Args:
        left, right: what the two sides are; `right` is empty where there is one side only.
    """

    label: str
    view: str
    mode: str
    seed: Any
    left: str
    right: str
    pairs: list[Pair]

    def tally(self, when: str) -> str:
        """`3 right, 2 right by luck, 5 wrong`."""
        counts = Counter(verdict(s) for pair in self.pairs if (s := getattr(pair, when)) is not None)
        return ", ".join(f"{counts[key]} {words}" for key, (_, words) in VERDICTS.items() if counts[key]) or "none"


def sample_pairs(run: RunRecord) -> list[Samples]:
    """Samples of every trained stage that has any: online, the first step against the last; see `_by_wish`."""
    found = []
    for stage in run.trained_stages:
        rows = [s for s in run.samples if s.get("stage") == stage.name and number(s.get("step")) is not None]
        seed = next((s.get("seed") for s in rows), None)
        if stage.documents:
            found += _by_wish(stage, [s for s in rows if s.get("seed") == seed], seed)
            continue
        for mode in unique(str(s.get("mode")) for s in rows):
            shown = [s for s in rows if s.get("seed") == seed and str(s.get("mode")) == mode]
            first, last = min(s["step"] for s in shown), max(s["step"] for s in shown)
            before = [s for s in shown if s["step"] == first]
            after = [s for s in shown if s["step"] == last] if last > first else []
            right = f"step {last}" if after else ""
            found.append(Samples(stage.label, stage.view, mode, seed, f"step {first}", right, _pair(before, after)))
    return found


def _by_wish(stage: StageRecord, rows: list[dict[str, Any]], seed: Any) -> list[Samples]:
    """Last samples of a stage on documents: with its own wish on the left, with each of the others on the right."""
    last = max((s["step"] for s in rows), default=0)
    by_mode: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for sample in rows:
        if sample["step"] == last:
            by_mode[str(sample.get("mode"))].append(sample)
    own = [samples for mode, samples in by_mode.items() if not wish_of(mode)]
    left = own[0] if own else []
    others = (
        {mode: samples for mode, samples in by_mode.items() if wish_of(mode)} if shows_feedback(stage.config) else {}
    )
    if not others:
        return [Samples(stage.label, stage.view, "sampled", seed, f"step {last}", "", _pair(left, []))] if left else []
    said = "feedback wished for"
    return [
        Samples(
            stage.label,
            stage.view,
            wish_of(mode),
            seed,
            f"{said}: the best",
            f"{said}: {wish_of(mode)}",
            _pair(left, samples),
        )
        for mode, samples in others.items()
    ]


def verdict(sample: dict[str, Any]) -> str:
    """right, lucky, wrong, undecided, or valued by a reward that says neither 0 nor 1; right is what is checked and
    strict, or the one of them that is graded."""
    checked = sample.get("checked", sample.get("strict"))
    if checked is None:
        return "undecided"
    if number(checked) not in (None, 0, 1):
        return "valued"
    if not checked:
        return "wrong"
    return "lucky" if sample.get("strict") is False or sample.get("lucky") else "right"


def shown(sample: dict[str, Any]) -> dict[str, str]:
    """What the page shows of a sample."""
    key = verdict(sample)
    mark, words = VERDICTS[key]
    said = [f"reward {number(sample['checked']):g}" if key == "valued" else words]
    if (length := number(sample.get("length"))) is not None:
        said.append(f"{length:.0f} tokens")
    if sample.get("against"):
        said.append(f"{sample['against']} against the other's")
    if sample.get("reasoned") is False:
        said.append("no reasoning")
    if sample.get("finish_reason") == "length":
        said.append("cut off")
    return {"key": key, "mark": mark, "said": ", ".join(said), "text": str(sample.get("completion", ""))}


def _pair(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Pair]:
    """Samples of the same question, in order; those without a partner stand alone."""
    waiting: dict[str, deque] = defaultdict(deque)
    for sample in after:
        waiting[str(sample.get("question"))].append(sample)
    pairs = []
    for sample in before:
        question = str(sample.get("question"))
        partner = waiting[question].popleft() if waiting[question] else None
        pairs.append(Pair(question, str(sample.get("answer")), sample, partner))
    left = [sample for rest in waiting.values() for sample in rest]
    return pairs + [Pair(str(s.get("question")), str(s.get("answer")), None, s) for s in left]
