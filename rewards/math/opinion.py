"""The third opinion: a judge for the answers that the rules leave undecided, asked once for each of them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from ixt_rl.errors import RewardError

Opinion = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[bool | float | None]]
"""(questions, gold answers, answers), B each -> B verdicts: right, wrong, or None for undecided."""

CACHED = 20_000
"""Verdicts that are remembered."""


class ThirdOpinion:
    """Asks a judge about undecided answers, each triple of question, gold and answer once.

    Args:
        judge: see `Opinion`; a number is right from 1/2.

    `counts` has asked, cached, right, wrong and undecided.
    """

    def __init__(self, judge: Opinion):
        self.judge = judge
        self.counts: Counter[str] = Counter()
        self._known: OrderedDict[tuple[str, str, str], bool | None] = OrderedDict()

    def ask(self, cases: Sequence[tuple[str, str, str]]) -> list[bool | None]:
        """Verdicts on (question, gold, answer) each.

        Raises:
            RewardError: the judge gives another number of verdicts than it was asked for.
        """
        new = list(dict.fromkeys(case for case in cases if case not in self._known))
        if new:
            found = self.judge(*(list(column) for column in zip(*new, strict=True)))
            if len(found) != len(new):
                raise RewardError(
                    f"the judge of undecided answers gave {len(found)} verdicts for {len(new)} answers",
                    reason="it takes lists of questions, golds and answers and gives one verdict for each",
                    remedy="return a list of True, False or None of the same length",
                )
            for case, verdict in zip(new, found, strict=True):
                self._known[case] = None if verdict is None else verdict >= 0.5
        self.counts["asked"] += len(new)
        self.counts["cached"] += len(cases) - len(new)
        verdicts = [self._known[case] for case in cases]
        for verdict in verdicts:
            self.counts["undecided" if verdict is None else "right" if verdict else "wrong"] += 1
        while len(self._known) > CACHED:
            self._known.popitem(last=False)
        return verdicts
