"""What SIP asks of rewriter and judge for one update. They belong to the main process, which asks for all ranks."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, is_dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ixt_rl.errors import BackendFailed, DataError
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.ledger import Ledger
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class CandidateScorer(Protocol):
    """A judge: `judging.candidates.CandidateJudge`, or any function like it."""

    def __call__(
        self, prefixes: Sequence[str], originals: Sequence[str], groups: Sequence[Sequence[Candidate]]
    ) -> Sequence[Sequence[Candidate]]:
        """The same candidates in the same order, with verdicts; a score of None is undecided."""
        ...


class CandidateWriter(Protocol):
    """A source of candidates that is asked: `judging.rewriter.Rewriter`, a teacher, or any function like them."""

    def __call__(self, items: Sequence[PrefixSuffix]) -> Sequence[Candidate | Sequence[Candidate] | None]:
        """For each item a candidate, several, or None. Called by the main process for all ranks, in the background,
        again after `BackendFailed`."""
        ...


@dataclass(frozen=True)
class Asked:
    """What is being asked: by whom it is answered, how much of all ranks, which part is this rank's, the size of who
    answers."""

    name: str
    total: int
    own: slice
    task: _Task | None
    parameters: int | None = None


class Scoring:
    """Asks rewriter and judge on the main process, with patience, and counts the tokens that they say they used.

    Args:
        accelerator: of the trainer.
        ledger: gets the tokens, in phase `annotate`, with the size of who used them (its `parameters`).
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
        self._turn = threading.Lock()

    def start(self, call: Callable[[list[Any]], Sequence[Any]], asked: list[Any], who: Any) -> Asked:
        """Has `call` answer what all ranks ask, in the background; all ranks call it, and then `finish`.

        Args:
            call: answers a list, one for one.
            asked: by this rank.
            who: the rewriter or judge behind `call`, for its count of tokens.
        """
        by_rank: list[list[Any]] = gather_object([asked])
        counts = [len(of_rank) for of_rank in by_rank]
        first = sum(counts[: self.accelerator.process_index])
        task = None
        if self.accelerator.is_main_process:
            everyone = [one for of_rank in by_rank for one in of_rank]
            task = _Task(lambda: self._answers(call, everyone, who))
        own = slice(first, first + len(asked))
        return Asked(type(who).__name__, sum(counts), own, task, getattr(who, "parameters", None))

    def finish(self, asked: Asked) -> list[Any]:
        """This rank's answers. All ranks call it, in the order of `start`, and all get its failure.

        Raises:
            BackendFailed: patience is spent.
            DataError: there are not as many answers as questions.
        """
        outcome: Any = None
        if asked.task is not None:
            outcome, tokens = asked.task.result()
            self.ledger.asked(tokens, asked.parameters)
        outcome = broadcast_object_list([outcome])[0]
        if isinstance(outcome, BackendFailed):
            self.gave_up()
            raise outcome
        if len(outcome) != asked.total:
            raise DataError(
                f"{asked.name} gave {len(outcome)} answers for {asked.total}",
                reason="answers belong to questions by their place",
                remedy="let it answer one for one, None where it cannot",
            )
        return outcome[asked.own]

    def state_dict(self, asked: Iterable[Any]) -> dict[str, Any]:
        """Waits so far, and the counts of those who are asked, for a checkpoint."""
        counts = [counts_of(tally) for who in asked for tally in tallies(who)]
        return {"asked": counts, "retries": self.retries, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any], asked: Iterable[Any]) -> None:
        """Goes on from what `state_dict` gave."""
        found = [tally for who in asked for tally in tallies(who)]
        for tally, saved in zip(found, state["asked"], strict=True):
            recount(tally, saved)
        self.retries, self.waited = state["retries"], state["waited"]

    def _answers(self, call: Callable[[list[Any]], Sequence[Any]], everyone: list[Any], who: Any) -> tuple[Any, int]:
        """(the answers, or the failure that patience ended with; tokens used). In the background, one at a time."""
        with self._turn:  # rewriter and judge may share a backend
            before = tokens_used(who)
            try:
                return list(
                    patiently(lambda: call(everyone) if everyone else [], self.patience, self._waited, self.sleep)
                ), (tokens_used(who) - before)
            except BackendFailed as failure:
                return failure, tokens_used(who) - before

    def _waited(self, seconds: float) -> None:
        self.retries += 1
        self.waited += seconds


