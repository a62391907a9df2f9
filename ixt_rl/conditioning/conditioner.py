"""Documents -> token sequences with or without their feedback: which, where, and what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import get_args

from ixt_rl.conditioning.control import ControlTokens, leading_ids
from ixt_rl.conditioning.ends import Ends, find_ends
from ixt_rl.conditioning.feedback import FeedbackTemplate
from ixt_rl.conditioning.sequences import (
    Position,
    build,
    document_segments,
    reply_segments,
    require_chat,
    system_chat_messages,
)
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Document, Feedback, Segment, TokenSequence

_CACHED_FEEDBACK = 4096  # rendered feedback texts whose ids are kept; levels need five, critiques do not repeat


@dataclass(frozen=True)
class Conditioning:
    """How documents are shown.

    Args:
        template: writes the feedback; None: plain next-token prediction.
        position: feedback before its document, or after it.
        dropout: share of annotated documents shown without their feedback, drawn anew each time one is seen.
        fraction: share of documents that count as annotated, chosen by a hash of their content: always the same ones.
        train_feedback: whether feedback tokens are in the loss (pretraining: yes; SFT: no). In a chat they never are.
        chat: feedback is the system message, and only the reply is trained (SFT).

    Raises:
        ConfigError: a share outside [0, 1], an unknown position, or a chat with feedback after the reply.
    """

    template: FeedbackTemplate | None = None
    position: Position = "before"
    dropout: float = 0.0
    fraction: float = 1.0
    train_feedback: bool = True
    chat: bool = False

    def __post_init__(self) -> None:
        for name in ("dropout", "fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r}",
                    reason="it is a share of documents",
                    remedy="give a number from 0 to 1",
                )
        if self.position not in get_args(Position):
            raise ConfigError(
                f"position={self.position!r}",
                reason="feedback stands before or after its document",
                remedy="one of " + ", ".join(get_args(Position)),
            )
        if self.chat and self.position == "after":
            raise ConfigError(
                "chat=True with position='after'",
                reason="the feedback of a chat is its system message, which comes first",
                remedy="set position to before, or chat to false",
            )


def share(*parts: object) -> float:
    """A number in [0, 1), uniform over parts and always the same for the same ones."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64


