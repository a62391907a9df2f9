"""Which tokens end a turn, a document and a completion, by one rule; no torch.

A tokenizer's EOS, a generation config and a chat template each say something of ends, and released checkpoints differ
in them (a tokenizer read from GGUF may even name the token that opens a turn). The rule:

- a reply ends as the chat template ends it; else with the generation config's EOS, if that is one id; else with the
  tokenizer's;
- a document ends with the tokenizer's EOS; unless the template opens turns with it: then with the generation config's
  first, else as a reply ends;
- a completion ends at any of: the turn's end, the generation config's, the tokenizer's; never at what opens a turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ixt_rl.errors import DataError

_ASKED, _REPLIED, _AGAIN = "qprobe", "aprobe", "zprobe"  # words no template writes by itself
_EVERY_SCRIPT = " ".join(  # a word, and characters whose UTF-8 has every byte of ordinary text
    [
        _ASKED,
        *map(chr, chain(range(0x21, 0x7F), range(0xA0, 0x800, 0x1F), range(0x800, 0xD800, 0x3F))),
        "\ufb01\uff0c🙂",
    ]
)


@dataclass(frozen=True)
class Ends:
    """What ends what.

    Args:
        reply: what is appended to a reply: up to its end token, and what the template writes after that (a newline).
        reply_trained: how many ids of `reply` are trained: those up to the end token, which is the last of them.
        document: id that ends a document.
        stops: every id that ends a completion, the turn's first.
        rule: what decided the end of a turn: `chat template`, `generation config` or `tokenizer`.
        disagreements: where tokenizer, generation config, chat template and padding differ, in words; empty: nowhere.
    """

    reply: tuple[int, ...]
    reply_trained: int
    document: int
    stops: tuple[int, ...]
    rule: str
    disagreements: tuple[str, ...] = ()

    @property
    def turn(self) -> int:
        """The id that ends a turn."""
        return self.reply[self.reply_trained - 1]

    def summary(self, tokenizer) -> dict[str, Any]:
        """JSON-able, with tokens as text: for a report."""
        shown = tokenizer.convert_ids_to_tokens
        return {
            "turn": shown(self.turn),
            "document": shown(self.document),
            "stops": [shown(token) for token in self.stops],
            "rule": self.rule,
            "disagreements": list(self.disagreements),
        }


@dataclass(frozen=True)
class Frame:
    """What a chat template writes around messages, as text.

    Args:
        before: before the first user's content.
        opening: between a user's content and the reply to it, where the reply is not the last message.
        between: between a reply and the next user's content.
        closing: after a reply that is the last message.
        gap: white space between the chat as inference sees it and the reply to it.
    """

    before: str
    opening: str
    between: str
    closing: str
    gap: str = ""


def find_ends(tokenizer, generation_config: Any = None) -> Ends:
    """The ends of a tokenizer and the model it belongs to.

    Args:
        tokenizer: a transformers tokenizer.
        generation_config: the model's, as an object or a mapping with `eos_token_id`; None: there is none.

    Raises:
        DataError: nothing names an end, or all that does opens turns.
    """
    own = tokenizer.eos_token_id
    declared = declared_ends(generation_config)
    frame = chat_frame(tokenizer)
    openers = _openers(tokenizer, frame)
    ending = [token for token in declared if token not in openers]
    reply, trained = _closing(tokenizer, frame, {*ending, own} - openers)
    if reply:
        rule = "chat template"
    elif len(ending) == 1 or (ending and (own is None or own in openers)):
        reply, trained, rule = (ending[0],), 1, "generation config"
    elif own is not None and own not in openers:
        reply, trained, rule = (own,), 1, "tokenizer"
    else:
        raise DataError(
            f"tokenizer {type(tokenizer).__name__} has no EOS token"
            + ("" if own is None else f" that ends anything: {tokenizer.eos_token!r} opens turns"),
            reason="every document and every completion ends with one",
            remedy="set tokenizer.eos_token",
        )
    turn = reply[trained - 1]
    document = own if own is not None and own not in openers else [*ending, turn][0]
    stops = tuple(dict.fromkeys([turn, *ending, document]))
    return Ends(
        reply, trained, document, stops, rule, tuple(_disagreements(tokenizer, declared, openers, frame, turn, rule))
    )


def declared_ends(generation_config: Any) -> tuple[int, ...]:
    """The `eos_token_id` of a generation config, as a tuple."""
    if isinstance(generation_config, Mapping):
        value = generation_config.get("eos_token_id")
    else:
        value = getattr(generation_config, "eos_token_id", None)
    return tuple([value] if isinstance(value, int) else value or [])


def read_generation_config(path: str) -> dict[str, Any] | None:
    """`generation_config.json` of a local folder; None where there is none."""
    file = Path(path) / "generation_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def chat_frame(tokenizer) -> Frame | None:
    """What the chat template writes around messages; None without one, or where it does not show them in order."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    chat = [("user", _ASKED), ("assistant", _REPLIED)]
    try:
        whole, more = (_rendered(tokenizer, turns) for turns in (chat, [*chat, ("user", _AGAIN)]))
        asked = _rendered(tokenizer, chat[:1], add_generation_prompt=True)
    except Exception:  # a template's own refusal comes as one of jinja's
        return None
    closing = whole.rpartition(_REPLIED)
    gap = closing[0].removeprefix(asked) if closing[0].startswith(asked) else ""
    before, question, rest = more.partition(_ASKED)
    opening, replied, rest = rest.partition(_REPLIED)
    between, again, _ = rest.partition(_AGAIN)
    if not (closing[1] and question and replied and again):
        return None
    return Frame(before, opening, between, closing[2], gap if gap.isspace() else "")


