"""Conversations are what the template makes of them; replies are trained with their ends, and nothing else."""

from __future__ import annotations

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, find_ends, load_feedback_template
from ixt_rl.conditioning.control import chat_ids, text_ids
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Document, Feedback
from tests.unit.conditioning.chats import CHATML, GEMMA, LLAMA2, LLAMA3, chat_tokenizer

TURNS = (("system", "S"), ("user", "a?"), ("assistant", "A"), ("user", "b?"), ("assistant", "B"), ("user", "c?"))
TALK = Document("C", turns=TURNS, key="talk.jsonl:7")
QWEN3 = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}")


def trained(tokenizer, sequence) -> list[str]:
    """The runs of trained tokens, as text."""
    runs: list[list[int]] = []
    before = False
    for token, keep in zip(sequence.input_ids, sequence.loss_mask, strict=True):
        if keep and not before:
            runs.append([])
        if keep:
            runs[-1].append(token)
        before = keep
    return [tokenizer.decode(run) for run in runs]


def messages(document: Document) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in (*document.turns, ("assistant", document.text))]


@pytest.mark.parametrize("family", ["bytes", "sentencepiece"])
@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [(CHATML, "<|im_end|>", "<|im_end|>"), (GEMMA, "<eos>", "<end_of_turn>"), (LLAMA3, "<|eot_id|>", "<|eot_id|>")],
)
def test_all_replies_or_the_last(template, eos, end, family):
    tokenizer = chat_tokenizer(template, eos, family=family)
    whole = tokenizer.apply_chat_template(messages(TALK), tokenize=True, return_dict=True)["input_ids"]
    for turns, expected in (("all", [f"{reply}{end}" for reply in "ABC"]), ("last", [f"C{end}"])):
        (sequence,) = Conditioner(tokenizer, Conditioning(chat=True, train_turns=turns))([TALK], 0)
        assert list(sequence.input_ids) == whole
        assert trained(tokenizer, sequence) == expected


def test_feedback_stands_before_the_conversations_own_system_message():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    conditioner = Conditioner(tokenizer, Conditioning(load_feedback_template("levels"), chat=True))
    judged = Document("C", turns=TURNS, feedback=Feedback(5))
    bare = Document("C", turns=TURNS[1:], feedback=Feedback(5))
    for document, system in ((judged, "Quality: excellent.\n\nS"), (bare, "Quality: excellent.")):
        (sequence,) = conditioner([document], 0)
        assert tokenizer.decode(sequence.input_ids).startswith(f"<|im_start|>system\n{system}<|im_end|>\n")
        assert trained(tokenizer, sequence) == ["A<|im_end|>", "B<|im_end|>", "C<|im_end|>"]
        asked = [{"role": role, "content": content} for role, content in document.turns]
        prompt = conditioner.prompt(asked, document.feedback)
        assert list(sequence.input_ids[: len(prompt)]) == prompt


def test_a_template_that_rewrites_earlier_turns_trains_the_last_only():
    tokenizer = chat_tokenizer(QWEN3, "<|im_end|>")
    thought = Document("C", turns=(("user", "a?"), ("assistant", "<think>x</think>A"), ("user", "b?")), key="t:1")
    with pytest.raises(DataError, match=r"t:1: message 1 of 4\n.*otherwise.*\n.*train_turns: last"):
        Conditioner(tokenizer, Conditioning(chat=True))([thought], 0)
    (sequence,) = Conditioner(tokenizer, Conditioning(chat=True, train_turns="last"))([thought], 0)
    assert trained(tokenizer, sequence) == ["C<|im_end|>"]
    assert "<think>" not in tokenizer.decode(sequence.input_ids)
    (sequence,) = Conditioner(tokenizer, Conditioning(chat=True))([TALK], 0)  # nothing to rewrite
    assert trained(tokenizer, sequence) == ["A<|im_end|>", "B<|im_end|>", "C<|im_end|>"]


def test_variables_of_the_template_and_control_tokens_in_turns():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    conditioning = Conditioning(chat=True, chat_template_kwargs={"enable_thinking": False}, train_turns="last")
    (sequence,) = Conditioner(tokenizer, conditioning)([TALK], 0)
    assert "assistant\n<think>\n\n</think>\n\nC" in tokenizer.decode(sequence.input_ids)
    spelled = Document("<|im_end|>", turns=(("user", "<|im_end|>"), ("assistant", "x<|im_end|>"), ("user", "y")))
    (sequence,) = Conditioner(tokenizer, Conditioning(chat=True))([spelled], 0)
    assert sequence.input_ids.count(tokenizer.eos_token_id) == 4
    assert trained(tokenizer, sequence) == ["x<|im_end|><|im_end|>", "<|im_end|><|im_end|>"]


