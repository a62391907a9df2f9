"""Small tokenizers with the chat templates that checkpoints ship."""

from __future__ import annotations

from functools import partial

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}"
    "<｜Assistant｜>{{ m.content }}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
    " {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)

SPECIAL = (
    *("<bos>", "<eos>", "<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
)
PLAIN = ("<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "0", "\n\n")
"""Added tokens that are not flagged as special."""


def chat_tokenizer(template: str | None, eos: str | None, *, family: str = "bytes") -> PreTrainedTokenizerFast:
    """A tokenizer that knows `SPECIAL` and `PLAIN`.

    Args:
        template: of chats.
        eos: its EOS token.
        family: `bytes`: byte-level BPE; `sentencepiece`: characters behind a Metaspace normalizer, with byte fallback;
            `unigram` and `words`: models in whose own vocabulary the special tokens are; `always`, `first` and
            `prepend`: as `sentencepiece`, with a space before every stretch of text, or before the first, by the
            pre-tokenizer or by the normalizer.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_MADE[family](),
        bos_token="<bos>",
        eos_token=eos,
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def _with_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in PLAIN])
    return tokenizer


def _bytes() -> Tokenizer:
    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added(tokenizer)


def _sentencepiece() -> Tokenizer:
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", *map(chr, range(33, 127))]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *pieces]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _with_added(tokenizer)


def _prefixed(scheme: str) -> Tokenizer:
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "▁▁", *map(chr, range(33, 127))]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *pieces]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "▁")], byte_fallback=True, fuse_unk=True))
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return _with_added(tokenizer)


def _unigram() -> Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        *((token, 0.0) for token in SPECIAL),
        *((c, -3.0) for c in ["▁", *map(chr, range(33, 127))]),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return _with_added(tokenizer)


def _words() -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(["<unk>", *SPECIAL, "He", "typed", "in", "chat."])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _with_added(tokenizer)


_MADE = {
    "bytes": _bytes,
    "sentencepiece": _sentencepiece,
    "unigram": _unigram,
    "words": _words,
    **{scheme: partial(_prefixed, scheme) for scheme in ("always", "first", "prepend")},
}
