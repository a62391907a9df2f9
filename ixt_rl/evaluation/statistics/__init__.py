"""Scores of an evaluation with their intervals, differences of two, and how sure they are: NumPy only, no I/O.

VerdictTable --avg_at_k | pass_at_k | maj_at_k--> a value a question --estimate--> mean, clustered interval, bootstrap
two tables   --paired--> difference on the same questions --questions_needed, holm, benjamini_hochberg
"""

from ixt_rl.evaluation.statistics.intervals import Estimate, average, estimate
from ixt_rl.evaluation.statistics.many_tests import benjamini_hochberg, holm
from ixt_rl.evaluation.statistics.paired import PairedDifference, paired, paired_values
from ixt_rl.evaluation.statistics.per_question import avg_at_k, maj_at_k, pass_at_k
from ixt_rl.evaluation.statistics.sample_size import questions_needed
from ixt_rl.evaluation.statistics.summary import Metric, SuiteSummary, average_of, summarize
from ixt_rl.evaluation.statistics.table import SampleShares, VerdictTable
from ixt_rl.evaluation.statistics.weighted import mean_per_token

__all__ = [
    "Estimate",
    "Metric",
    "PairedDifference",
    "SampleShares",
    "SuiteSummary",
    "VerdictTable",
    "average",
    "average_of",
    "avg_at_k",
    "benjamini_hochberg",
    "estimate",
    "holm",
    "maj_at_k",
    "mean_per_token",
    "paired",
    "paired_values",
    "pass_at_k",
    "questions_needed",
    "summarize",
]