def _rendered(tokenizer, turns: Sequence[tuple[str, str]], **options: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _ids(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _ids_behind(tokenizer, before: str, text: str) -> list[int]:
    """A text's ids where it stands behind another: without the space that some tokenizers put before a text."""
    head, whole = _ids(tokenizer, before), _ids(tokenizer, before + text)
    return whole[len(head) :] if whole[: len(head)] == head else _ids(tokenizer, text)


def _controls(tokenizer, text: str, known: set[int | None]) -> list[int]:
    """The special tokens in a text, and those that are known to end something."""
    special = special_ids(tokenizer) | known
    return [token for token in _ids(tokenizer, text) if token in special]


def special_ids(tokenizer) -> set[int]:
    """Ids of the tokens flagged as special; one that stands for unknown words is not among them."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    found = {*tokenizer.all_special_ids, *(token for token, entry in added.items() if entry.special)}
    return found - unknown_ids(tokenizer)


def unknown_ids(tokenizer) -> set[int]:
    """What stands for words that are in no vocabulary: any text may hold it.

    None where ordinary text never needs it: byte-level tokenizers name a token too, and write it for stray control
    characters at most. GPT-2's and SmolLM2's is `<|endoftext|>`, which ends documents.
    """
    model = getattr(tokenizer.backend_tokenizer.model, "unk_token", None) if tokenizer.is_fast else None
    named = {tokenizer.unk_token_id, None if model is None else tokenizer.convert_tokens_to_ids(model)} - {None}
    return named & {*_ids(tokenizer, _EVERY_SCRIPT)} if named else set()


def _openers(tokenizer, frame: Frame | None) -> set[int]:
    """What opens a turn: the last special token before the first message, and before a later one, and no turn's end."""
    if frame is None:
        return set()
    known = {tokenizer.eos_token_id}
    before, opening, between, closing = (
        _controls(tokenizer, text, known) for text in (frame.before, frame.opening, frame.between, frame.closing)
    )
    return ({*before[-1:]} & {*opening[-1:], *between[-1:]}) - {*closing[:1]}


def _closing(tokenizer, frame: Frame | None, known: set[int | None]) -> tuple[tuple[int, ...], int]:
    """(ids that the template writes after a reply, how many of them up to the end token); () if no token ends it."""
    ids = _ids_behind(tokenizer, _REPLIED, frame.closing) if frame else []
    controls = _controls(tokenizer, frame.closing, known) if frame else []
    return (tuple(ids), ids.index(controls[0]) + 1) if controls else ((), 0)


def _disagreements(tokenizer, declared, openers, frame, turn, rule) -> Iterator[str]:
    name = tokenizer.convert_ids_to_tokens
    own = tokenizer.eos_token_id
    if own is None:
        yield "the tokenizer names no EOS"
    elif own in openers:
        yield f"the tokenizer's EOS {name(own)} opens a turn in the chat template; it is not taken as an end"
    elif own != turn:
        yield f"a turn ends with {name(turn)} ({rule}), the tokenizer's EOS is {name(own)}"
    for token in declared:
        if token in openers:
            yield f"the generation config's EOS {name(token)} opens a turn in the chat template; it is not an end"
    if declared and turn not in declared:
        shown = ", ".join(str(name(token)) for token in declared)
        yield f"a turn ends with {name(turn)} ({rule}), the generation config ends completions at {shown}"
    if frame is not None and rule != "chat template":
        yield f"the chat template writes {frame.closing!r} after a reply, which holds no control token"
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id in {turn, own}:
        yield f"padding is {name(tokenizer.pad_token_id)}, which is an end too: masks, not ids, say what is padding"
