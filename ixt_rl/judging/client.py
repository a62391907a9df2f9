"""The judge client: questions in, answers out, over any backend.

question -> messages (both orders of a pair, each repeated) -> cache or backend -> parse
         -> one repair turn where an axis is undecided -> parse -> combine -> answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ixt_rl.errors import BackendFailed
from ixt_rl.judging.answer import Answer, Question, Tally, Vote, combine
from ixt_rl.judging.backend import WRITTEN, JudgeBackend, Reply, Request
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.parse import Reading, parse_answer, strip_thinking, undecided
from ixt_rl.judging.rubric import VERDICT, Rubric
from ixt_rl.types import SamplingParams

_SHOWN = 4000  # characters of its own answer that a judge is shown again, the last ones


@dataclass(eq=False)
class _Asking:
    """One vote in the making."""

    index: int  # of its question
    request: Request
    swapped: bool
    replies: list[Reply] = field(default_factory=list)
    reading: Reading | None = None  # the first, while its repair is under way


@dataclass
class _Open:
    """A question under way."""

    rubric: Rubric
    wanted: int
    votes: dict[int, Vote] = field(default_factory=dict)  # by sample number


class Judge:
    """Asks a backend, and makes of what comes back a value or an honest "undecided".

    Bad answers never raise: they cost one repair turn, and then end as undecided, counted by reason in `tally`. So does
    a request whose transport failed after all retries.

    Args:
        backend: an `EngineBackend`, an `EndpointBackend` or a `FunctionBackend`.
        sampling: how the judge's answers are sampled; `max_new_tokens` has to leave room for its thinking.
        repeats: votes on every question, and on each order of a pair; their mean counts.
        cache: replies already there are not asked for again.
        prices: per million prompt and per million completion tokens, for the count of the cost.
        patience: failed requests in a row after which the judge gives up, because its backend is down.
        parameters: of its model, for FLOPs; None where nobody says.

    `on_reply` is called with every reply that was asked for (not with those of the cache): a ledger may listen there.
    """

    def __init__(
        self,
        backend: JudgeBackend,
        sampling: SamplingParams,
        *,
        repeats: int = 1,
        cache: JudgeCache | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
        patience: int = 100,
        parameters: int | None = None,
    ):
        self.backend = backend
        self.parameters = parameters
        self.on_reply: Callable[[Reply], None] | None = None
        self.sampling = sampling
        self.repeats = repeats
        self.cache = cache
        self.prices = prices
        self.patience = patience
        self.tally = Tally()
        self._failures = 0
        self._forget()

    def ask(self, questions: Iterable[Question]) -> list[Answer]:
        """All answers, in the questions' order; see `stream`."""
        answers = dict(self.stream(questions))
        return [answers[index] for index in range(len(answers))]

    def stream(self, questions: Iterable[Question]) -> Iterator[tuple[int, Answer]]:
        """(index, answer) as the answers come. Questions are drawn as the backend has room for them.

        A stream has the judge for itself. Ending it early drops what is under way.

        Raises:
            DataError: a question that lacks one of its rubric's fields.
            BackendFailed: the backend can answer nothing, or `patience` requests failed in a row.
        """
        source = enumerate(questions)
        more = True
        try:
            while more or self._under_way:
                while more and len(self._under_way) < self.backend.capacity:
                    index, question = next(source, (-1, None))
                    more = question is not None
                    if question is not None:
                        self._start(index, question)
                    yield from self._finish()
                if self._under_way:
                    for ticket, reply in self.backend.collect():
                        self._arrived(ticket, reply)
                    yield from self._finish()
        finally:
            self.backend.drop()
            self._forget()

    @property
    def notes(self) -> list[str]:
        """What its server does not take, and how many of its replies looped, in words."""
        return [*self.refused, *looping(self.tally.looped)]

    @property
    def refused(self) -> list[str]:
        """What its server does not take, in words."""
        return [*getattr(self.backend, "notes", [])]

    def close(self) -> None:
        """Closes the backend; the cache stays open."""
        self.backend.close()

    def _forget(self) -> None:
        self._tickets = iter(range(1 << 62))
        self._under_way: dict[int, tuple[bytes | None, list[_Asking]]] = {}
        self._by_key: dict[bytes, int] = {}
        self._open: dict[int, _Open] = {}

    def _start(self, index: int, question: Question) -> None:
        rubric, as_json = question.rubric, self.backend.constrained
        askings: list[_Asking] = []
        for swapped in (False, True) if rubric.pair else (False,):
            fields = rubric.in_order(question.fields, swapped)
            messages = tuple(rubric.messages(fields, as_json=as_json))
            for _ in range(self.repeats):
                request = Request(messages, rubric, fields, self.sampling, len(askings))
                askings.append(_Asking(index, request, swapped))
        self._open[index] = _Open(rubric, len(askings))
        for asking in askings:
            self._send(asking)

    def _send(self, asking: _Asking) -> None:
        key = None
        if self.cache is not None:
            key = self.cache.key(self.backend.name, asking.request)
            reply = self.cache.get(key)
            if reply is not None:
                if self.cache.counts(key):
                    self.tally.count_reply(reply, self.prices)
                else:
                    self.tally.cached += 1
                self._read(asking, reply)
                return
            if key in self._by_key:
                self.tally.cached += 1
                self._under_way[self._by_key[key]][1].append(asking)
                return
        ticket = next(self._tickets)
        self._under_way[ticket] = (key, [asking])
        if key is not None:
            self._by_key[key] = ticket
        self.backend.submit(ticket, asking.request)

    def _arrived(self, ticket: int, reply: Reply) -> None:
        key, askings = self._under_way.pop(ticket)
        self.tally.count_reply(reply, self.prices)
        if self.on_reply is not None:
            self.on_reply(reply)
        if self.cache is not None and key is not None:
            del self._by_key[key]
            self.cache.put(key, reply)
        self._failures = self._failures + 1 if reply.finish == "failed" else 0
        if self._failures >= self.patience:
            raise BackendFailed(
                f"judge {self.backend.name}: {self._failures} requests failed in a row",
                reason=f"the last: {reply.error}",
                remedy="see to the judge and go on; with a cache, what is answered is not asked again",
            )
        for asking in askings:
            self._read(asking, reply)

    def _read(self, asking: _Asking, reply: Reply) -> None:
        """Parses a reply; sends it back once if an axis is undecided, or closes the vote."""
        asking.replies.append(reply)
        rubric = asking.request.rubric
        reading = _reading(reply, rubric)
        first = asking.reading
        if first is None and reading.undecided and self.backend.converses and reply.finish in WRITTEN:
            asking.reading = reading
            asking.request = _repair(asking.request, reply, reading, self.backend.constrained)
            self.tally.repairs += 1
            self._send(asking)
            return
        if first is not None:
            better = reading.undecided < first.undecided
            self.tally.repaired += better
            reading = reading if better else first
        if asking.swapped:
            reading = _swap_back(reading, rubric)
        vote = Vote(reading, tuple(asking.replies), asking.swapped)
        self._open[asking.index].votes[asking.request.sample] = vote

    def _finish(self) -> Iterator[tuple[int, Answer]]:
        complete = [index for index, question in self._open.items() if len(question.votes) == question.wanted]
        for index in complete:
            question = self._open.pop(index)
            votes = [question.votes[sample] for sample in range(question.wanted)]
            answer = combine(question.rubric, votes, self.backend.name)
            self.tally.count_answer(answer)
            yield index, answer


