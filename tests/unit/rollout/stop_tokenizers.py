"""Small tokenizers whose tokens lie across stop strings and characters, and stop strings found the slow way."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ixt_rl.models import with_special_tokens

WORDS = ("ab", "ba", "b\n", "\n\n", " a", " END", "EN", "ND", "D.", "a答"[:1], "c d", "éa")
SPECIALS = ("<bos>", "<eos>", "<pad>", "<done>")


def byte_level(text: str) -> list[str]:
    """The characters that stand for a text's bytes in a byte-level vocabulary."""
    return (
        ""
        if not text
        else pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]
    )


def byte_tokenizer_of(size: int):
    """`size` tokens: specials, single bytes of ASCII and of 答 and é, words, and tokens of half a character."""
    dash = byte_level("答")
    tokens = [*SPECIALS, *map(byte_level, "abcdEND. \n"), *dash, *byte_level("é"), *map(byte_level, WORDS)]
    tokens += [dash[:2], byte_level("a") + dash[0], dash[2] + byte_level("b"), byte_level("END") + dash[0]]
    tokens = list(dict.fromkeys(tokens))
    vocabulary = [*tokens, *(f"x{number}" for number in range(size - len(tokens)))][:size]
    tokenizer = Tokenizer(models.WordLevel({token: id for id, token in enumerate(vocabulary)}, unk_token="<pad>"))
    tokenizer.decoder = decoders.ByteLevel()
    made = with_special_tokens(tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<done>"]})
    return made


def spaced_tokenizer():
    """Pieces that begin with a space, as SentencePiece's; a text's first space is not shown."""
    tokens = [*SPECIALS, "▁a", "▁b", "▁", "a", "b", "▁END", "EN", "D", "▁a▁b", "."]
    tokenizer = Tokenizer(models.WordLevel({token: id for id, token in enumerate(tokens)}, unk_token="<pad>"))
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made = with_special_tokens(tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<done>"]})
    return made


def written(tokenizer, text: str, rng: random.Random) -> list[int]:
    """Ids of a text cut into tokens at random; specials are one token. Of a byte-level vocabulary."""
    vocabulary, found = tokenizer.get_vocab(), []
    for piece in re.split("(<done>)", text):
        rest = piece if piece in vocabulary else byte_level(piece)
        while rest:
            fitting = [token for token in vocabulary if rest.startswith(token)]
            token = rng.choice(fitting)
            found.append(vocabulary[token])
            rest = rest[len(token) :]
    return found


def text_of(tokenizer, ids: Sequence[int]) -> str:
    """Without the bytes at its end that are no character yet."""
    return tokenizer.decode(ids, skip_special_tokens=False).rstrip("\ufffd")


def stopped_at(tokenizer, ids: Sequence[int], stop: Sequence[str]) -> int | None:
    """The definition: tokens up to the first with which the text of all of them holds a stop string."""
    lengths = range(1, len(ids) + 1)
    return next((n for n in lengths if any(one in text_of(tokenizer, ids[:n]) for one in stop)), None)
