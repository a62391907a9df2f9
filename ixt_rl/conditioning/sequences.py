"""Segments -> TokenSequence, and the segment lists of the three methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ixt_rl.conditioning.control import chat_ids, text_ids
from ixt_rl.conditioning.ends import Ends, find_ends
from ixt_rl.errors import DataError
from ixt_rl.types import ROLES, Role, Segment, TokenSequence

Content = Sequence[int] | str
"""Token ids, kept as they are, or text to tokenize on its own."""

Position = Literal["before", "after"]
"""Where feedback stands: before its document, or after it."""


def build(segments: Sequence[Segment], tokenizer=None) -> TokenSequence:
    """Concatenates segments in token space.

    Ids are kept verbatim. Text is tokenized piece by piece without special tokens, so the boundary
    between two segments is fixed in token space and no tokenizer merge can cross it. Control tokens
    that a text spells out stay text; give those that are meant as ids.

    Args:
        segments: pieces in order.
        tokenizer: a transformers tokenizer; needed only when a segment holds text.

    Returns:
        A `TokenSequence` of length T, the sum of the segments' lengths.

    Raises:
        ValueError: a segment holds text and there is no tokenizer.
    """
    ids: list[int] = []
    roles: list[int] = []
    mask: list[bool] = []
    for segment in segments:
        if segment.ids is not None:
            piece: Sequence[int] = segment.ids
        elif tokenizer is not None:
            piece = text_ids(tokenizer, segment.text or "")
        else:
            raise ValueError(f"a {segment.role} segment holds text, and `build` was given no tokenizer")
        ids += piece
        roles += [ROLES.index(segment.role)] * len(piece)
        mask += [segment.trained] * len(piece)
    return TokenSequence(tuple(ids), tuple(roles), tuple(mask))


def prompt_completion(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> TokenSequence:
    """[x, z]: the prompt is seen, the completion is trained; both kept as the engine's ids."""
    return build(
        [
            Segment("prompt", ids=tuple(prompt_ids)),
            Segment("completion", ids=tuple(completion_ids), trained=True),
        ]
    )


def document_segments(
    feedback: Content,
    document: Content,
    *,
    prompt: Content = (),
    separator: Content = (),
    bos: Content = (),
    eos: Content = (),
    position: Position = "before",
    train_feedback: bool = True,
) -> list[Segment]:
    """The one place that decides order, roles and loss of a document with feedback.

        before: bos, feedback, separator, prompt, document, eos
        after:  bos, prompt, document, separator, feedback, eos

    The document is trained, its prompt is not; the separator goes with the feedback, and without feedback it is left
    out. With a prompt the document has the role `completion`. Empty pieces have no segment.
    """
    beside: list[tuple[Role, Content, bool]] = []
    if len(feedback):
        beside = [("feedback", feedback, train_feedback), ("feedback", separator, train_feedback)]
    own: list[tuple[Role, Content, bool]] = [("prompt", prompt, False)]
    own.append(("completion" if len(prompt) else "document", document, True))
    middle = beside + own if position == "before" else own + beside[::-1]
    pieces: list[tuple[Role, Content, bool]] = [("document", bos, False), *middle, ("document", eos, True)]
    return [_segment(role, content, trained) for role, content, trained in pieces if len(content)]


def feedback_document(
    feedback: Content,
    document: Content,
    tokenizer=None,
    *,
    prompt: Content = (),
    separator: Content = (),
    bos: Sequence[int] = (),
    eos: Sequence[int] = (),
    position: Position = "before",
    train_feedback: bool = True,
) -> TokenSequence:
    """[feedback, document] for (continued) pretraining; IXT trains both (methods.md, section 2).

    See `document_segments` for the order and the masks.
    """
    segments = document_segments(
        feedback,
        document,
        prompt=prompt,
        separator=separator,
        bos=bos,
        eos=eos,
        position=position,
        train_feedback=train_feedback,
    )
    return build(segments, tokenizer)


def system_chat_messages(feedback: str, user: str) -> list[dict[str, str]]:
    """Feedback as the system message before a user's; without feedback there is no system message."""
    system = [{"role": "system", "content": feedback}] if feedback else []
    return [*system, {"role": "user", "content": user}]


def reply_segments(
    prompt_ids: Sequence[int], assistant: Content, end: Ends | int, *, with_feedback: bool = True
) -> list[Segment]:
    """A rendered chat, masked, and the reply to it with its end, trained; without feedback the chat is a mere prompt.

    Args:
        prompt_ids: the chat up to the reply.
        assistant: the reply.
        end: how a reply ends; its end token is trained, what the template writes after that (a newline) is not. An id:
            that alone.
        with_feedback: whether the chat shows feedback.
    """
    ids, trained = ((end,), 1) if isinstance(end, int) else (end.reply, end.reply_trained)
    pieces = [
        Segment("system" if with_feedback else "prompt", ids=tuple(prompt_ids)),
        _segment("completion", assistant, True),
        Segment("completion", ids=ids[:trained], trained=True),
    ]
    return pieces + ([Segment("completion", ids=ids[trained:])] if ids[trained:] else [])


def feedback_system_chat(feedback: str, user: str, assistant: str, tokenizer) -> TokenSequence:
    """Feedback in a masked system message, for SFT: only the assistant's reply is trained.

    The chat template renders the prompt once; the reply is appended in token space and closed as the
    template closes it (see `find_ends`), so that the trained span is known exactly whatever the template
    does. Without feedback ("") there is no system message.

    Raises:
        DataError: the tokenizer has no chat template, or no EOS token.
    """
    require_chat(tokenizer)
    prompt = chat_ids(tokenizer, system_chat_messages(feedback, user), add_generation_prompt=True)
    return build(reply_segments(prompt, assistant, find_ends(tokenizer), with_feedback=bool(feedback)), tokenizer)


def require_chat(tokenizer) -> None:
    """Raises DataError if the tokenizer has no chat template, or no EOS token."""
    if getattr(tokenizer, "chat_template", None) is None or tokenizer.eos_token_id is None:
        raise DataError(
            f"tokenizer {type(tokenizer).__name__} has no chat template or no EOS token",
            reason="feedback in a system message needs both",
            remedy="set tokenizer.chat_template and tokenizer.eos_token, or use feedback_document",
        )


def _segment(role: Role, content: Content, trained: bool) -> Segment:
    if isinstance(content, str):
        return Segment(role, text=content, trained=trained)
    return Segment(role, ids=tuple(content), trained=trained)


def prefix_suffix(document_ids: Sequence[int], suffix_tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cuts a document in token space into (prefix, suffix of `suffix_tokens`); SIP stores both sides.

    Raises:
        DataError: the document is too short to leave a prefix of at least one token.
    """
    if suffix_tokens < 1 or len(document_ids) <= suffix_tokens:
        raise DataError(
            f"a document of {len(document_ids)} tokens with a suffix of {suffix_tokens}",
            reason="both the prefix and the suffix need at least one token",
            remedy="skip documents that short, or choose a shorter suffix",
        )
    cut = len(document_ids) - suffix_tokens
    return tuple(document_ids[:cut]), tuple(document_ids[cut:])
