"""Segments become sequences: ids verbatim, boundaries in token space, masks as asked."""

from __future__ import annotations

import pytest

from ixt_rl.conditioning import build, feedback_document, feedback_system_chat, prefix_suffix, prompt_completion
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import ROLES, Segment


def test_ids_are_kept_verbatim_even_where_retokenizing_would_change_them():
    tokenizer = byte_tokenizer()
    eos = tokenizer.eos_token_id
    # <eos> in the middle of a completion would be lost by decoding and encoding again
    completion = (*tokenizer("4", add_special_tokens=False)["input_ids"], eos, eos)
    sequence = prompt_completion([1, 2], completion)
    assert sequence.input_ids == (1, 2, *completion)
    assert sequence.loss_mask == (False, False, True, True, True)
    assert [ROLES[r] for r in sequence.role_ids] == ["prompt"] * 2 + ["completion"] * 3


def test_text_segments_are_tokenized_one_by_one():
    tokenizer = byte_tokenizer()
    sequence = build([Segment("prompt", text="ab"), Segment("completion", text="c", trained=True)], tokenizer)
    assert tokenizer.decode(sequence.input_ids) == "abc"
    assert sequence.loss_mask == (False, False, True)


def test_text_without_a_tokenizer_and_segments_without_content_are_refused():
    with pytest.raises(ValueError, match="no tokenizer"):
        build([Segment("prompt", text="ab")])
    with pytest.raises(ValueError, match="exactly one"):
        Segment("prompt")
    with pytest.raises(ValueError, match="unknown role"):
        Segment("promt", ids=(1,))  # type: ignore[arg-type]


@pytest.mark.parametrize("train_feedback", [True, False])
def test_feedback_prefix_is_in_the_loss_only_when_asked(train_feedback):
    sequence = feedback_document([7, 8], [1, 2, 3], bos=[0], eos=[9], train_feedback=train_feedback)
    assert sequence.input_ids == (0, 7, 8, 1, 2, 3, 9)
    assert sequence.loss_mask == (False, train_feedback, train_feedback, True, True, True, True)
    assert [ROLES[r] for r in sequence.role_ids][1:3] == ["feedback"] * 2


def test_system_message_feedback_is_masked_and_only_the_reply_is_trained():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    sequence = feedback_system_chat("great", "2+2?", "4", tokenizer)
    trained = [i for i, keep in zip(sequence.input_ids, sequence.loss_mask, strict=True) if keep]
    seen = [i for i, keep in zip(sequence.input_ids, sequence.loss_mask, strict=True) if not keep]
    assert tokenizer.decode(seen) == "[system]great[user]2+2?[a]"
    assert trained == [*tokenizer("4", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def test_system_message_feedback_needs_a_chat_template():
    with pytest.raises(DataError, match="chat template"):
        feedback_system_chat("great", "q", "a", byte_tokenizer())


def test_prefix_suffix_cuts_in_token_space_and_refuses_short_documents():
    prefix, suffix = prefix_suffix([1, 2, 3, 4, 5], 2)
    assert (prefix, suffix) == ((1, 2, 3), (4, 5))
    for length in (5, 6, 0):
        with pytest.raises(DataError, match="at least one token"):
            prefix_suffix([1, 2, 3, 4, 5], length)
