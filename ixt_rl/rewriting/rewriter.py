"""SIP's rewriter: leaves a good suffix as it is, and writes a better one in place of a poor one.

prefix, suffix --RewritePrompt--> request --cache or backend--> reply --read_rewrite--> COPY: the suffix's own ids
                                                                                     | text: tokenized once, N tokens
                                                                                     | neither: no rewrite, counted
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.backend import JudgeBackend, Reply, Request
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.rubric import whole_characters
from ixt_rl.rewriting.prompt import COPY, RewritePrompt, read_rewrite
from ixt_rl.types import Candidate, SamplingParams

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix


@dataclass
class RewriteTally:
    """Counts since the rewriter was made.

    Args:
        asked: suffixes.
        copied: left as they are.
        rewritten: written anew.
        shortened: of which cut at N tokens.
        skipped: suffixes without a rewrite, by reason.
        work: requests, tokens, seconds and cost.
    """

    asked: int = 0
    copied: int = 0
    rewritten: int = 0
    shortened: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    work: Tally = field(default_factory=Tally)


class Rewriter:
    """Asks a backend for each suffix's rewrite.

    "Leave it", said with the word COPY or by writing the same text, gives the suffix's own ids; no text is tokenized
    for it. A rewrite begins with the white space that the suffix begins with, is tokenized once, and is cut at
    `suffix_tokens`; it ends with EOS if the suffix does and there is room.

    What comes back as no rewrite (refused, failed after all retries, cut off, empty, unfinished, unreadable) gives no
    candidate and is counted: the other candidates of that prefix are judged without it.

    Args:
        backend: any backend of a `Judge`, also the same one: they take turns. A function gets `prefix` and `suffix`
            and gives the rewrite, "COPY", or None.
        sampling: `max_new_tokens` has to leave room for thinking and the marks.
        tokenizer: the policy's, which the ids are of.
        prompt: what is asked; see `load_rewrite`.
        suffix_tokens: N, most tokens of a rewrite.
        cache: replies already there are not asked for again.
        prices: per million prompt and per million completion tokens.
        patience: failed requests in a row after which the rewriter gives up, because its backend is down.
        parameters: of its model, for FLOPs; None where nobody says.

    Raises:
        ConfigError: suffix_tokens < 1.
    """

    def __init__(
        self,
        backend: JudgeBackend,
        sampling: SamplingParams,
        tokenizer,
        prompt: RewritePrompt,
        *,
        suffix_tokens: int = 128,
        cache: JudgeCache | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
        patience: int = 100,
        parameters: int | None = None,
    ):
        if suffix_tokens < 1:
            raise ConfigError(
                f"suffix_tokens={suffix_tokens}", reason="a rewrite needs a token", remedy="give the stream's number"
            )
        self.backend, self.sampling, self.tokenizer, self.prompt = backend, sampling, tokenizer, prompt
        self.suffix_tokens, self.cache, self.prices, self.patience = suffix_tokens, cache, prices, patience
        self.parameters = parameters
        self.tally = RewriteTally()
        self._failures = 0

    def __call__(self, items: Sequence[PrefixSuffix]) -> list[Candidate | None]:
        """A candidate of source `rewrite` for each item, or None; equal questions are asked once.

        Raises:
            BackendFailed: the backend can answer nothing, or `patience` requests failed in a row.
        """
        texts = [(self._decode(item.prefix_ids), self._decode(item.suffix_ids)) for item in items]
        replies = self._ask([self._request(prefix, suffix) for prefix, suffix in texts])
        return [
            self._candidate(item, suffix, reply) for item, (_, suffix), reply in zip(items, texts, replies, strict=True)
        ]

    def close(self) -> None:
        """Closes the backend; the cache stays open."""
        self.backend.close()

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _request(self, prefix: str, suffix: str) -> Request:
        fields = {"prefix": whole_characters(prefix), "suffix": suffix}
        messages = self.prompt.messages(fields, as_json=self.backend.constrained)
        return Request(tuple(messages), self.prompt, fields, self.sampling)

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply a request, in their order."""
        keys = [JudgeCache.key(self.backend.name, request) for request in requests]
        replies = {key: reply for key in keys if self.cache and (reply := self.cache.get(key)) is not None}
        again = 0
        for key, reply in replies.items():
            if self.cache is not None and self.cache.counts(key):
                self.tally.work.count_reply(reply, self.prices)
                again += 1
        waiting = iter({key: r for key, r in zip(keys, requests, strict=True) if key not in replies}.items())
        under_way: dict[int, bytes] = {}
        sent = 0
        try:
            while True:
                for key, request in islice(waiting, self.backend.capacity - len(under_way)):
                    under_way[sent] = key
                    self.backend.submit(sent, request)
                    sent += 1
                if not under_way:
                    break
                for ticket, reply in self.backend.collect():
                    key = under_way.pop(ticket)
                    replies[key] = reply
                    self._arrived(key, reply)
        finally:
            self.backend.drop()
        self.tally.work.cached += len(keys) - sent - again
        return [replies[key] for key in keys]

    def _arrived(self, key: bytes, reply: Reply) -> None:
        self.tally.work.count_reply(reply, self.prices)
        if self.cache is not None:
            self.cache.put(key, reply)
        self._failures = self._failures + 1 if reply.finish == "failed" else 0
        if self._failures >= self.patience:
            raise BackendFailed(
                f"rewriter {self.backend.name}: {self._failures} requests failed in a row",
                reason=f"the last: {reply.error}",
                remedy="see to the rewriter and go on; with a cache, what is answered is not asked again",
            )

    def _candidate(self, item: PrefixSuffix, suffix: str, reply: Reply) -> Candidate | None:
        self.tally.asked += 1
        text, reason = read_rewrite(reply, self.backend.constrained)
        if text is None:
            self.tally.skipped[reason] += 1
            return None
        if text in (COPY, suffix.strip()):
            self.tally.copied += 1
            return Candidate("rewrite", item.suffix_ids, suffix)
        from ixt_rl.conditioning.control import text_ids  # that package imports torch

        ids = tuple(text_ids(self.tokenizer, _as_begun(text, suffix)))
        eos = self.tokenizer.eos_token_id
        self.tally.rewritten += 1
        self.tally.shortened += len(ids) > self.suffix_tokens
        if item.suffix_ids[-1] == eos:
            ids += (eos,)
        ids = ids[: self.suffix_tokens]
        return Candidate("rewrite", ids, self._decode(ids))


def _as_begun(text: str, suffix: str) -> str:
    """`text` after the white space that `suffix` begins with, which no rewriter can be trusted to repeat."""
    return suffix[: len(suffix) - len(suffix.lstrip())] + text


def begun_alike(text: str, suffix: str) -> str:
    """`text`, beginning with the white space that `suffix` begins with."""
    return suffix[: len(suffix) - len(suffix.lstrip())] + text.lstrip()
