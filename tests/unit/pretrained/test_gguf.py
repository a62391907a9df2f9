"""A GGUF file read back: weights, text to ids, ends; what would make another model is refused."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer
from tests.unit.pretrained.tiny_gguf import SPECIAL, TOKENS, tiny_llama, write

pytest.importorskip("gguf")

from ixt_rl.pretrained.gguf import _check_types, _id_named, convert


@pytest.fixture(scope="module")
def llama():
    return tiny_llama()


@pytest.fixture(scope="module")
def file(llama, tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", llama)


@pytest.fixture(scope="module")
def converted(file):
    return convert(file)


def test_weights_and_logits_are_those_of_the_model_that_was_written(llama, converted):
    expected, found = llama.state_dict(), converted.model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    ids = torch.tensor([[5, 40, 7, 100, 9]])
    with torch.no_grad():
        torch.testing.assert_close(converted.model(ids).logits, llama(ids).logits, rtol=1e-5, atol=1e-5)


def test_ends_are_set_where_the_tokenizer_was_read_wrongly(file, converted):
    """transformers reads eos 1, which opens turns, and no padding; newer ones read eos 2."""
    tokenizer = converted.tokenizer
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == [SPECIAL[1], SPECIAL[2], SPECIAL[2]]
    assert converted.model.generation_config.eos_token_id == converted.model.config.eos_token_id == 2
    assert converted.model.generation_config.pad_token_id == 2
    read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).eos_token
    noted = any("eos is <|im_end|>, as the file says; transformers reads <|im_start|>" in n for n in converted.notes)
    assert (read, noted) in [("<|im_start|>", True), ("<|im_end|>", False)]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nhi<|im_end|>\n"


def test_digits_are_cut_off_before_merges(converted):
    """Three spaces before a digit are one token: GPT-2's rule would leave the last one to the digit."""
    tokenizer = converted.tokenizer
    assert tokenizer.tokenize("hi   12") == ["hi", "ĠĠĠ", "1", "2"]


@pytest.mark.parametrize("pre", ["smollm", "default"])
def test_text_comes_back_from_its_ids(llama, tmp_path, pre):
    """transformers' decoder drops the space that a text begins with."""
    tokenizer = convert(write(tmp_path / "tiny.gguf", llama, pre=pre)).tokenizer
    assert tokenizer.tokenize("hi") == ["hi"]
    for text in ("hi   12", " a , b . don 't\n\n ü▁"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_another_rule_for_cutting_is_noted(llama, tmp_path):
    found = convert(write(tmp_path / "tiny.gguf", llama, pre="llama-bpe"))
    assert any("'llama-bpe'" in note and "other tokens" in note for note in found.notes)
    assert (found.name, found.licence) == ("Tiny Llama", "mit")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "mpt"}, r"architecture is 'mpt'; transformers reads .*llama"),
        ({"rope_freqs": True}, r"the file has [\d,]+ numbers, rope_freqs.weight among them"),
        ({"rope_factor": 4.0}, r"positions are scaled \(linear, factor 4\)"),
        ({"leave_out": "blk.1.ffn_up.weight"}, r"1 parameters are not in the file, model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_what_would_become_another_model_is_refused(llama, tmp_path, fields, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        convert(write(tmp_path / "tiny.gguf", llama, **fields))
    assert "tiny.gguf" in error.value.what
    assert error.value.remedy


def test_what_lies_beside_a_file_is_not_read(llama, tmp_path):
    """transformers takes a tokenizer.json there for the file's vocabulary, and an adapter's base for the model."""
    file = write(tmp_path / "tiny.gguf", llama)
    byte_tokenizer().save_pretrained(tmp_path)
    other = LlamaForCausalLM(LlamaConfig(vocab_size=99, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    other.save_pretrained(tmp_path / "other")
    said = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "other"), "task_type": "CAUSAL_LM"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    found = convert(file)
    assert found.model.num_parameters() == llama.num_parameters()
    assert found.tokenizer.tokenize("hi   12") == ["hi", "ĠĠĠ", "1", "2"]
    assert found.tokenizer.chat_template


def test_what_a_file_says_of_itself_is_a_line_without_controls(llama, tmp_path):
    found = convert(write(tmp_path / "tiny.gguf", llama, license="mit\x1b[2J\n\n# Licence: none\u202e" + 900 * "x"))
    assert found.licence.startswith("mit [2J # Licence: none xxx")
    assert found.licence.isprintable() and len(found.licence) == 400


@pytest.mark.parametrize("content", [b"", b"no GGUF at all, but long enough", b"GGUF\x63\x00\x00\x00" + bytes(64)])
def test_what_is_no_gguf_file_is_refused(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(DataError, match="no GGUF file"):
        convert(tmp_path / "bad.gguf")


def test_a_text_where_a_number_is_meant_is_refused(llama, tmp_path):
    file = write(tmp_path / "tiny.gguf", llama, texts={"llama.rope.scaling.factor": "two"})
    with pytest.raises(DataError, match=r"llama\.rope\.scaling\.factor is 'two'\n.*it is read as a number"):
        convert(file)


@pytest.mark.parametrize(
    ("name", "value", "called"),
    [
        ("general.architecture", 7, "a text"),
        ("tokenizer.ggml.model", ["gpt2"], "a text"),
        ("tokenizer.ggml.pre", 1.0, "a text"),
        ("llama.rope.scaling.type", False, "a text"),
        ("llama.rope.scaling.factor", [2.0], "a number"),
        ("tokenizer.ggml.eos_token_id", "2", "a whole number"),
        ("tokenizer.ggml.padding_token_id", 2.5, "a whole number"),
        ("tokenizer.ggml.bos_token_id", True, "a whole number"),
    ],
)
def test_fields_hold_what_they_are_read_as(name, value, called, tmp_path):
    fields = {"general.architecture": "llama", "llama.rope.scaling.factor": 2, "tokenizer.ggml.eos_token_id": 2}
    _check_types(tmp_path / "a.gguf", fields)
    with pytest.raises(DataError, match=f"a.gguf: {name} is (.|\n)*it is read as {called}"):
        _check_types(tmp_path / "a.gguf", {**fields, name: value})


@pytest.mark.parametrize("named", [-1, 2**32 - 1, len(TOKENS)])
def test_a_token_that_is_not_in_the_vocabulary_is_none(named):
    fields = {"tokenizer.ggml.eos_token_id": named, "tokenizer.ggml.bos_token_id": len(TOKENS) - 1}
    assert _id_named(TOKENS, fields, "eos") is None
    assert _id_named(TOKENS, fields, "bos") == len(TOKENS) - 1
    assert _id_named(TOKENS, fields, "padding") is None


def test_half_a_file_is_refused(llama, tmp_path):
    file = write(tmp_path / "tiny.gguf", llama)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match="no GGUF file"):
        convert(file)