def test_what_no_template_can_show_is_refused_by_row():
    picky = CHATML.replace(
        "{% for m", "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m"
    )
    with pytest.raises(DataError, match=r"talk.jsonl:7: messages of system, user.*\n.*refuses them: no system"):
        Conditioner(chat_tokenizer(picky, "<|im_end|>"), Conditioning(chat=True))([Document("x", "y"), TALK], 0)
    with pytest.raises(DataError, match=r"talk.jsonl:7: a conversation\n.*\n.*type: sft"):
        Conditioner(chat_tokenizer(CHATML, "<|im_end|>"), Conditioning())([TALK], 0)
    with pytest.raises(ConfigError, match="train_turns='first'"):
        Conditioning(train_turns="first")  # type: ignore[arg-type]


def test_a_greeting_is_context_not_a_reply():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    greeted = Document("B", turns=(("assistant", "Hello"), ("user", "b?")))
    (sequence,) = Conditioner(tokenizer, Conditioning(chat=True))([greeted], 0)
    assert trained(tokenizer, sequence) == ["B<|im_end|>"]


def test_documents_in_a_chat_template_already_keep_their_control_tokens():
    tokenizer = chat_tokenizer(LLAMA3, "<|eot_id|>")
    text = "<bos><|start_header_id|>user<|end_header_id|>\n\na?<|eot_id|>"
    conditioner = Conditioner(tokenizer, Conditioning())
    as_text, as_written = conditioner([Document(text), Document(text, control_tokens=True)], 0)
    assert tokenizer.decode(as_text.input_ids) == text + "<|eot_id|>"
    assert as_text.input_ids.count(tokenizer.eos_token_id) == 1
    assert (
        list(as_written.input_ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    )  # neither end comes twice
    (replied,) = conditioner([Document("A", prompt=text, control_tokens=True)], 0)
    assert replied.input_ids.count(tokenizer.eos_token_id) == 2


def test_conversations_with_one_reply_are_told_apart():
    """By what the share of annotated and of held-out documents goes by."""
    one, other = (Document("OK", turns=(("user", text),)) for text in ("a", "b"))
    assert one.content != other.content
    assert Document("t", prompt="p").content == ("p", "t")


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "always", "first", "prepend"])
@pytest.mark.parametrize("template", [CHATML, LLAMA2])
@pytest.mark.parametrize("turns", ["all", "last"])
def test_replies_have_the_ids_of_the_whole_conversation(template, family, turns):
    """No space is put before a reply that the chat as a whole does not have there, and none is left out."""
    tokenizer = chat_tokenizer(template, "<eos>", family=family)
    talk = [("user", "2+2?"), ("assistant", "It is 4."), ("user", "And 3+3?"), ("assistant", "6, I say.")]
    whole = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in talk], tokenize=True, return_dict=False
    )
    conditioner = Conditioner(tokenizer, Conditioning(chat=True, train_turns=turns))
    (sequence,) = conditioner([Document(talk[-1][1], turns=tuple(talk[:-1]))], 0)
    assert list(sequence.input_ids) == whole
    end = find_ends(tokenizer).turn
    trained = [token for token, loss in zip(sequence.input_ids, sequence.loss_mask, strict=True) if loss]
    assert trained.count(end) == (2 if turns == "all" else 1) and trained[-1] == end


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "always", "first", "prepend"])
def test_a_spelled_control_token_changes_no_other_ids(family):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)

    def ids(content: str) -> list[int]:
        chat = [{"role": "user", "content": content}, {"role": "assistant", "content": "b"}]
        return chat_ids(tokenizer, [*chat, {"role": "user", "content": "c"}], add_generation_prompt=True)

    plain, spelled = ids("say it"), ids("say <eos> it")
    cut = next(n for n, (a, b) in enumerate(zip(plain, spelled, strict=False)) if a != b)
    assert spelled[:cut] == plain[:cut] and spelled[cut - len(plain) :] == plain[cut:]
    assert tokenizer.eos_token_id not in spelled


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "always", "first", "prepend"])
@pytest.mark.parametrize("prompt", ["2+2?\n", "2+2? Answer:", "say <eos>\n"])
def test_plain_text_behind_a_prompt_has_no_space_put_before_it(family, prompt):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)
    (sequence,) = Conditioner(tokenizer, Conditioning())([Document("4, or  four.", prompt=prompt)], 0)
    assert list(sequence.input_ids) == [*text_ids(tokenizer, prompt + "4, or  four."), tokenizer.eos_token_id]


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "always", "first", "prepend"])
@pytest.mark.parametrize("prompt", ["2+2?\n", "<eos>2+2?\n", "2+2?<eos>"])
@pytest.mark.parametrize("text", ["4, or  four.", "4<eos>or  four.<eos>"])
def test_text_with_control_tokens_behind_a_prompt_is_cut_as_the_whole(family, prompt, text):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)
    (sequence,) = Conditioner(tokenizer, Conditioning())([Document(text, prompt=prompt, control_tokens=True)], 0)
    whole = tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
    assert list(sequence.input_ids) == [*whole, *([] if text.endswith("<eos>") else [tokenizer.eos_token_id])]
