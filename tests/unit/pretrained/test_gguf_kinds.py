"""GGUF files of other kinds than a Llama's: numbers that transformers does not read, other vocabularies, BOS."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.conditioning.control import leading_ids
from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.models import load_tokenizer
from tests.unit.pretrained.tiny_gguf import SPECIAL, TOKENS, tiny_llama, write, write_other

pytest.importorskip("gguf")

from ixt_rl.pretrained.checks import check_tokenizer
from ixt_rl.pretrained.gguf import convert
from ixt_rl.pretrained.gguf_vocabulary import BOS, set_bos

SIZE = {
    "vocab_size": len(TOKENS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": True,
    "initializer_range": 0.2,
}  # fmt: skip


def logits(model) -> torch.Tensor:
    ids = torch.arange(3, 203)[None]
    with torch.no_grad():
        return model(ids).logits


@pytest.fixture(scope="module")
def qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZE, rope_theta=1e6)).eval()


RMS = {"attention.layer_norm_rms_epsilon": 1e-6}
NUMBERS = {"rope.freq_base": 1e6, **RMS}


@pytest.mark.parametrize(
    ("model", "config", "architecture", "numbers"),
    [
        (
            Starcoder2ForCausalLM,
            Starcoder2Config(**SIZE, rope_theta=1e6, sliding_window=40, norm_epsilon=1e-3),
            "starcoder2",
            {"rope.freq_base": 1e6, "attention.sliding_window": 40, "attention.layer_norm_epsilon": 1e-3},
        ),
        (
            StableLmForCausalLM,
            StableLmConfig(**SIZE, rope_theta=500.0, partial_rotary_factor=0.5),
            "stablelm",
            {"rope.freq_base": 500.0, "rope.dimension_count": 4, "attention.layer_norm_epsilon": 1e-5},
        ),
        (
            Qwen3ForCausalLM,
            Qwen3Config(**SIZE, rope_theta=1e6, head_dim=16),
            "qwen3",
            {**NUMBERS, "attention.key_length": 16, "attention.value_length": 16},
        ),
    ],
    ids=["starcoder2", "stablelm", "qwen3"],
)
def test_numbers_that_transformers_does_not_read_are_set(tmp_path, model, config, architecture, numbers):
    torch.manual_seed(0)
    made = model(config).eval()
    found = convert(write_other(tmp_path / "tiny.gguf", made, architecture, numbers))
    torch.testing.assert_close(logits(found.model), logits(made), rtol=1e-4, atol=1e-4)
    assert any("as the file says; transformers reads" in note for note in found.notes)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"attention.sliding_window": 16}, "its attention looks back 16 tokens, which transformers drops"),
        ({"logit_scale": 0.5}, "its logit_scale is 0.5, which transformers drops"),
        ({"rope.dimension_count": 4}, "positions turn 4 of 8 dimensions, in transformers 8"),
    ],
)
def test_numbers_without_a_place_are_refused(tmp_path, qwen2, numbers, reason):
    with pytest.raises(ConfigError, match=reason):
        convert(write_other(tmp_path / "tiny.gguf", qwen2, "qwen2", {**NUMBERS, **numbers}))


def test_what_says_nothing_changes_nothing(tmp_path, qwen2):
    none = {"attention.sliding_window": 0, "rope.dimension_count": 8, "logit_scale": 1.0}
    found = convert(write_other(tmp_path / "tiny.gguf", qwen2, "qwen2", {**NUMBERS, **none}, pre="qwen2"))
    torch.testing.assert_close(logits(found.model), logits(qwen2), rtol=1e-4, atol=1e-4)
    assert not any("as the file says; transformers reads 1" in note for note in found.notes)


def test_one_of_several_files_is_refused(tmp_path, qwen2):
    file = write_other(tmp_path / "tiny-00001-of-00003.gguf", qwen2, "qwen2", NUMBERS, splits=3)
    with pytest.raises(ConfigError, match="one of 3 files of a model"):
        convert(file)


# ------------------------------------------------------------------------------------ vocabularies

OWN = ["<s>", "<|User|>", "<|Assistant|>", "</s>", "<think>"]
MARKED = ([*OWN, *TOKENS[len(SPECIAL) :]], [3, 3, 3, 3, 4] + [1] * (len(TOKENS) - len(SPECIAL)))
ROLES = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "{{ '<|User|>' + m.content }}{% else %}{{ '<|Assistant|>' + m.content + '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def marked_file(tmp_path_factory):
    """Of a Qwen whose markers are others than Qwen's, as distilled models have them."""
    torch.manual_seed(0)
    config = Qwen2Config(**SIZE | {"vocab_size": len(MARKED[0])})
    file = tmp_path_factory.mktemp("marked") / "tiny.gguf"
    ids = {"bos": 0, "eos": 3}
    model = Qwen2ForCausalLM(config)
    return write_other(
        file, model, "qwen2", NUMBERS, tokens=MARKED, pre="qwen2", ids=ids, add_bos=True, template=ROLES
    )  # fmt: skip


