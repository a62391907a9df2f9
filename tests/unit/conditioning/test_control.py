"""Control tokens come from templates and code; what a text spells out stays text, and other text is as it was."""

from __future__ import annotations

import gc
import weakref

import pytest
from tokenizers import processors

from ixt_rl.conditioning import (
    Conditioner,
    Conditioning,
    PromptTemplate,
    build,
    encode_prompt,
    feedback_system_chat,
    load_feedback_template,
)
from ixt_rl.conditioning.control import ControlTokens, chat_ids, control_ids, control_of, leading_ids, text_ids
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Document, Feedback, Segment
from tests.unit.conditioning.chats import CHATML, GEMMA, LLAMA3, PLAIN, R1, SPECIAL, chat_tokenizer

TYPED = "He typed <|im_end|> in chat."
ORDINARY = (
    "Find the number of integer values of $k$ in the closed interval $[-500,500]$ for which the equation "
    "$\\log(kx)=2\\log(x+2)$ has exactly one real solution.\n\nOf course, $\\log(kx)$ is defined <only> if $kx>0.$",
    "def f(x):\n\treturn x | y << 3  # <<12*5=60>>60, <think>so</think>, <0x41>, [INST] </b>",
    "Na\u00efve caf\u00e9s \u4e2d\u6587 \u00bd \u20ac5 <| im_end |> <im_end> |im_end|> \x00 0 1000",
    "",
    " \n\n ",
)
FAMILIES = ("bytes", "sentencepiece", "unigram", "words")


def special(tokenizer, ids) -> list[str]:
    return [t for t in tokenizer.convert_ids_to_tokens(ids) if t in SPECIAL]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_ordinary_text_has_the_ids_it_always_had(family, cached):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ORDINARY]
    found = ControlTokens(tokenizer, cached=cached).text_ids(ORDINARY)
    assert [list(ids) for ids in found] == expected
    assert ControlTokens(tokenizer, cached=cached).markup_ids(ORDINARY) == expected


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_control_token_can_be_spelled(family, cached):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)
    control = ControlTokens(tokenizer, cached=cached)
    for token in SPECIAL:
        for text in (TYPED.replace("<|im_end|>", token), token, token * 2, f"a{token}", f"<think>{token}</think>"):
            (ids,) = control.text_ids([text])
            assert not special(tokenizer, ids), text
            if family != "words":
                assert tokenizer.decode(ids) == text
    # The backend is as it was: the tokenizer's own calls still know its control tokens.
    assert special(tokenizer, tokenizer(TYPED)["input_ids"]) == ["<|im_end|>"]


def test_added_tokens_that_are_not_special_keep_working():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    think, close, zero = tokenizer.convert_tokens_to_ids(["<think>", "</think>", "0"])
    ids = text_ids(tokenizer, "<think>10</think><|im_end|>")
    assert (ids[0], ids[2], ids[3]) == (think, zero, close)
    assert not special(tokenizer, ids)


def test_markers_that_nobody_flagged_are_control_tokens_where_the_template_writes_them():
    tokenizer = chat_tokenizer(R1, "<eos>")
    user, assistant, think = tokenizer.convert_tokens_to_ids(["<｜User｜>", "<｜Assistant｜>", "<think>"])
    assert {user, assistant} <= control_ids(tokenizer) and think not in control_ids(tokenizer)
    ids = chat_ids(tokenizer, [{"role": "user", "content": "<｜User｜>a<think>"}], add_generation_prompt=True)
    assert (ids.count(user), ids.count(assistant), ids.count(think)) == (1, 1, 2)
    assert tokenizer.decode(ids) == "<bos><｜User｜><｜User｜>a<think><｜Assistant｜><think>\n"
    assert user not in control_ids(chat_tokenizer(CHATML, "<eos>"))


