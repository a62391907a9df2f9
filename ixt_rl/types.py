"""The few frozen types everything passes around. Imports nothing heavy.

Shape legend of the whole project: B rows, G rollouts of one prompt (a group), T tokens, V vocabulary,
D hidden size, N selected (loss-bearing) token positions of a batch, n candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

from ixt_rl.errors import ConfigError

Role = Literal["system", "feedback", "prompt", "answer", "document", "completion"]
ROLES: tuple[Role, ...] = ("system", "feedback", "prompt", "answer", "document", "completion")
"""Every role a token can have; its index is the token's role id."""

FinishReason = Literal["eos", "stop", "length", "looped"]

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What bytes that are no text, or not yet, decode to."""


@dataclass(frozen=True)
class Segment:
    """A piece of a sequence: ids kept verbatim, or text still to be tokenized.

    Args:
        role: what the piece is for.
        ids: token ids, kept as they are (a completion is never re-tokenized).
        text: text to tokenize on its own, without special tokens. Exactly one of `ids`, `text` is given.
        trained: whether its tokens are in the loss.
    """

    role: Role
    ids: tuple[int, ...] | None = None
    text: str | None = None
    trained: bool = False

    def __post_init__(self) -> None:
        if (self.ids is None) == (self.text is None):
            raise ValueError(f"a {self.role} segment needs exactly one of `ids` and `text`")
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}; one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class TokenSequence:
    """One sequence in token space; three aligned tuples of length T.

    Args:
        input_ids: token ids.
        role_ids: index into `ROLES` of each token.
        loss_mask: whether each token is a target of the loss.
    """

    input_ids: tuple[int, ...]
    role_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.input_ids) == len(self.role_ids) == len(self.loss_mask):
            raise ValueError(
                "input_ids, role_ids and loss_mask must be equally long, got "
                f"{len(self.input_ids)}, {len(self.role_ids)}, {len(self.loss_mask)}"
            )

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class SamplingParams:
    """How to sample; `temperature=0` is greedy.

    Args:
        max_new_tokens: longest completion, EOS included.
        temperature: logits are divided by it before the softmax.
        top_p: nucleus mass kept; 1 keeps all.
        top_k: number of tokens kept; 0 keeps all.
        min_p: tokens are kept whose probability is at least this share of the most likely one's, before top_k and
            top_p; 0 keeps all.
        seed: makes a call repeatable; None draws from torch's global generator.
        json_schema: JSON text of a schema that completions are decoded under, by engines that can. The log-probs are
            then those under the grammar and not the policy's: such completions are not for training.
        stop: texts that end a completion: with the first token with which its text holds one, which stays among its ids
            (`ixt_rl.rollout.stops`).
        cut_loops: whether completions end where they loop (`ixt_rl.rollout.loops`): for who is asked, never for the
            policy, which is trained on what it says.

    Raises:
        ConfigError: a value out of its range, which engines would take for different things.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    json_schema: str | None = None
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    cut_loops: bool = False

    def __post_init__(self) -> None:
        check_stop_strings(self.stop)
        for name, fits, words in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            (
                "temperature",
                isfinite(self.temperature) and self.temperature >= 0,
                "a finite number, 0 (greedy) or more",
            ),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (all)"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 (all) to 1"),
        ):
            if not fits:
                raise ConfigError(
                    f"{name}={getattr(self, name)}", reason=f"it must be {words}", remedy="write a number in that range"
                )

    def settings(self) -> dict[str, Any]:
        """As settings and keys of caches are written; what came later is left out where it changes nothing, so that
        folders and replies of before are known again."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value}


_LATER = ("min_p", "stop", "cut_loops")


def check_stop_strings(stop: Any) -> None:
    """Refuses what cannot end a completion.

    Raises:
        ConfigError: it is one text in place of several, or one of them is empty, no text, or has a character that
            stands for bytes which are none.
    """
    if isinstance(stop, str):
        raise ConfigError(f"stop={stop!r}", reason="stop strings are a list", remedy=f"write [{stop!r}]")
    for one in stop:
        if not isinstance(one, str) or not one or UNKNOWN_CHARACTER in one:
            raise ConfigError(
                f"stop={list(stop)!r}",
                reason="every text contains the empty one" if one == "" else f"{one!r} is in no text that is decoded",
                remedy="give texts of at least one character",
            )


@dataclass(frozen=True)
class Rollout:
    """One sampled completion, as the engine sampled it.

    Args:
        prompt_ids: the prompt.
        completion_ids: sampled ids, the ending EOS, or the token that completed a stop string, included.
        logprobs: log-probability of each completion token under the distribution it was sampled
            from (after temperature and truncation), fp32, same length.
        finish_reason: `eos`; `stop`, with a stop string; `length` when `max_new_tokens` cut it; `looped` when it was
            cut because it looped. An EOS whose text completes a stop string is `eos`, a last token that does is `stop`.
        policy_version: number of weight updates the sampling policy had seen.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int