@pytest.fixture(scope="module")
def marked(marked_file):
    return convert(marked_file)


@pytest.fixture(scope="module")
def unset(marked_file):
    """The tokenizer as transformers reads it; newer ones read more."""
    return AutoTokenizer.from_pretrained(marked_file.parent, gguf_file=marked_file.name)


def test_markers_are_added_tokens_as_the_file_says(marked, unset):
    """Qwen's own, which the file does not have, are none."""
    tokenizer = marked.tokenizer
    assert len(tokenizer) == len(MARKED[0])
    added = {token: entry.special for token, entry in tokenizer.added_tokens_decoder.items()}
    assert added == {0: True, 1: True, 2: True, 3: True, 4: False}
    assert tokenizer("a<think>b", add_special_tokens=False).input_ids[1] == 4
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]
    ids = tokenizer.apply_chat_template(asked, return_dict=False)
    assert ids == [0, 1, *tokenizer("hi", add_special_tokens=False).input_ids, 2, *_plain(tokenizer, "a"), 3]
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == ["<s>", "</s>", "</s>"]
    noted = any("<|User|>" in note and "transformers reads them as text" in note for note in marked.notes)
    assert noted == ("<|User|>" not in unset.get_added_vocab())


def _plain(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _save(found, folder: Path) -> None:
    found.tokenizer.save_pretrained(folder)
    found.model.save_pretrained(folder)


def test_markers_and_bos_are_there_when_the_folder_is_loaded(tmp_path, marked):
    _save(marked, tmp_path)
    check_tokenizer(marked.tokenizer, tmp_path)
    kept = load_tokenizer(str(tmp_path), ModelBlock(path=str(tmp_path)))
    assert kept.added_tokens_decoder.keys() == marked.tokenizer.added_tokens_decoder.keys()
    assert leading_ids(kept) == (0,)


def test_bos_comes_first_where_the_file_says_so(tmp_path, marked, unset):
    assert leading_ids(marked.tokenizer) == (0,)
    noted = any("<s> comes first, as the file says" in note for note in marked.notes)
    assert noted == (unset("a").input_ids[:1] != [0])
    tokenizer = copy.deepcopy(marked.tokenizer)
    for said, first in (
        ({BOS: False}, ()),
        ({"tokenizer.ggml.model": "gpt2"}, ()),
        ({"tokenizer.ggml.model": "llama"}, (0,)),
    ):
        set_bos(tokenizer, said)
        assert leading_ids(tokenizer) == first
    assert leading_ids(convert(write(tmp_path / "tiny.gguf", tiny_llama())).tokenizer) == ()


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_text_is_cut_by_the_files_rule_whatever_the_architecture(tmp_path, qwen2, architecture, pre):
    file = tmp_path / "tiny.gguf"
    if architecture == "llama":
        write(file, tiny_llama(), pre=pre)
    else:
        write_other(file, qwen2, "qwen2", NUMBERS, pre=pre)
    found = convert(file)
    expected = {"gpt-2": ["ĠĠ", "Ġ", "1", "2"], "smollm": ["ĠĠĠ", "1", "2"], "qwen2": ["ĠĠ", "Ġ", "1", "2"]}
    assert found.tokenizer.tokenize("   12") == expected[pre]
    _save(found, tmp_path / "kept")
    if (architecture, pre) == ("qwen2", "smollm"):  # transformers, and so vLLM, builds Qwen's tokenizers anew
        with pytest.raises(SelfCheckError, match="as it is loaded from the folder"):
            check_tokenizer(found.tokenizer, tmp_path / "kept")
    else:
        check_tokenizer(found.tokenizer, tmp_path / "kept")
