"""One rule says what ends a turn, a document and a completion, wherever tokenizer, config and template differ."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ixt_rl.blocks.model import ModelBlock, NewModelBlock
from ixt_rl.conditioning import Conditioner, Conditioning, feedback_system_chat
from ixt_rl.conditioning.ends import chat_frame, find_ends
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer, eos_ids, load_tokenizer, new_model, tokenizer_notes
from ixt_rl.types import Document
from tests.unit.conditioning.chats import CHATML, GEMMA, LLAMA3, chat_tokenizer


def named(tokenizer, ends) -> tuple:
    return ends.summary(tokenizer)["turn"], ends.summary(tokenizer)["document"], ends.summary(tokenizer)["stops"]


def config(tokenizer, *tokens):
    ids = [tokenizer.convert_tokens_to_ids(token) for token in tokens]
    return SimpleNamespace(eos_token_id=ids[0] if len(ids) == 1 else ids)


CASES = {
    # template, tokenizer's EOS, generation config's; turn, document, stops
    "smollm2 from gguf": (CHATML, "<|im_start|>", ["<|im_end|>"], "<|im_end|>", "<|im_end|>", ["<|im_end|>"]),
    "qwen base": (
        *(CHATML, "<|endoftext|>", ["<|endoftext|>"]),
        *("<|im_end|>", "<|endoftext|>", ["<|im_end|>", "<|endoftext|>"]),
    ),
    "qwen instruct": (
        *(CHATML, "<|im_end|>", ["<|im_end|>", "<|endoftext|>"]),
        *("<|im_end|>", "<|im_end|>", ["<|im_end|>", "<|endoftext|>"]),
    ),
    "gemma": (
        *(GEMMA, "<eos>", ["<eos>", "<end_of_turn>"]),
        *("<end_of_turn>", "<eos>", ["<end_of_turn>", "<eos>"]),
    ),
    "llama 3": (
        *(LLAMA3, "<|eot_id|>", ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]),
        *("<|eot_id|>", "<|eot_id|>", ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"]),
    ),
    "config opens turns": (CHATML, "<|im_end|>", ["<|im_start|>"], "<|im_end|>", "<|im_end|>", ["<|im_end|>"]),
    "no template, two": (None, "<eos>", ["<|end_of_text|>", "<eos>"], "<eos>", "<eos>", ["<eos>", "<|end_of_text|>"]),
    "no template, one": (
        *(None, "<eos>", ["<|end_of_text|>"]),
        *("<|end_of_text|>", "<eos>", ["<|end_of_text|>", "<eos>"]),
    ),
    "no config": (None, "<eos>", [], "<eos>", "<eos>", ["<eos>"]),
    "tokenizer names none": (None, None, ["<eos>"], "<eos>", "<eos>", ["<eos>"]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    template, eos, declared, turn, document, stops = CASES[case]
    tokenizer = chat_tokenizer(template, eos)
    found = find_ends(tokenizer, config(tokenizer, *declared) if declared else None)
    assert named(tokenizer, found) == (turn, document, stops)


def test_what_decided_and_what_disagrees_is_said():
    tokenizer = chat_tokenizer(CHATML, "<|im_start|>")
    found = find_ends(tokenizer, config(tokenizer, "<|im_end|>"))
    assert found.rule == "chat template"
    assert found.disagreements == (
        "the tokenizer's EOS <|im_start|> opens a turn in the chat template; it is not taken as an end",
    )
    base = chat_tokenizer(CHATML, "<|endoftext|>")
    said = find_ends(base, {"eos_token_id": base.eos_token_id}).disagreements
    assert "a turn ends with <|im_end|> (chat template), the tokenizer's EOS is <|endoftext|>" in said
    assert any("the generation config ends completions at <|endoftext|>" in line for line in said)
    agreed = chat_tokenizer(CHATML, "<|im_end|>")
    assert find_ends(agreed, config(agreed, "<|im_end|>")).disagreements == ()
    agreed.pad_token = "<|im_end|>"
    assert "padding is <|im_end|>" in find_ends(agreed, config(agreed, "<|im_end|>")).disagreements[0]


def test_a_template_that_writes_no_control_token_leaves_the_end_to_the_tokenizer():
    tokenizer = chat_tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "<eos>")
    found = find_ends(tokenizer)
    assert (found.rule, found.reply) == ("tokenizer", (tokenizer.eos_token_id,))
    assert "which holds no control token" in found.disagreements[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]{% else %} {{ m.content }} <eos>"
        "{% endif %}{% endfor %}",  # what Llama 2 and Mistral do
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<eos>\n{% endfor %}",  # Zephyr
        "{% for m in messages %}{{ m.content }}<eos>{% endfor %}",  # DialoGPT
        "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}<eos>{% endif %}{% endfor %}",
    ],
)
def test_an_end_that_stands_between_turns_is_no_opener(template):
    tokenizer = chat_tokenizer(template, "<eos>")
    found = find_ends(tokenizer)
    assert found.turn == found.document == tokenizer.eos_token_id


def test_what_cannot_end_anything_is_refused():
    with pytest.raises(DataError, match="has no EOS token\n"):
        find_ends(chat_tokenizer(None, None))
    closing = CHATML.replace("<|im_end|>", "")  # opens turns and closes none
    with pytest.raises(DataError, match=r"'<\|im_start\|>' opens turns"):
        find_ends(chat_tokenizer(closing, "<|im_start|>"))


def test_no_frame_where_the_template_shows_no_turns():
    assert chat_frame(chat_tokenizer("{{ messages[-1].content }}", "<eos>")) is None
    assert chat_frame(chat_tokenizer("{{ raise_exception('no') }}", "<eos>")) is None


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (CHATML, "<|im_start|>", "<|im_end|>\n"),
        (GEMMA, "<eos>", "<end_of_turn>\n"),
        (LLAMA3, "<|eot_id|>", "<|eot_id|>"),
    ],
)
def test_a_reply_ends_as_its_template_ends_it(template, eos, end):
    """Ids of the whole chat are those of the template; the loss goes up to the end token and not beyond."""
    tokenizer = chat_tokenizer(template, eos)
    document = Document("It is 4.", prompt="2+2?")
    (sequence,) = Conditioner(tokenizer, Conditioning(chat=True))([document], 0)
    chat = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is 4."}]
    assert list(sequence.input_ids) == tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    trained = [token for token, keep in zip(sequence.input_ids, sequence.loss_mask, strict=True) if keep]
    assert tokenizer.decode(trained) == "It is 4." + end.strip()
    assert tokenizer.decode(sequence.input_ids).endswith("It is 4." + end)
    assert sequence == feedback_system_chat("", "2+2?", "It is 4.", tokenizer)


def test_documents_end_with_the_documents_end():
    for template, eos, end in ((CHATML, "<|im_start|>", "<|im_end|>"), (CHATML, "<|endoftext|>", "<|endoftext|>")):
        tokenizer = chat_tokenizer(template, eos)
        (sequence,) = Conditioner(tokenizer, Conditioning())([Document("abc")], 0)
        assert tokenizer.decode(sequence.input_ids) == "abc" + end


def test_a_checkpoint_whose_tokenizer_names_an_opener_is_mended_when_it_loads(tmp_path):
    tokenizer = chat_tokenizer(CHATML, "<|im_start|>")
    tokenizer.pad_token = None
    model = new_model(NewModelBlock(hidden_size=16, heads=2, intermediate_size=16, layers=1), tokenizer)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), ModelBlock(path=str(tmp_path)))
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert eos_ids(model, loaded) == eos_ids(model, tokenizer) == (model.generation_config.eos_token_id,)
    as_it_was = byte_tokenizer()
    as_it_was.save_pretrained(tmp_path / "bytes")
    kept = load_tokenizer(str(tmp_path / "bytes"), ModelBlock(path=str(tmp_path)))
    assert kept.eos_token == "<eos>" and tokenizer_notes(kept) == []
    (note,) = tokenizer_notes(loaded)
    assert "EOS was set to <|im_end|>: <|im_start|>" in note
