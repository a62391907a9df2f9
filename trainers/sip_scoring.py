"""What SIP asks of rewriter and judge for one update. They belong to the main process, which asks for all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ixt_rl.errors import BackendFailed, DataError
from ixt_rl.ledger import Ledger
from ixt_rl.trainers.patience import patiently
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class CandidateScorer(Protocol):
    """A judge: `judging.candidates.CandidateJudge`, or any function like it."""

    def __call__(
        self, prefixes: Sequence[str], originals: Sequence[str], groups: Sequence[Sequence[Candidate]]
    ) -> Sequence[Sequence[Candidate]]:
        """The same candidates in the same order, with verdicts; a score of None is undecided."""
        ...


class SuffixRewriter(Protocol):
    """A rewriter: `judging.rewriter.Rewriter`, or any function like it."""

    def __call__(self, items: Sequence[PrefixSuffix]) -> Sequence[Candidate | None]:
        """A candidate of source `rewrite` for each, or None."""
        ...


class Scoring:
    """Asks rewriter and judge on the main process, with patience, and counts the tokens that they say they used.

    Args:
        accelerator: of the trainer.
        ledger: gets the tokens, in phase `annotate`.
        patience: see `patiently`.
        gave_up: called on all ranks when patience is spent, before the failure is raised.
        sleep: how to wait; None: `time.sleep`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        ledger: Ledger,
        patience: float,
        gave_up: Callable[[], None],
        sleep: Callable[[float], None] | None = None,
    ):
        self.accelerator, self.ledger, self.patience = accelerator, ledger, patience
        self.gave_up, self.sleep = gave_up, sleep
        self.retries, self.waited = 0, 0.0

    def ask(self, call: Callable[[list[Asked]], Sequence[Answered]], asked: list[Asked], who: Any) -> list[Answered]:
        """`call` with what all ranks ask; this rank's answers. All ranks call it, and all get its failure.

        Args:
            call: answers a list, one for one.
            asked: by this rank.
            who: the rewriter or judge behind `call`, for its count of tokens.

        Raises:
            BackendFailed: patience is spent.
            DataError: there are not as many answers as questions.
        """
        by_rank: list[list[Asked]] = gather_object([asked])
        outcome: Any = None
        if self.accelerator.is_main_process:
            before = tokens_used(who)
            everyone = [one for of_rank in by_rank for one in of_rank]
            try:
                outcome = list(patiently(lambda: call(everyone), self.patience, self._waited, self.sleep))
            except BackendFailed as failure:
                outcome = failure
            self.ledger.add("annotate", tokens_used(who) - before)
        outcome = broadcast_object_list([outcome])[0]
        if isinstance(outcome, BackendFailed):
            self.gave_up()
            raise outcome
        if len(outcome) != sum(map(len, by_rank)):
            raise DataError(
                f"{type(who).__name__} gave {len(outcome)} answers for {sum(map(len, by_rank))}",
                reason="answers belong to questions by their place",
                remedy="let it answer one for one, None where it cannot",
            )
        first = sum(map(len, by_rank[: self.accelerator.process_index]))
        return outcome[first : first + len(asked)]

    def _waited(self, seconds: float) -> None:
        self.retries += 1
        self.waited += seconds


def tokens_used(who: Any) -> int:
    """Tokens that a `CandidateJudge` or a `Rewriter` has read and written so far; 0 for what keeps no count."""
    for place in ("judge.tally", "tally.work"):
        try:
            tally = attrgetter(place)(who)
        except AttributeError:
            continue
        return tally.prompt_tokens + tally.completion_tokens
    return 0
