"""A judge that reads nothing: the control for what judging brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ixt_rl.shares import share
from ixt_rl.types import Candidate, Verdict


class RandomJudge:
    """Scores each different text of a group by a hash on [0, 1): one chosen at random, as `CandidateJudge` chooses.

    Args:
        seed: another one draws anew; the same gives a text behind a prefix the same score.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(
        self, prefixes: Sequence[str], originals: Sequence[str], groups: Sequence[Sequence[Candidate]]
    ) -> list[list[Candidate]]:
        """The same candidates in the same order, all with a verdict."""
        return [
            [
                replace(one, verdict=Verdict(share("random judge", self.seed, prefix, one.text), "drawn"))
                for one in group
            ]
            for prefix, group in zip(prefixes, groups, strict=True)
        ]
