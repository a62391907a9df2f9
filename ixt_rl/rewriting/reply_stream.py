"""Rewriters that answer as replies come, and draw questions as there is room: for jobs of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ixt_rl.conditioning.thought_marks import TEACHER_TAG, Woven, interleaved, weave
from ixt_rl.judging.backend import Reply, Request
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.rewriting.prompt import read_rewrite
from ixt_rl.rewriting.rewriter import Rewriter
from ixt_rl.rewriting.thinker import Thinker, chunks
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix


@dataclass(frozen=True)
class Rewritten:
    """What became of a suffix.

    Args:
        candidate: the rewrite; None if there is none.
        reason: why not; "" if there is one.
        tokens: of the reply, read and written, whether it was asked for now or was in the cache.
    """

    candidate: Candidate | None
    reason: str
    tokens: int


@dataclass(frozen=True)
class Thought:
    """What became of a document.

    Args:
        woven: the document with thoughts, or why there is none.
        tokens: of its chunks' replies, read and written.
    """

    woven: Woven
    tokens: int


class ReplyStream(Rewriter):
    """A rewriter that need not be given all questions at once."""

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) as they come, from the cache or the backend; of equal requests under way one is sent.

        A stream has the backend for itself. Ending it early drops what is under way.

        Raises:
            BackendFailed: the backend can answer nothing, or `patience` requests failed in a row.
        """
        source = enumerate(requests)
        waiting: dict[bytes, list[int]] = {}  # of the requests under way, by key
        tickets: dict[int, bytes] = {}
        more = True
        try:
            while more or tickets:
                while more and len(tickets) < self.backend.capacity:
                    index, request = next(source, (-1, None))
                    if request is None:
                        more = False
                        break
                    key = JudgeCache.key(self.backend.name, request)
                    reply = self.cache.get(key) if self.cache else None
                    if reply is not None or key in waiting:
                        self.tally.work.cached += 1
                    if reply is not None:
                        yield index, reply
                    elif key in waiting:
                        waiting[key].append(index)
                    else:
                        waiting[key], tickets[index] = [index], key
                        self.backend.submit(index, request)
                for ticket, reply in self.backend.collect() if tickets else ():
                    key = tickets.pop(ticket)
                    self._arrived(key, reply)
                    for index in waiting.pop(key):
                        yield index, reply
        finally:
            self.backend.drop()


class RewriteStream(ReplyStream):
    """A `Rewriter` whose rewrites come one by one, each with the reason if there is none."""

    def stream(self, items: Iterable[PrefixSuffix]) -> Iterator[tuple[int, Rewritten]]:
        """(index, what became of the item) in the order of the replies; see `ReplyStream.replies`."""
        asked: dict[int, tuple[PrefixSuffix, str]] = {}

        def requests() -> Iterator[Request]:
            for index, item in enumerate(items):
                prefix, suffix = self._decode(item.prefix_ids), self._decode(item.suffix_ids)
                asked[index] = item, suffix
                yield self._request(prefix, suffix)

        for index, reply in self.replies(requests()):
            item, suffix = asked.pop(index)
            candidate = self._candidate(item, suffix, reply)
            reason = "" if candidate else _with_error(read_rewrite(reply, self.backend.constrained)[1], reply)
            yield index, Rewritten(candidate, reason, reply.prompt_tokens + reply.completion_tokens)


class ThoughtStream(ReplyStream, Thinker):
    """A `Thinker` whose documents come one by one, each with the reason if it is undecided."""

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[int, Thought]]:
        """(index, what became of the text), as soon as its last chunk is there; see `ReplyStream.replies`.

        What is given as woven was taken apart again: `interleaved` gives the text.
        """
        places: dict[int, tuple[_Open, int]] = {}

        def requests() -> Iterator[Request]:
            asked = 0
            for index, text in enumerate(texts):
                document = _Open(index, text, chunks(text, self.chunk_characters))
                for number, (prefix, chunk) in enumerate(self._questions(document.chunks)):
                    places[asked] = document, number
                    asked += 1
                    yield self._request(prefix, chunk)

        for place, reply in self.replies(requests()):
            document, number = places.pop(place)
            chunk = document.chunks[number]
            document.tokens += reply.prompt_tokens + reply.completion_tokens
            document.woven[number] = self._woven(chunk, reply)
            if document.woven[number] is None:
                document.reasons[number] = self._why_not(chunk, reply)
            if len(document.woven) == len(document.chunks):
                yield document.index, Thought(document.joined(), document.tokens)

    def _why_not(self, chunk: str, reply: Reply) -> str:
        text, reason = read_rewrite(reply, self.backend.constrained)
        return _with_error(reason, reply) if text is None else weave(chunk, text, TEACHER_TAG).reason


@dataclass(eq=False)
class _Open:
    """A document of which chunks are missing."""

    index: int
    text: str
    chunks: list[str]
    woven: dict[int, str | None] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    tokens: int = 0

    def joined(self) -> Woven:
        """The whole document with its thoughts, or the reason of its first chunk without."""
        if self.reasons:
            return Woven(None, self.reasons[min(self.reasons)])
        whole = weave(self.text, "".join(self.woven[number] or "" for number in range(len(self.chunks))))
        if whole.text is not None and interleaved(whole.text) != self.text:
            return Woven(None, "text changed: the thoughts cannot be taken out again")
        return whole


def _with_error(reason: str, reply: Reply) -> str:
    return f"{reason}: {reply.error}" if reply.error else reason