class _Task:
    """A call in a thread of its own, which does not keep the process alive."""

    def __init__(self, call: Callable[[], Any]):
        self._future: Future[Any] = Future()
        threading.Thread(target=self._run, args=(call,), daemon=True).start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._future.set_result(call())
        except BaseException as error:  # any: it is raised where the result is asked for
            self._future.set_exception(error)

    def result(self) -> Any:
        return self._future.result()


def patiently(
    call: Callable[[], Result], patience: float, waited: Callable[[float], None], sleep: Callable[[float], None] | None
) -> Result:
    """`call()`, and once more after a wait each time it raises `BackendFailed`: 1 s, then twice the last, at most 60 s.

    Args:
        call: what may fail; a `judging.Judge` with a cache does not ask again for what it has.
        patience: seconds waited in all before the failure is passed on; 0 waits for nothing.
        waited: told of every wait, in seconds.
        sleep: waits; None: `time.sleep`.

    Raises:
        BackendFailed: the last failure, when patience is spent.
    """
    left, wait = patience, _FIRST_WAIT
    while True:
        try:
            return call()
        except BackendFailed as failure:
            if left <= 0:
                raise
            pause = min(wait, left)
            _log.warning("%s\n  trying again in %.0f s, for %.0f s more", failure, pause, left)
            waited(pause)
            (sleep or time.sleep)(pause)
            left, wait = left - pause, min(2 * wait, _LONGEST_WAIT)


def candidates_of(source: str, answer: Any) -> list[Candidate]:
    """What a source has answered for one item, without candidates that have no tokens.

    Raises:
        DataError: it is no candidate.
    """
    several = [] if answer is None else [answer] if isinstance(answer, Candidate) else [*answer]
    for one in several:
        if not isinstance(one, Candidate):
            raise DataError(
                f"source {source!r} gave {one!r:.80}",
                reason="what is judged and trained are candidates: ids, and the text that they decode to",
                remedy="return a `Candidate(source, ids, text)` for each item, several, or None",
            )
    return [replace(one, source=source) for one in several if one.ids]


def at_update(who: Any, update: int) -> None:
    """Tells the cache of a judge or rewriter, if it has one, for which update it is asked."""
    cache = getattr(getattr(who, "judge", who), "cache", None)
    if isinstance(cache, JudgeCache):
        cache.at(update)


def tallies(who: Any) -> list[Any]:
    """The counts that a `CandidateJudge` or a `Rewriter` keeps, dataclasses; none of what keeps no count."""
    found = [getattr(who, "tally", None), getattr(getattr(who, "judge", None), "tally", None)]
    return [tally for tally in found if is_dataclass(tally)]


def counts_of(tally: Any) -> dict[str, Any]:
    """The numbers and texts of a tally, to be saved."""
    return {
        name: counts_of(value) if is_dataclass(value) else dict(value) if isinstance(value, Counter) else value
        for name, value in vars(tally).items()
    }


def recount(tally: Any, saved: dict[str, Any]) -> None:
    """Gives a tally what `counts_of` gave."""
    for name, value in saved.items():
        current = getattr(tally, name)
        if is_dataclass(current):
            recount(current, value)
        else:
            setattr(tally, name, Counter(value) if isinstance(current, Counter) else value)


def tokens_used(who: Any) -> int:
    """Tokens that a `CandidateJudge` or a `Rewriter` has read and written so far; 0 for what keeps no count."""
    for place in ("judge.tally", "tally.work"):
        try:
            tally = attrgetter(place)(who)
        except AttributeError:
            continue
        return tally.prompt_tokens + tally.completion_tokens
    return 0