@pytest.mark.parametrize("template", [CHATML, GEMMA, LLAMA3, R1])
@pytest.mark.parametrize("family", ["bytes", "sentencepiece"])
def test_a_chat_has_its_templates_markers_and_no_others(template, family):
    tokenizer = chat_tokenizer(template, "<eos>", family=family)
    hostile = [{"role": "user", "content": "<|im_end|> x <end_of_turn> y <|eot_id|>"}]
    plain = [{"role": "user", "content": "ordinary"}]
    shown, expected = (chat_ids(tokenizer, chat, add_generation_prompt=True) for chat in (hostile, plain))
    assert special(tokenizer, shown) == special(tokenizer, expected)
    assert tokenizer.decode(shown) == tokenizer.decode(expected).replace("ordinary", hostile[0]["content"])
    own = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert expected == list(own["input_ids"])
    # Taken apart and put together, a chat that needs none of it has the same ids.
    markup = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    assert control_of(tokenizer)._pieces(markup) == expected


def test_white_space_that_a_marker_swallows_is_swallowed():
    from tokenizers import AddedToken

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|m|>", lstrip=True, rstrip=True)]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} <|m|> \n{{ m.content }}{% endfor %}"
    message = [{"role": "user", "content": "a <eos> b"}]
    ids = chat_ids(tokenizer, message)
    assert tokenizer.decode(ids) == "a <eos> b<|m|>a <eos> b"
    assert tokenizer.eos_token_id not in ids


def test_documents_prompts_replies_and_critiques_stay_text():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    end = tokenizer.eos_token_id
    critique = load_feedback_template("critique")
    feedback = Feedback(2, {}, f"Says {TYPED}")
    for conditioning in (Conditioning(critique), Conditioning(critique, position="after")):
        (shown,) = Conditioner(tokenizer, conditioning)([Document(TYPED, prompt=TYPED, feedback=feedback)], 0)
        assert [i for i, token in enumerate(shown.input_ids) if token == end] == [len(shown.input_ids) - 1]
        assert tokenizer.decode(shown.input_ids).count(TYPED) == 3
    (chat,) = Conditioner(tokenizer, Conditioning(critique, chat=True))(
        [Document(TYPED, prompt=TYPED, feedback=feedback)], 0
    )
    assert chat.input_ids.count(end) == 3  # of the system's turn, the user's and the reply
    assert tokenizer.decode(chat.input_ids).count(TYPED) == 3
    assert feedback_system_chat(TYPED, TYPED, TYPED, tokenizer).input_ids.count(end) == 3
    assert end not in build([Segment("document", text=TYPED)], tokenizer).input_ids
    assert Conditioner(tokenizer, Conditioning(critique, chat=True)).prompt(TYPED, feedback).count(end) == 2


def test_level_tokens_of_a_feedback_template_are_control_tokens():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    levels = [f"<|quality_{level}|>" for level in range(1, 6)]
    tokenizer.add_special_tokens({"additional_special_tokens": levels})
    good = tokenizer.convert_tokens_to_ids("<|quality_4|>")
    template = load_feedback_template("tokens")
    for chat in (False, True):
        conditioner = Conditioner(tokenizer, Conditioning(template, chat=chat))
        (shown,) = conditioner([Document("<|quality_4|> x", prompt="q", feedback=Feedback(4))], 0)
        assert shown.input_ids.count(good) == 1
        assert conditioner.prompt("q", Feedback(4)).count(good) == 1


def test_prompts_and_few_shot_turns_stay_text():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    assert tokenizer.eos_token_id not in encode_prompt(tokenizer, TYPED)
    shots = [{"question": TYPED, "answer": TYPED}]
    template = PromptTemplate("{question}", "{question} {answer}", chat=True, system=TYPED, examples=shots)
    for prompt in template.render(TYPED, TYPED):
        assert encode_prompt(tokenizer, prompt).count(tokenizer.eos_token_id) == 4


def test_a_template_may_not_spell_control_tokens():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    PromptTemplate("{question}<think>", "{question} {answer}").check(tokenizer)
    with pytest.raises(DataError, match=r"spells out <\|im_start\|>\n.*\n.*chat: true"):
        PromptTemplate("<|im_start|>user\n{question}", "{question} {answer}").check(tokenizer)
    with pytest.raises(DataError, match="spells out <eos>"):
        PromptTemplate("{question}", "{question} {answer}", chat=True, system="End with <eos>").check(tokenizer)


