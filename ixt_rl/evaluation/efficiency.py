"""Compute-efficiency: how many times the FLOPs of an arm plain training needs for the same score.

    curve of one seed [(flops, score)] -> running maximum, straight between checkpoints -> FLOPs at the score
    ratio of a seed = FLOPs of plain training / FLOPs of the arm;  over seeds: geometric mean, with a band

FLOPs are 6 N T_trained + 2 N_judge T_judged (arXiv 2605.20285): a number above 1 speaks for the arm. Where a
number would mean nothing there is none, and the reason stands in its place. Pure Python, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev, variance

Curve = Sequence[tuple[float, float]]
"""(FLOPs so far, score) of one seed's checkpoints, in any order."""

# 97.5 % quantiles of Student's t, by degrees of freedom from 1; beyond 30 the last one serves, which is wider.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Match:
    """An arm against plain training at one score.

    Args:
        score: the matched score.
        ratio: FLOPs of plain training / FLOPs of the arm, geometric mean over seeds; None where refused.
        low, high: the band of `ratio`; None where there is one seed.
        band: how the band was made, in words.
        refused: why there is no ratio; empty where there is one.
        fragile: why the ratio is not to be relied on; empty where nothing speaks against it.
        interval: whether the band is a confidence interval; else it is a range.
    """

    score: float
    ratio: float | None
    low: float | None = None
    high: float | None = None
    band: str = ""
    refused: str = ""
    fragile: str = ""
    interval: bool = False

    @property
    def differs(self) -> bool:
        """Whether a confidence interval, and not merely a range, leaves out 1 at a score that is not fragile."""
        if self.low is None or self.high is None or self.fragile or not self.interval:
            return False
        return self.low > 1 or self.high < 1


def document_flops(parameters: int, trained: float, judge_parameters: int = 0, judged: float = 0) -> float:
    """6 N T_trained + 2 N_judge T_judged.

    Args:
        parameters, judge_parameters: N of the model and of the judge.
        trained: tokens trained on, feedback included, once for every time they are seen.
        judged: tokens that the judge read and wrote.
    """
    return 6.0 * parameters * trained + 2.0 * judge_parameters * judged


def running_maximum(curve: Curve) -> list[tuple[float, float]]:
    """The curve in order of FLOPs, every score replaced by the best so far; one point for equal FLOPs."""
    best: dict[float, float] = {}
    top = -math.inf
    for flops, score in sorted(curve):
        top = max(top, score)
        best[flops] = top
    return list(best.items())


def flops_at(curve: Curve, score: float) -> float | None:
    """FLOPs at which the running maximum first reaches `score`, straight between checkpoints.

    None where it never does, and where the first checkpoint is there already: how long before is unknown.
    """
    points = running_maximum(curve)
    if not points or points[0][1] >= score:
        return None
    for (flops, low), (next_flops, high) in pairwise(points):
        if high >= score:
            return flops + (next_flops - flops) * (score - low) / (high - low)
    return None


def match(
    plain: Mapping[int, Curve],
    arm: Mapping[int, Curve],
    score: float,
    problems: int | None = None,
    arm_name: str = "the arm",
) -> Match:
    """The arm's efficiency at `score`.

    Seeds that both have are compared in pairs, others left out; where they share none (a plain model trained
    once), every plain seed stands against every seed of the arm. The band is a 95 % t-interval of the mean
    log ratio (Welch's without pairs); under three seeds it is the range of the ratios, and says so.

    Args:
        plain, arm: curves by seed.
        problems: evaluation problems behind a score, for its standard error sqrt(p (1 - p) / problems). A ratio
            is marked fragile where the score lies within one standard error of where a curve starts, or of its
            maximum (None: not looked at), and where a curve that starts at no FLOPs reaches it by the next point.
        arm_name: the arm's name in sentences.
    """
    shared = sorted(set(plain) & set(arm))
    plain_curves = [plain[seed] for seed in shared or sorted(plain)]
    arm_curves = [arm[seed] for seed in shared or sorted(arm)]
    for name, curves in (("plain", plain_curves), (arm_name, arm_curves)):
        if reason := _refusal(name, curves, score):
            return Match(score, None, refused=reason)
    plain_logs, arm_logs = ([_log_flops(curve, score) for curve in curves] for curves in (plain_curves, arm_curves))
    ratio, low, high, band, interval = _band(plain_logs, arm_logs, bool(shared))
    fragile = _doubt("plain", plain_curves, score, problems) or _doubt(arm_name, arm_curves, score, problems)
    return Match(score, ratio, low, high, band, fragile=fragile, interval=interval)


