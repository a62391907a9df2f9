"""Segments -> TokenSequence, and the segment lists of the three methods."""

from __future__ import annotations

from collections.abc import Sequence

from ixt_rl.errors import DataError
from ixt_rl.types import ROLES, Segment, TokenSequence


def build(segments: Sequence[Segment], tokenizer=None) -> TokenSequence:
    """Concatenates segments in token space.

    Ids are kept verbatim. Text is tokenized piece by piece without special tokens, so the boundary
    between two segments is fixed in token space and no tokenizer merge can cross it.

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
            piece = tokenizer(segment.text, add_special_tokens=False)["input_ids"]
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


def feedback_document(
    feedback: Sequence[int] | str,
    document: Sequence[int] | str,
    tokenizer=None,
    *,
    bos: Sequence[int] = (),
    eos: Sequence[int] = (),
    train_feedback: bool = True,
) -> TokenSequence:
    """[feedback, document] for (continued) pretraining; IXT trains both (methods.md, section 2)."""

    def segment(role, content, trained):
        if isinstance(content, str):
            return Segment(role, text=content, trained=trained)
        return Segment(role, ids=tuple(content), trained=trained)

    return build(
        [
            Segment("document", ids=tuple(bos)),
            segment("feedback", feedback, train_feedback),
            segment("document", document, True),
            Segment("document", ids=tuple(eos), trained=True),
        ],
        tokenizer,
    )


def feedback_system_chat(feedback: str, user: str, assistant: str, tokenizer) -> TokenSequence:
    """Feedback in a masked system message, for SFT: only the assistant's reply is trained.

    The chat template renders the prompt once; the reply is appended in token space and closed with
    the tokenizer's EOS, so that the trained span is known exactly whatever the template does.

    Raises:
        DataError: the tokenizer has no chat template, or no EOS token.
    """
    if getattr(tokenizer, "chat_template", None) is None or tokenizer.eos_token_id is None:
        raise DataError(
            f"tokenizer {type(tokenizer).__name__} has no chat template or no EOS token",
            reason="feedback in a system message needs both",
            remedy="set tokenizer.chat_template and tokenizer.eos_token, or use feedback_document",
        )
    messages = [{"role": "system", "content": feedback}, {"role": "user", "content": user}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return build(
        [
            Segment("system", ids=tuple(prompt["input_ids"])),
            Segment("completion", text=assistant, trained=True),
            Segment("completion", ids=(tokenizer.eos_token_id,), trained=True),
        ],
        tokenizer,
    )


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