@dataclass(frozen=True)
class Verdict:
    """What a judge or a verifier found; `score=None` is undecided: excluded and counted, never 0.

    Args:
        score: 0..1, or None.
        label: `right`, `wrong`, `undecided`, or the judge's own.
        evidence: what the verdict rests on (the extracted answer, the reason of an abstention).
        seconds: wall time spent.
    """

    score: float | None
    label: str
    evidence: str = ""
    seconds: float = 0.0


CandidateSource = Literal["original", "rewrite", "rollout"]
SOURCES: tuple[CandidateSource, ...] = get_args(CandidateSource)
"""Where candidates come from by themselves; a `SIPTrainer` may be given further sources, by name."""


@dataclass(frozen=True)
class Candidate:
    """One continuation of a prefix, among those that are compared; SIP learns from the best and the worst.

    Args:
        source: who wrote it: the document's author (`original`), the rewriter, the policy (`rollout`), or a source of
            another name.
        ids: its tokens, as they were cut or sampled.
        text: what the ids decode to without special tokens, of a rollout up to its stop string; equal texts are one to
            a judge.
        verdict: what the judge found; None before it was asked. A verdict whose score is None is undecided.
    """

    source: str
    ids: tuple[int, ...]
    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Grade:
    """A world's full knowledge of one rationale; worlds know more than the reward that trains.

    Args:
        checked: the reward of the training view: the read-out answer is right.
        strict: every step is right.
        reasoned: the rationale has steps at all.
        token_right: per completion token, whether it is what a right rationale has there.
        extra: further named 0/1 properties of this world.
    """

    checked: bool
    strict: bool
    reasoned: bool
    token_right: tuple[bool, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def lucky(self) -> bool:
        """Right answer by wrong steps."""
        return self.checked and not self.strict


@dataclass(frozen=True)
class Feedback:
    """What a judge wrote about a text, or what is wished of one; a template renders it and parses it back.

    Args:
        level: overall quality from 1 (worst) to 5 (best), or None: undecided, or not asked for.
        scores: decided scores by axis, each on its rubric's own scale; an undecided axis is absent.
        critique: why, in the judge's words.
        judge: who said so; "" for a wish.
        tag: where the text comes from (its site, its source), which no judge had to read it for; "" if it is not said.

    Raises:
        ValueError: a level outside 1..5, an axis that is no lower-case identifier, or a score that is not finite.
    """

    level: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    critique: str = ""
    judge: str = ""
    tag: str = ""

    def __post_init__(self) -> None:
        if self.level is not None and (isinstance(self.level, bool) or self.level not in (1, 2, 3, 4, 5)):
            raise ValueError(f"feedback level {self.level!r}: a level is one of 1, 2, 3, 4, 5, or None")
        for axis, score in self.scores.items():
            if not axis.isidentifier() or axis != axis.lower():
                raise ValueError(f"feedback axis {axis!r}: an axis is a lower-case identifier, like `writing_style`")
            if isinstance(score, bool) or not isinstance(score, int | float) or not isfinite(score):
                raise ValueError(f"feedback score {score!r} of axis {axis}: a score is a finite number")
        object.__setattr__(self, "scores", {axis: float(score) for axis, score in self.scores.items()})


@dataclass(frozen=True)
class Document:
    """A text to train on, with what a judge said of it.

    Args:
        text: the document; with `prompt`, the reply to it.
        prompt: what the text replies to (SFT); "" for a document of its own.
        feedback: None where no judge read it, or the judge left everything undecided.
        key: where it came from, for messages.
        judged_tokens: tokens that a judge read and wrote for it; 0 where it is seen again.
        turns: of a conversation, (role, content) of all that was said before the text, its last reply; the roles are
            system, user and assistant. Takes the place of `prompt`.
        context: how many of the first turns are examples, in which no reply is trained.
        control_tokens: whether control tokens that text and prompt spell out are such: they are written in a chat
            template already.
        as_read: the same as its file has it, where a template shows its prompt otherwise; None: it does not.
    """

    text: str
    prompt: str = ""
    feedback: Feedback | None = None
    key: str = ""
    judged_tokens: int = 0
    turns: tuple[tuple[str, str], ...] = ()
    context: int = 0
    control_tokens: bool = False
    as_read: Document | None = None

    @property
    def content(self) -> tuple[str, ...]:
        """All that is said, to tell documents apart by: the turns, the prompt, the text; whatever a template adds."""
        if self.as_read is not None:
            return self.as_read.content
        return (*(part for turn in self.turns for part in turn), self.prompt, self.text)