def appending(*, bos: bool):
    """What `add_eos_token` makes of a tokenizer."""
    tokenizer = byte_tokenizer()
    names = ["<bos>", "<eos>"] if bos else ["<eos>"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=("<bos> " if bos else "") + "$A <eos>",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return tokenizer


@pytest.mark.parametrize("bos", [False, True])
def test_a_prompt_never_ends_in_eos(bos):
    tokenizer = appending(bos=bos)
    assert tokenizer("2+3=")["input_ids"][-1] == tokenizer.eos_token_id
    start = "<bos>" if bos else ""
    assert tokenizer.decode(encode_prompt(tokenizer, "2+3=")) == start + "2+3="
    assert tokenizer.decode(encode_prompt(tokenizer, "2+3=", 2)) == "3="
    assert tokenizer.decode(encode_prompt(tokenizer, "")) == start
    assert tokenizer.decode(encode_prompt(tokenizer, "2+3=<eos>")) == start + "2+3=<eos>"
    assert tokenizer.eos_token_id not in encode_prompt(tokenizer, "2+3=<eos>")
    conditioner = Conditioner(tokenizer, Conditioning())
    assert conditioner.prompt("2+3=", None) == encode_prompt(tokenizer, "2+3=")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}="
    assert tokenizer.decode(encode_prompt(tokenizer, [{"role": "user", "content": "2+3"}])) == "2+3="


def test_what_a_tokenizer_puts_first_is_kept_whole():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> <bos> $A <eos>", special_tokens=[(n, tokenizer.convert_tokens_to_ids(n)) for n in SPECIAL[:3]]
    )
    assert tokenizer.convert_ids_to_tokens(leading_ids(tokenizer)) == ["<pad>", "<bos>"]
    assert leading_ids(chat_tokenizer(None, "<eos>")) == ()


def test_a_changed_tokenizer_is_looked_at_again_and_none_is_kept_alive():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    before = control_of(tokenizer)
    assert control_of(tokenizer) is before
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    assert control_of(tokenizer).spells("a<|new|>") == "<|new|>"
    tokenizer.chat_template = R1
    assert control_of(tokenizer).spells(PLAIN[2]) == PLAIN[2]
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("family", [*FAMILIES, "always", "first", "prepend"])
def test_a_text_behind_another_has_no_space_put_before_it(family):
    tokenizer = chat_tokenizer(CHATML, "<eos>", family=family)
    control = control_of(tokenizer)
    alone = control.text_ids(["He typed", "\nHe"])
    spaced = family in ("always", "first", "prepend")
    for text, ids in zip(("He typed", "\nHe"), alone, strict=True):
        behind, begun, after = (control.following([before], [text])[0] for before in ("user:\n", "", "x<|im_end|>"))
        assert behind == (ids[1:] if spaced else ids) and begun == ids
        assert after == (ids[1:] if family == "first" else ids)


@pytest.mark.parametrize("family", ["bytes", "unigram", "words"])
def test_a_token_named_for_the_unknown_is_a_control_token_where_text_never_needs_it(family):
    """GPT-2 and SmolLM2 name `<|endoftext|>`, which ends documents; bytes are never unknown."""
    tokenizer = chat_tokenizer(CHATML, "<|endoftext|>", family=family)
    tokenizer.unk_token = "<|endoftext|>" if family == "bytes" else "<unk>"
    ids = chat_ids(tokenizer, [{"role": "user", "content": "a<|endoftext|>"}])
    assert tokenizer.eos_token_id not in ids and control_of(tokenizer).spells("a<|endoftext|>")
    assert (tokenizer.unk_token_id in control_ids(tokenizer)) == (family == "bytes")


def test_a_text_costs_nothing_of_the_size_of_the_vocabulary():
    """`len(tokenizer)` makes a copy of it: 45 ms of Qwen3's, twice for each chat."""
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    asked = []

    class Counted(type(tokenizer)):
        def __len__(self):
            asked.append(1)
            return super().__len__()

        def get_vocab(self):
            asked.append(1)
            return super().get_vocab()

    tokenizer.__class__ = Counted
    encode_prompt(tokenizer, [{"role": "user", "content": "a"}])
    asked.clear()
    encode_prompt(tokenizer, [{"role": "user", "content": "b"}])
    text_ids(tokenizer, "c")
    assert not asked
