"""Documents -> token sequences with or without their feedback: which, where, and what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from jinja2 import TemplateError

from ixt_rl.conditioning.control import ControlTokens, leading_ids
from ixt_rl.conditioning.ends import Ends, chat_frame, find_ends
from ixt_rl.conditioning.options import Conditioning
from ixt_rl.conditioning.own_template import OwnFeedbackTemplate
from ixt_rl.conditioning.prompts import Prompt
from ixt_rl.conditioning.sequences import (
    build,
    document_segments,
    reply_segments,
    require_chat,
    system_chat_messages,
)
from ixt_rl.errors import DataError
from ixt_rl.shares import share
from ixt_rl.types import Document, Feedback, Role, Segment, TokenSequence

_CACHED_FEEDBACK = 4096  # rendered feedback texts whose ids are kept; levels need five, critiques do not repeat


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
        self._turn_end = tokenizer.convert_ids_to_tokens(self.ends.turn)
        frame = chat_frame(tokenizer) if conditioning.chat else None
        self._gap = frame.gap if frame is not None else ""
        closing = frame.closing.partition(self._turn_end) if frame is not None else ("", "", "")
        self._closing = closing[0] + closing[1] if self.ends.rule == "chat template" else ""
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
            DataError: with `chat`, a document without a prompt, or turns that the template cannot show; without it, a
                conversation.
        """
        return [build(segments) for segments in self.segments(documents, first)]

    def segments(self, documents: Sequence[Document], first: int) -> list[list[Segment]]:
        """What `__call__` builds, before ids are joined: every segment holds ids."""
        shown = [self.shown_feedback(document, first + i) for i, document in enumerate(documents)]
        if self.conditioning.chat:
            return self._replies(documents, shown)
        for document in documents:
            if document.turns:
                raise DataError(
                    f"{document.key or 'a document'}: a conversation",
                    reason="without a chat there is nothing between its turns",
                    remedy="train conversations with chat=True (type: sft)",
                )
        said = self._content_ids(documents)
        return [
            self._document(self._cached(feedback), text, prompt)
            for feedback, (text, prompt) in zip(shown, said, strict=True)
        ]

    def prompt(self, text: Prompt, feedback: Feedback | None) -> list[int]:
        """What inference sees, by the code that training uses: [bos, feedback, separator, text], or the chat so far.

        With position `after`, feedback follows what is still to be written, so there is none in the prompt. With
        `chat`, text is the user's message; or it is a list of messages, before which feedback is put.
        """
        rendered = self._render(feedback)
        if self.conditioning.chat:
            said = [("user", text)] if isinstance(text, str) else [(m["role"], m["content"]) for m in text]
            return self._control.markup_ids(self._markup([self._chat(rendered, said)]))[0]
        before = self._cached(rendered) if self.conditioning.position == "before" else ()
        (ids,) = self._control.text_ids([text if isinstance(text, str) else text[-1]["content"]])
        asked = document_segments(before, (), prompt=ids, separator=self._separator, bos=self._bos)
        return list(build(asked).input_ids)

    def shown_feedback(self, document: Document, number: int) -> str:
        """The feedback text that the document is shown with as number `number` of its stream; "" for none."""
        wanted = self.conditioning
        if wanted.template is None or document.feedback is None:
            return ""
        if wanted.fraction < 1 and share("annotated", *document.content) >= wanted.fraction:
            return ""
        if wanted.dropout > 0 and share("dropout", self.seed, number) < wanted.dropout:
            return ""
        return self._render(document.feedback, document)

    def _render(self, feedback: Feedback | None, document: Document | None = None) -> str:
        """As markup: level texts may be control tokens, what a judge wrote is text."""
        template = self.conditioning.template
        if template is None or feedback is None:
            return ""
        guard = self._control.guard
        if document is not None and isinstance(template, OwnFeedbackTemplate):
            turns = tuple((role, guard(content)) for role, content in document.turns)
            document = replace(document, text=guard(document.text), prompt=guard(document.prompt), turns=turns)
        return template.render(replace(feedback, critique=guard(feedback.critique), tag=guard(feedback.tag)), document)

    def _document(self, feedback: Sequence[int], text: Sequence[int], prompt: Sequence[int]) -> list[Segment]:
        said = prompt or text  # may be written in a chat template, with BOS and the end in it
        cut, text = self._cut(text) if prompt else (False, text)
        return document_segments(
            feedback,
            text,
            prompt=prompt,
            separator=self._separator,
            bos=() if self._bos and tuple(said[: len(self._bos)]) == self._bos else self._bos,
            eos=() if cut or (text and text[-1] == self.ends.document) else (self.ends.document,),
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

    def _content_ids(self, documents: Sequence[Document]) -> Sequence[tuple[Sequence[int], Sequence[int]]]:
        """(text, prompt) of each document as ids."""
        texts, prompts = ([getattr(document, name) for document in documents] for name in ("text", "prompt"))
        behind = self._control.following([self._control.guard(prompt) for prompt in prompts], texts)
        found = [list(ids) for ids in zip(behind, self._control.text_ids(prompts), strict=True)]
        for pair, document in zip(found, documents, strict=True):
            if document.control_tokens:
                (written,) = self._control.following([document.prompt], [document.text], guarded=True)
                pair[:] = written, self._control.markup_ids([document.prompt])[0]
        return [(text, prompt) for text, prompt in found]

    # ---------------------------------------------------------------- chats

    def _replies(self, documents: Sequence[Document], shown: Sequence[str]) -> list[list[Segment]]:
        """Conversations, masked but for the assistant's replies."""
        chats = [
            self._chat(feedback, document.turns or [("user", _prompt_of(document))])
            for feedback, document in zip(shown, documents, strict=True)
        ]
        keys = [document.key for document in documents]
        asked = self._markup(chats, keys)
        roles: list[Role] = ["system" if feedback else "prompt" for feedback in shown]
        begun = [
            self._earlier(chat, markup, document, role)
            for chat, markup, document, role in zip(chats, asked, documents, roles, strict=True)
        ]
        ends = [self._turn_end if earlier else "" for earlier, _ in begun]
        prompts = self._control.following(ends, [rest for _, rest in begun], guarded=True)
        texts = self._control.following(asked, [self._gap + document.text for document in documents])
        return [
            [*earlier, *self._reply(prompt, text, with_feedback=role == "system" and not earlier)]
            for (earlier, _), prompt, text, role in zip(begun, prompts, texts, roles, strict=True)
        ]

    def _reply(self, prompt: Sequence[int], text: Sequence[int], with_feedback: bool) -> list[Segment]:
        cut, text = self._cut(text)
        segments = reply_segments(prompt, text, self.ends, with_feedback=with_feedback)
        return segments[:2] if cut else segments

    def _cut(self, reply: Sequence[int]) -> tuple[bool, Sequence[int]]:
        """Whether a reply is longer than replies may be, and what is left of it."""
        most = self.conditioning.max_reply_tokens
        return (True, reply[:most]) if most is not None and len(reply) > most else (False, reply)

    def _earlier(
        self, chat: list[dict[str, str]], markup: str, document: Document, role: Role
    ) -> tuple[list[Segment], str]:
        """(segments up to the end of the last reply but one, the markup after it); no segment if none of it is trained.

        Every reply follows what inference sees before it. So a chat up to one reply has to begin as the chat up to the
        reply before it, with that reply and its end.

        Raises:
            DataError: the template rewrites earlier turns, or closes them with no token.
        """
        context = max(1, document.context)  # a first message replies to nothing
        replies = [
            number for number, message in enumerate(chat) if message["role"] == "assistant" and number >= context
        ]
        key = document.key or "a conversation"
        if self.conditioning.train_turns == "last" or not replies:
            return [], markup
        starts = [*self._markup([chat[:number] for number in replies], [key] * len(replies)), markup]
        segments: list[Segment] = []
        done = 0
        for number, (start, following) in zip(replies, pairwise(starts), strict=True):
            reply = chat[number]["content"]
            shown = [self._gap + text for text in (reply, reply.strip())]
            texts = [text for text in shown if following.startswith(start + text + self._closing)]
            if not texts or not self._closing:
                raise DataError(
                    f"{key}: message {number} of {len(chat) + 1}",
                    reason="in later turns the chat template shows that reply otherwise than it was written"
                    if self._closing
                    else "the chat template ends replies with no control token",
                    remedy="set train_turns: last, which trains the last reply alone",
                )
            (before,) = self._control.following([self._turn_end if segments else ""], [start[done:]], guarded=True)
            (written,) = self._control.following([start], [texts[0]], guarded=True)
            segments += [
                Segment("prompt" if segments else role, ids=tuple(before)),
                Segment("completion", ids=(*written, *self.ends.reply[: self.ends.reply_trained]), trained=True),
            ]
            done = len(start + texts[0] + self._closing)
        return segments, markup[done:]

    def _chat(self, feedback: str, turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
        """Messages with guarded contents; feedback is the system message, or stands before the one there is."""
        chat = [{"role": role, "content": self._control.guard(content)} for role, content in turns]
        if feedback and chat[0]["role"] == "system":
            chat[0]["content"] = feedback + "\n\n" + chat[0]["content"]
        elif feedback:
            chat.insert(0, {"role": "system", "content": feedback})
        return chat

    def _markup(self, chats: list[list[dict[str, str]]], keys: Sequence[str] = ()) -> list[str]:
        """Chats as the template renders them, up to the reply that is to come."""
        options = {"add_generation_prompt": True, "tokenize": False, **self.conditioning.chat_template_kwargs}
        try:
            return self.tokenizer.apply_chat_template(chats, **options)
        except TemplateError as error:
            for chat, key in zip(chats, keys or [""] * len(chats), strict=True):
                try:
                    self.tokenizer.apply_chat_template(chat, **options)
                except TemplateError as refused:
                    roles = ", ".join(message["role"] for message in chat)
                    raise DataError(
                        f"{key or 'a conversation'}: messages of {roles}",
                        reason=f"the chat template refuses them: {refused}",
                        remedy="correct the row, or leave it out",
                    ) from None
            raise error


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
