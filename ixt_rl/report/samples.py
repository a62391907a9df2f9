"""Sampled rationales of the same problems before and after a stage, side by side."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any

from ixt_rl.report.run_files import Run, number, unique

# verdict -> (mark, words); the page colours by the key
VERDICTS = {
    "right": ("✓", "right"),
    "lucky": ("≈", "right by luck"),
    "wrong": ("✗", "wrong"),
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
    """The pairs of one stage and mode, of the run's first seed."""

    label: str
    view: str
    mode: str
    seed: Any
    steps: tuple[int, int]
    pairs: list[Pair]

    def tally(self, when: str) -> str:
        """`3 right, 2 right by luck, 5 wrong`."""
        counts = Counter(verdict(s) for pair in self.pairs if (s := getattr(pair, when)) is not None)
        return ", ".join(f"{counts[key]} {words}" for key, (_, words) in VERDICTS.items() if counts[key]) or "none"


def sample_pairs(run: Run) -> list[Samples]:
    """Samples of every online stage that has any, the first step against the last."""
    found = []
    for stage in run.online_stages:
        rows = [s for s in run.samples if s.get("stage") == stage.name and number(s.get("step")) is not None]
        seed = next((s.get("seed") for s in rows), None)
        for mode in unique(str(s.get("mode")) for s in rows):
            shown = [s for s in rows if s.get("seed") == seed and str(s.get("mode")) == mode]
            first, last = min(s["step"] for s in shown), max(s["step"] for s in shown)
            before = [s for s in shown if s["step"] == first]
            after = [s for s in shown if s["step"] == last] if last > first else []
            found.append(Samples(stage.label, stage.view, mode, seed, (first, last), _pair(before, after)))
    return found


def verdict(sample: dict[str, Any]) -> str:
    """right, lucky, wrong or undecided; without a `strict` grade, right is what the reward checked."""
    if sample.get("checked") is None:
        return "undecided"
    if not sample["checked"]:
        return "wrong"
    return "lucky" if sample.get("strict") is False or sample.get("lucky") else "right"


def shown(sample: dict[str, Any]) -> dict[str, str]:
    """What the page shows of a sample."""
    key = verdict(sample)
    mark, words = VERDICTS[key]
    said = [words]
    if (length := number(sample.get("length"))) is not None:
        said.append(f"{length:.0f} tokens")
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
