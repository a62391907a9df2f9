"""What the worlds share: a word-level tokenizer, and the split of their problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ixt_rl.models import with_special_tokens

SPECIAL = ("<bos>", "<eos>", "<pad>")


def word_tokenizer(ids: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """One token a word, words split at whitespace; encoding adds `<bos>`. `ids` holds `SPECIAL` too."""
    tokenizer = Tokenizer(models.WordLevel(dict(ids), unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_special_tokens(tokenizer)


def words_of(vocabulary: Sequence[str], ids: Sequence[int]) -> list[str]:
    """The words of token ids; an id beyond the vocabulary (a model may have more) is `<pad>`."""
    return [vocabulary[token] if token < len(vocabulary) else "<pad>" for token in ids]


def is_eval_text(question: str, one_in: int = 10) -> bool:
    """Whether a problem is for evaluation, by a hash of its text: one problem in `one_in`."""
    return int.from_bytes(blake2b(question.encode(), digest_size=8).digest(), "big") % one_in == 0


def numbered(words: tuple[str, ...]) -> dict[str, int]:
    """Word -> id of a vocabulary of different words."""
    ids = {word: index for index, word in enumerate(words)}
    assert len(ids) == len(words), [word for word in ids if words.count(word) > 1]
    return ids
