"""Tokenizers that cut text as their own tokenizer.json says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = ("12 + 345 = 357", "   12", "a\n\n\thi, it's", " naïve Zoë — 3,14€ 🙂", "def f(x):\n    return x ** 2\n")
"""Texts that rules for cutting text cut otherwise."""

NOTES: WeakKeyDictionary[PreTrainedTokenizerBase, list[str]] = WeakKeyDictionary()
"""What was set otherwise than transformers has it, by tokenizer, in words."""


def open_tokenizer(path: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a hub's model.

    `AutoTokenizer` builds some classes that a folder names (`GPT2Tokenizer`, `LlamaTokenizer`) anew, by a rule of the
    class, where the tokenizer.json beside it has another: numbers of SmolLM2, all text of DeepSeek's where config.json
    is a Llama's. The model was trained on what the file says.

    Args:
        options: of `AutoTokenizer.from_pretrained`.

    Raises:
        OSError, ValueError: it cannot be read, as transformers says.
    """
    from transformers import AutoTokenizer, TokenizersBackend

    tokenizer: Any = AutoTokenizer.from_pretrained(path, **options)
    built_anew = isinstance(tokenizer, TokenizersBackend) and type(tokenizer) is not TokenizersBackend
    if not built_anew or not type(tokenizer).__module__.startswith("transformers."):
        return tokenizer  # it is the file's, has none, or is code of the model's own
    by_file, by_class = _ids_by_file(path, options.get("revision")), _ids(tokenizer)
    if by_file is None or by_file == by_class:
        return tokenizer
    filed: Any = TokenizersBackend.from_pretrained(path, **options)
    if filed.init_kwargs.get("add_prefix_space") and filed.tokenize("it") != tokenizer.tokenize("it"):
        return tokenizer  # tokenizer_config.json asks for a space before text, which the file alone does not bring
    for probe, wanted, found in zip(PROBES, _ids(filed), by_class, strict=True):
        if wanted != found:
            NOTES[filed] = [
                f"tokenizer: text is cut as its tokenizer.json says; {type(tokenizer).__name__}, which its files name, "
                f"makes {tokenizer.convert_ids_to_tokens(found)[:8]} of {probe!r}, the file "
                f"{filed.convert_ids_to_tokens(wanted)[:8]}"
            ]
            return filed
    return tokenizer


def _ids(tokenizer: Any) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(PROBES), add_special_tokens=False).input_ids
    return found


def _ids_by_file(path: str | Path, revision: str | None) -> list[Sequence[int]] | None:
    """Ids of the probes by tokenizer.json alone; None where there is no such file."""
    from tokenizers import Tokenizer
    from transformers.utils.hub import cached_file

    try:
        tokenizer = Tokenizer.from_file(cached_file(str(path), "tokenizer.json", revision=revision))
    except OSError:
        return None
    return [tokenizer.encode(probe, add_special_tokens=False).ids for probe in PROBES]