class Conditioner:
    """Shows documents with their feedback, as `conditioning` says.

    Args:
        tokenizer: a transformers tokenizer with an EOS token, complete: tokens added later are not seen. BOS comes
            first only if it adds one by itself.
        conditioning: see `Conditioning`.
        seed: of the dropout.
        ends: how replies and documents end; None: as `find_ends` says of the tokenizer alone.

    Raises:
        DataError: the tokenizer has no EOS, or with `chat` no chat template that takes a system message.
    """

    def __init__(self, tokenizer, conditioning: Conditioning, seed: int = 0, ends: Ends | None = None):
        self.tokenizer, self.conditioning, self.seed = tokenizer, conditioning, seed
        if conditioning.chat:
            require_chat(tokenizer)
            if conditioning.template is not None:
                _require_system_message(tokenizer)
        self.ends = ends or find_ends(tokenizer)
        self._control = ControlTokens(tokenizer, cached=True)
        self._bos = leading_ids(tokenizer)
        template = conditioning.template
        self._separator = tuple(self._control.markup_ids([template.separator])[0]) if template else ()
        self._feedback_ids: dict[str, tuple[int, ...]] = {}

    def __call__(self, documents: Sequence[Document], first: int) -> list[TokenSequence]:
        """One sequence a document.

        Args:
            documents: any number of them; they are tokenized together.
            first: the running number of documents[0] in its stream. Dropout is decided by (seed, running number),
                so a resumed stream decides as the one that was stopped.

        Raises:
            DataError: with `chat`, a document without a prompt.
        """
        return [build(segments) for segments in self.segments(documents, first)]

    def segments(self, documents: Sequence[Document], first: int) -> list[list[Segment]]:
        """What `__call__` builds, before ids are joined: every segment holds ids."""
        shown = [self.shown_feedback(document, first + i) for i, document in enumerate(documents)]
        texts = self._control.text_ids([document.text for document in documents])
        if self.conditioning.chat:
            chats = self._chat_ids(shown, [_prompt_of(document) for document in documents])
            return [
                reply_segments(chat, text, self.ends, with_feedback=bool(feedback))
                for feedback, chat, text in zip(shown, chats, texts, strict=True)
            ]
        prompts = self._control.text_ids([document.prompt for document in documents])
        return [
            self._document(self._cached(feedback), text, prompt)
            for feedback, text, prompt in zip(shown, texts, prompts, strict=True)
        ]

    def prompt(self, text: str, feedback: Feedback | None) -> list[int]:
        """What inference sees, by the code that training uses: [bos, feedback, separator, text], or the chat so far.

        With position `after`, feedback follows what is still to be written, so there is none in the prompt.
        """
        rendered = self._render(feedback)
        if self.conditioning.chat:
            return list(self._chat_ids([rendered], [text])[0])
        before = self._cached(rendered) if self.conditioning.position == "before" else ()
        asked = document_segments(
            before, (), prompt=self._control.text_ids([text])[0], separator=self._separator, bos=self._bos
        )
        return list(build(asked).input_ids)

    def shown_feedback(self, document: Document, number: int) -> str:
        """The feedback text that the document is shown with as number `number` of its stream; "" for none."""
        wanted = self.conditioning
        if wanted.template is None or document.feedback is None:
            return ""
        if wanted.fraction < 1 and share("annotated", document.prompt, document.text) >= wanted.fraction:
            return ""
        if wanted.dropout > 0 and share("dropout", self.seed, number) < wanted.dropout:
            return ""
        return self._render(document.feedback)

    def _render(self, feedback: Feedback | None) -> str:
        """As markup: level texts may be control tokens, what a judge wrote is text."""
        template = self.conditioning.template
        if template is None or feedback is None:
            return ""
        return template.render(replace(feedback, critique=self._control.guard(feedback.critique)))

    def _document(self, feedback: Sequence[int], text: Sequence[int], prompt: Sequence[int]) -> list[Segment]:
        return document_segments(
            feedback,
            text,
            prompt=prompt,
            separator=self._separator,
            bos=self._bos,
            eos=(self.ends.document,),
            position=self.conditioning.position,
            train_feedback=self.conditioning.train_feedback,
        )

    def _cached(self, feedback: str) -> tuple[int, ...]:
        ids = self._feedback_ids.get(feedback)
        if ids is None:
            if len(self._feedback_ids) >= _CACHED_FEEDBACK:
                self._feedback_ids.clear()
            ids = self._feedback_ids[feedback] = tuple(self._control.markup_ids([feedback])[0])
        return ids

    def _chat_ids(self, feedback: Sequence[str], users: Sequence[str]) -> Sequence[Sequence[int]]:
        guard = self._control.guard
        chats = [system_chat_messages(text, guard(user)) for text, user in zip(feedback, users, strict=True)]
        return self._control.markup_ids(
            self.tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        )


def _prompt_of(document: Document) -> str:
    if not document.prompt:
        raise DataError(
            f"{document.key or 'a document'}: no prompt",
            reason="with chat=True the document is the reply to one",
            remedy="name the prompt's column, or set chat to false",
        )
    return document.prompt


def _require_system_message(tokenizer) -> None:
    word = "qualityprobe"
    try:
        shown = tokenizer.apply_chat_template(
            system_chat_messages(word, "x"), add_generation_prompt=True, tokenize=False
        )
        reason = "it drops the system message"
    except Exception as error:  # a template's own raise_exception comes as one of jinja's
        shown, reason = "", f"it refuses a system message: {error}"
    if word not in shown:
        raise DataError(
            f"chat template of tokenizer {type(tokenizer).__name__}",
            reason=reason,
            remedy="give the tokenizer a chat template with a system role, or set chat to false",
        )
