"""Folders that name a class with a rule of its own for cutting text, beside a tokenizer.json with another rule."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.models import load_tokenizer, tokenizer_notes
from ixt_rl.tokenizer_files import PROBES, open_tokenizer

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
RULES = {
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES]),
    "gpt-2": BYTES,
    "lines": pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "isolated"), BYTES]),
}


def folder_of(tmp_path, rule: str, named: str | None, **config):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = BYTES, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|pad|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*PROBES * 9, "2024 " * 9, "a\n\n" * 9], trainer)
    tokenizer.pre_tokenizer = RULES[rule]
    folder = tmp_path / f"{rule}-{named}"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
        "chat_template": "{{ messages[0].content }}",
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "tokenizer_class": named} if named else said))
    return folder, tokenizer


def loaded(folder):
    return load_tokenizer(str(folder), ModelBlock(path=str(folder)))


@pytest.mark.parametrize("named", ["GPT2Tokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", None])
@pytest.mark.parametrize("rule", RULES)
def test_text_is_cut_as_the_file_says_whatever_class_is_named(tmp_path, rule, named):
    folder, file = folder_of(tmp_path, rule, named)
    tokenizer = loaded(folder)
    for text in (*PROBES, "In 2024, a\n\nb"):
        assert tokenizer(text, add_special_tokens=False).input_ids == file.encode(text).ids
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|endoftext|>", "<|pad|>", "left")
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_what_the_class_would_have_made_is_told_and_is_gone_when_saved(tmp_path):
    folder, file = folder_of(tmp_path, "digits", "GPT2Tokenizer")
    tokenizer = loaded(folder)
    (note,) = tokenizer_notes(tokenizer)
    assert "GPT2Tokenizer, which its files name" in note and repr(PROBES[0]) in note
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")  # as vLLM and users read it
    assert again("2024").input_ids == file.encode("2024").ids != AutoTokenizer.from_pretrained(folder)("2024").input_ids
    assert tokenizer_notes(loaded(tmp_path / "saved")) == []


def test_a_class_that_agrees_with_the_file_is_kept(tmp_path):
    folder, _ = folder_of(tmp_path, "gpt-2", "GPT2Tokenizer")
    assert type(open_tokenizer(folder)) is type(AutoTokenizer.from_pretrained(folder))
    assert tokenizer_notes(loaded(folder)) == []


def test_what_the_config_asks_for_holds(tmp_path):
    folder, file = folder_of(tmp_path, "gpt-2", "GPT2Tokenizer", add_prefix_space=True)
    assert open_tokenizer(folder)("it").input_ids == file.encode(" it").ids != file.encode("it").ids


def test_a_folder_without_the_file_is_read_by_its_class(tmp_path):
    folder, file = folder_of(tmp_path, "gpt-2", "GPT2Tokenizer")
    file.model.save(str(folder))  # vocab.json, merges.txt
    (folder / "tokenizer.json").unlink()
    assert open_tokenizer(folder)("In 2024").input_ids == file.encode("In 2024").ids