def looping(replies: int) -> list[str]:
    """What is said of so many replies of judges that looped; nothing of none."""
    said = f"judge: {replies} replies looped and were cut early; a question is asked once more at most"
    return [said] if replies else []


def _reading(reply: Reply, rubric: Rubric) -> Reading:
    if reply.finish in ("refused", "failed", "looped"):
        return undecided(rubric, f"{reply.finish}: {reply.error}")
    if reply.finish == "length":  # the verdict comes last, so what is there is a draft
        return undecided(rubric, f"cut off: after {reply.completion_tokens} tokens")
    return parse_answer(reply.text, rubric)


def _repair(request: Request, reply: Reply, reading: Reading, as_json: bool) -> Request:
    """The conversation so far, and what was wrong with the answer."""
    own = strip_thinking(reply.text)[-_SHOWN:] or "(no answer)"
    problems = "; ".join(dict.fromkeys(reading.reasons.values()))
    demand = (
        f"Your answer could not be used ({problems}). Answer again, briefly. {request.rubric.answer_format(as_json)}"
    )
    turn = ({"role": "assistant", "content": own}, {"role": "user", "content": demand})
    return replace(request, messages=(*request.messages, *turn))


def _swap_back(reading: Reading, rubric: Rubric) -> Reading:
    if not reading.label:
        return reading
    label = rubric.swapped(reading.label)
    return replace(reading, label=label, values={VERDICT: rubric.axes[VERDICT].labels[label]})
