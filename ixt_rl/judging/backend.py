"""What the judge client asks: requests in, replies out as they finish; an engine, an endpoint or a function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ixt_rl.judging.rubric import Message, Rubric
from ixt_rl.types import SamplingParams
from ixt_rl.under_way import WatchUnderWay

Finish = Literal["stop", "length", "looped", "refused", "failed"]

WRITTEN: tuple[Finish, ...] = ("stop", "length", "looped")
"""Of replies that are there, usable or not: they are kept, and may be sent back to be repaired."""

MOST_TOKENS = 100_000_000
"""More than any model reads or writes in one request: a larger count is none."""

LARGEST_REPLY = 4 * 2**20
"""Bytes of a reply, by default, and characters of one that a cache keeps."""


@dataclass(frozen=True)
class Request:
    """One text to be written by a judge.

    Args:
        messages: the conversation so far; the last message is the user's.
        rubric: what is asked; `rubric.answer_schema()` is what a constrained answer keeps to.
        fields: the texts that the question is about, by name; what a function is called with.
        sampling: how to sample; `seed` says with which noise.
        sample: tells repeats of the same messages apart.
    """

    messages: tuple[Message, ...]
    rubric: Rubric
    fields: Mapping[str, str]
    sampling: SamplingParams
    sample: int = 0

    @property
    def seed(self) -> int | None:
        """Below 2^31, of the sampling's seed, the messages and the sample number; None without a seed.

        The same question is sampled alike wherever it is asked, and different ones do not share their noise.
        """
        if self.sampling.seed is None:
            return None
        content = repr((self.sampling.seed, self.sample, [sorted(message.items()) for message in self.messages]))
        return int.from_bytes(hashlib.sha256(content.encode()).digest()[:4]) >> 1


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        text: the answer as written, thinking included.
        finish: `stop`: the judge ended it; `length`: cut at `max_new_tokens`; `looped`: cut early, because it looped
            (`ixt_rl.rollout.loops`); `refused`: this request cannot be answered (too long, filtered), others can;
            `failed`: transport, after all retries, or a function raised.
        prompt_tokens: tokens read, over all attempts that were answered.
        completion_tokens: tokens written.
        seconds: wall time: of the request at an endpoint, retries included; an equal share of its batch in an engine.
        error: why it was refused or failed, or how it looped.
        retries: attempts before the last.
    """

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    error: str = ""
    retries: int = 0


def counted(tokens: Any) -> int | None:
    """A count of tokens as a server gives it, or None for what can be none (missing, negative, a fraction, 10^30)."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens <= MOST_TOKENS:
        return None
    return int(tokens) if tokens == int(tokens) else None


class JudgeBackend(Protocol):
    """Answers requests in any order. One client uses it at a time.

    Attributes:
        name: says which judge this is, and all that its answers depend on besides the request; part of the cache's key.
        capacity: requests worth having under way at once.
        constrained: whether answers are decoded under the rubric's schema.
        converses: whether it reads messages, so that it can be asked to repair an answer.
        watch: told what is being written, as far as it is known, and and `NOTHING` when nothing is; None:
            nobody listens.
    """

    capacity: int
    constrained: bool
    converses: bool
    watch: WatchUnderWay | None

    @property
    def name(self) -> str: ...

    def submit(self, ticket: int, request: Request) -> None:
        """Takes a request; its reply will carry `ticket`."""
        ...

    def collect(self) -> list[tuple[int, Reply]]:
        """Waits until at least one request is answered, and gives all that are. Not to be called with none under way.

        Raises:
            BackendFailed: no request can be answered (a wrong key, no such model).
        """
        ...

    def drop(self) -> None:
        """Forgets the requests under way."""
        ...

    def close(self) -> None:
        """Releases what it holds; a backend that it was given stays open."""
        ...