def matched_scores(plain: Sequence[Curve], arms: Sequence[Curve], most: int = 8) -> list[float]:
    """Round scores from where plain training starts to its maximum, at most `most`, and one beyond.

    The one beyond is the highest that an arm reaches, where that is above all of plain training.
    """
    known = [points for curve in plain if (points := running_maximum(curve))]
    if not known:
        return []
    low, high = min(points[0][1] for points in known), max(points[-1][1] for points in known)
    beyond = max((points[-1][1] for curve in arms if (points := running_maximum(curve))), default=high)
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        first, last = math.floor(low / step + 1e-9) + 1, math.floor(high / step + 1e-9)
        if last - first < most:
            top = math.floor(beyond / step + 1e-9)
            return [round(step * i, 4) for i in [*range(first, last + 1), *([top] if top > last else [])]]
    return []


def standard_error(share: float, problems: int) -> float:
    """Of a share of `problems` problems, one completion each; more completions make it smaller."""
    return math.sqrt(max(share * (1 - share), 0.0) / problems)


def _log_flops(curve: Curve, score: float) -> float:
    flops = flops_at(curve, score)
    assert flops is not None  # _refusal has looked
    return math.log(flops)


def _refusal(name: str, curves: Sequence[Curve], score: float) -> str:
    """Why these curves have no FLOPs at `score`, or an empty string."""
    points = [running_maximum(curve) for curve in curves]
    if not points or not all(points):
        return f"{name} was not measured"
    reaching = sum(found[-1][1] >= score for found in points)
    if reaching == 0:
        return f"{name} never reaches it"
    if reaching < len(points):
        return f"{name} reaches it in {reaching} of {len(points)} seeds"
    if any(found[0][1] >= score for found in points):
        return f"{name} has it at its first checkpoint"
    return ""


def _doubt(name: str, curves: Sequence[Curve], score: float, problems: int | None) -> str:
    """Why the FLOPs of one of these curves at `score` are not to be relied on, or an empty string."""
    for curve in curves:
        points = running_maximum(curve)
        start, top = points[0][1], points[-1][1]
        if problems and score > top - standard_error(top, problems):
            return f"at the maximum of {name}"
        if problems and score < start + standard_error(start, problems):
            return f"at the start of {name}"
        if points[0][0] == 0 and points[1][1] >= score:
            return f"before the first checkpoint of {name}"
    return ""


def _band(plain: list[float], arm: list[float], paired: bool) -> tuple[float, float | None, float | None, str, bool]:
    """(ratio, low, high, in words, whether it is a confidence interval) from log FLOPs by seed."""
    middle = fmean(plain) - fmean(arm)
    ratios = [p - a for p, a in zip(plain, arm, strict=True)] if paired else [p - a for p in plain for a in arm]
    fewest = min(len(plain), len(arm))
    if len(ratios) == 1:
        return math.exp(middle), None, None, "one seed, no band", False
    if fewest < 3:
        said = f"range of {len(ratios)} seeds" if paired else f"range of {len(plain)} against {len(arm)} seeds"
        return math.exp(middle), math.exp(min(ratios)), math.exp(max(ratios)), said, False
    if paired:
        half = _t(len(ratios) - 1) * stdev(ratios) / math.sqrt(len(ratios))
        said = f"95 % t-interval over {len(ratios)} seeds, paired"
    else:
        half = _welch(plain, arm)
        said = f"95 % t-interval over {len(plain)} against {len(arm)} seeds"
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half), said, True


def _welch(one: list[float], other: list[float]) -> float:
    """Half the width of Welch's interval of a difference of means."""
    parts = [(variance(values) / len(values), len(values) - 1) for values in (one, other)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(part**2 / n for part, n in parts)
    return _t(math.floor(freedom)) * math.sqrt(total)


def _t(freedom: int) -> float:
    return _T[min(max(freedom, 1), len(_T)) - 1]
