"""Added tokens and BOS of a tokenizer that transformers read from a GGUF file, set as the file says.

The file gives every token a type. transformers makes added tokens of those it knows by name, whether the file has them
or not (Qwen's), or of control tokens alone: other markers, `<think>` for one, fall into pieces of text. Whether BOS
comes first, it does not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are found in text before it is cut; control tokens are special."""

VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
BOS = "tokenizer.ggml.add_bos_token"


def set_added_tokens(tokenizer: Any, fields: Mapping[str, Any]) -> list[str]:
    """Makes added tokens of those that the file says are some, and of no others; returns what was changed, in words."""
    tokens, types = (fields.get(name) or [] for name in VOCABULARY)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    known = {entry["id"]: entry for entry in backend["added_tokens"]}
    beyond = [entry["content"] for entry in known.values() if entry["id"] >= len(tokens) > 0]
    lacking = {
        place: _entry(place, token, special=kind == CONTROL)
        for place, (token, kind) in enumerate(zip(tokens, types, strict=False))
        if kind in (CONTROL, USER_DEFINED)
        and place not in known
        and tokenizer.backend_tokenizer.token_to_id(token) == place
    }
    if not beyond and not lacking:
        return []
    kept = {place: entry for place, entry in known.items() if entry["content"] not in beyond} | lacking
    backend["added_tokens"] = [kept[place] for place in sorted(kept)]
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        if getattr(tokenizer, name) in beyond:
            setattr(tokenizer, name, None)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    notes = []
    if lacking:
        shown = ", ".join(entry["content"] for entry in [*lacking.values()][:4])
        notes.append(f"{len(lacking)} added tokens as the file says ({shown}); transformers reads them as text")
    if beyond:
        notes.append(f"{', '.join(beyond)} left out, which transformers adds and the file does not have")
    return notes


def _entry(place: int, token: str, *, special: bool) -> dict[str, Any]:
    """An added token of the `tokenizers` library, as JSON."""
    sides = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": place, "content": token, **sides, "special": special}


def set_bos(tokenizer: Any, fields: Mapping[str, Any]) -> list[str]:
    """Has BOS come first, or not, as the file says; returns what was changed, in words.

    A vocabulary of SentencePiece's begins with it where the file says nothing.
    """
    wanted = fields.get(BOS, True if fields.get("tokenizer.ggml.model") == "llama" else None)
    comes = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    if wanted is None or tokenizer.bos_token is None or wanted == comes:
        return []
    tokenizer.add_bos_token = wanted
    said = f"{tokenizer.bos_token} comes first" if wanted else f"no {tokenizer.bos_token} comes first"
    why = "as the file says" if BOS in fields else "as in all such vocabularies whose file says nothing of it"
    return [f"{said}, {why}; transformers does not read that"]
