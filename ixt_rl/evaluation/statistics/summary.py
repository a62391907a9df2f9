"""All that is said of one suite: shares, then avg@k, pass@k and maj@k, in this order, each with both bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ixt_rl.evaluation.statistics.intervals import Estimate, average, estimate
from ixt_rl.evaluation.statistics.per_question import Same, avg_at_k, maj_at_k, pass_at_k
from ixt_rl.evaluation.statistics.table import SampleShares, VerdictTable


@dataclass(frozen=True)
class Metric:
    """One metric of a suite, or of several on average.

    Args:
        name: `pass@1` of single answers; else `avg@32`, `pass@8`, `maj@32`.
        left_out: undecided samples left out; questions of which too little is decided are none of its questions.
        as_wrong: undecided samples counted as wrong.
    """

    name: str
    left_out: Estimate
    as_wrong: Estimate


@dataclass(frozen=True)
class SuiteSummary:
    """What was measured of a suite.

    Args:
        questions, samples, clusters: Q, k, G.
        shares: of undecided, truncated and unextracted samples.
        metrics: in the order in which they are told.
    """

    questions: int
    samples: int
    clusters: int
    shares: SampleShares
    metrics: tuple[Metric, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain dicts and lists; metrics by name, in their order."""
        found = asdict(self)
        return found | {
            "metrics": {m.name: {"left_out": asdict(m.left_out), "as_wrong": asdict(m.as_wrong)} for m in self.metrics}
        }


def summarize(
    table: VerdictTable, ks: Sequence[int] | None = None, same: Same | None = None, level: float = 0.95
) -> SuiteSummary:
    """Summary of a table.

    Args:
        ks: of pass@k; None: the powers of two above 1 up to the number of samples, and that number.
        same: whether two answers are equal by the suite's grading; see `votes`.
        level: of confidence.
    """
    k = table.samples
    ks = passes(k) if ks is None else ks
    wrong = table.as_wrong()
    pairs = [("pass@1" if k == 1 else f"avg@{k}", avg_at_k(table), avg_at_k(wrong))]
    pairs += [(f"pass@{n}", pass_at_k(table, n), pass_at_k(wrong, n)) for n in ks]
    if k > 2:
        pairs.append((f"maj@{k}", maj_at_k(table, same=same), maj_at_k(wrong, same=same)))
    names = table.clusters
    metrics = [Metric(name, estimate(out, names, level), estimate(low, names, level)) for name, out, low in pairs]
    groups = table.questions if names is None else len(set(names))
    return SuiteSummary(table.questions, k, groups, table.shares, tuple(metrics))


def passes(samples: int) -> list[int]:
    """k of pass@k that are shown of so many samples: 2, 4, 8 ... and all."""
    powers = [2**i for i in range(1, samples.bit_length()) if 2**i <= samples]
    return powers if samples < 2 or samples in powers else [*powers, samples]


def average_of(summaries: Sequence[SuiteSummary]) -> Metric:
    """The mean over suites of each one's first metric, as tables of papers have it."""
    first = [summary.metrics[0] for summary in summaries]
    return Metric("average", average([m.left_out for m in first]), average([m.as_wrong for m in first]))
