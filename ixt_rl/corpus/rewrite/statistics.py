"""What a rewriting came to, from its finished shards alone: so it is the same however often the job was stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ixt_rl.corpus.even_sample import EvenSample
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.suffixes import COPIED, SKIPPED, UNDECIDED, SuffixJob

EXAMPLES = 5
"""Rows of each status that the report shows."""


@dataclass
class RewriteStatistics:
    """Counts over all rows.

    Args:
        changed: the status of rewritten rows.
        rows: of any status.
        statuses: rows by status.
        undecided: undecided rows by the kind of reason.
        skipped: skipped rows by reason.
        tokens: sum of the rows' tokens; equal questions count as often as they stand there.
        before, after: rewritten rows by the tokens of their suffix and of its rewrite; `after` has documents by the
            number of their thoughts.
        shortened: rewrites that were cut at the length of a suffix.
        seen_before, seen_after: the different tokens of these suffixes, and of their rewrites.
        new_tokens: tokens of rewrites that stand neither in prefix nor in suffix.
        examples: status -> row numbers, drawn evenly.
    """

    changed: str
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    before: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    shortened: int = 0
    seen_before: set[int] = field(default_factory=set)
    seen_after: set[int] = field(default_factory=set)
    new_tokens: int = 0
    examples: dict[str, list[int]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """As JSON; shares are of the rows that were asked about."""
        asked = self.rows - self.statuses[SKIPPED]
        counts = {name: self.statuses[name] for name in (COPIED, self.changed, UNDECIDED)}
        return {
            "rows": self.rows,
            **counts,
            SKIPPED: self.statuses[SKIPPED],
            "shares": {name: count / asked if asked else None for name, count in counts.items()},
            "undecided_reasons": dict(self.undecided.most_common()),
            "skipped_reasons": dict(self.skipped.most_common()),
            "lengths": {"before": _lengths(self.before), "after": _lengths(self.after)},
            "shortened": self.shortened,
            "corpus": self._corpus(asked),
            "row_tokens": self.tokens,
        }

    def _corpus(self, asked: int) -> dict[str, float | None]:
        """What rewriting does to the corpus; all but `refused_share` of rewritten suffixes, None where there are none.

        refused_share       rows whose rewriter declined, of those asked about
        length_ratio        tokens of the rewrites, over those of their suffixes
        vocabulary_ratio    different tokens in the rewrites, over those in their suffixes
        new_token_share     of the rewrites' tokens, those that stand neither in prefix nor in suffix
        """
        before, after = (sum(n * count for n, count in counts.items()) for counts in (self.before, self.after))
        return {
            "refused_share": self.undecided["refused"] / asked if asked else None,
            "length_ratio": after / before if before else None,
            "vocabulary_ratio": len(self.seen_after) / len(self.seen_before) if before else None,
            "new_token_share": self.new_tokens / after if before else None,
        }


def collect(job: RewritingJob, folder: Folder, shards: int) -> RewriteStatistics:
    """Reads the new columns of all shards, one after the other."""
    found = RewriteStatistics(job.changed)
    draws: dict[str, EvenSample] = {}
    suffixes = isinstance(job, SuffixJob)
    names = [f"{job.column}_{name}" for name in ("status", "reason", "tokens")]
    lengths = ["prefix_ids", "suffix_ids", "rewrite_ids"] if suffixes else ["thoughts_count"]
    for number in range(shards):
        part = folder.rows(number, [*names, *lengths])
        for row in part.to_pylist() if isinstance(part, pa.Table) else part:
            status, reason, tokens = (row[name] for name in names)
            found.statuses[status] += 1
            found.tokens += tokens
            if status == SKIPPED:
                found.skipped[reason] += 1
            else:
                found.undecided[reason.partition(":")[0]] += status == UNDECIDED
                draws.setdefault(status, EvenSample(EXAMPLES)).offer(found.rows)
            if status == job.changed and suffixes:
                _count_ids(found, *(row[name] for name in lengths))
            elif status == job.changed:
                found.after[row["thoughts_count"]] += 1
            found.rows += 1
    found.undecided += Counter()  # drops the zeros
    found.examples = {name: draw.rows() for name, draw in sorted(draws.items(), key=lambda entry: entry[0] == COPIED)}
    return found


def _count_ids(found: RewriteStatistics, prefix: list[int], suffix: list[int], rewrite: list[int]) -> None:
    found.before[len(suffix)] += 1
    found.after[len(rewrite)] += 1
    found.seen_before.update(suffix)
    found.seen_after.update(rewrite)
    known = {*prefix, *suffix}
    found.new_tokens += sum(token not in known for token in rewrite)
    found.shortened += rewrite[-1] != suffix[-1]  # a suffix ends with EOS, and so does a rewrite that was not cut


def _lengths(counts: Counter[int]) -> dict[str, Any]:
    total = counts.total()
    return {
        "mean": sum(length * count for length, count in counts.items()) / total if total else None,
        "counts": {str(length): counts[length] for length in sorted(counts)},
    }
