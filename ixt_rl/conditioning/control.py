"""Text stays text: control tokens come from templates and code, never from what a text spells out.

    text   --text_ids-->   ids without a control token: `<|im_end|>` in it is seven ordinary tokens
    markup --markup_ids--> ids in which spelled-out control tokens are control tokens, but for what `guard` has masked

A control token is one that is flagged as special, or that the chat template writes around messages. Added tokens that
are neither (`<think>`, digits) are tokens like others. Text that spells no control token has the ids it always had.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary, proxy

from tokenizers import Tokenizer

from ixt_rl.conditioning.ends import chat_frame, special_ids
from ixt_rl.conditioning.word_cache import WordCache, cuts_are_exact

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: Unicode keeps them for the inside of programs
_ANCHORS = ("\n", ".", "a")  # one of them merges with no beginning of a text
_MASKED = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class ControlTokens:
    """How one tokenizer encodes text and markup, always without special tokens of its own.

    Args:
        tokenizer: a transformers tokenizer, complete: tokens and templates that change later are not seen.
        cached: for many texts: not through transformers' call, which also makes masks and offsets at a tenth of the
            time; and each word once (see `words`), for tokenizers where that is exact.
    """

    def __init__(self, tokenizer, *, cached: bool = False):
        self.tokenizer = proxy(tokenizer)  # `_KNOWN` has to let go of tokenizers
        self.ids = control_ids(tokenizer)
        """The ids of the control tokens."""
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._spelled = [tokenizer.convert_ids_to_tokens(token) for token in sorted(self.ids)]
        longest_first = sorted(filter(None, self._spelled), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._numbers = {content: number for number, content in enumerate(self._spelled)}
        self._by_content = dict(zip(self._spelled, sorted(self.ids), strict=True))
        self._strips = {entry.content: (entry.lstrip, entry.rstrip) for entry in added.values()}
        unflagged = {token for token in self.ids if token in added and not added[token].special}
        self._backend: Tokenizer | None = None
        if tokenizer.is_fast and (cached or unflagged):
            self._backend = _flagged(tokenizer.backend_tokenizer, unflagged)
        exact = cached and self._backend is not None and cuts_are_exact(self._backend)
        self._words = WordCache(self._backend) if exact else None

    def spells(self, text: str) -> str:
        """The first control token that the text spells out; "" for none."""
        found = self._pattern.search(text)
        return found[0] if found else ""

    def guard(self, text: str) -> str:
        """The text with its spelled-out control tokens masked, to be put into markup."""
        return self._pattern.sub(lambda found: f"{_OPEN}{self._numbers[found[0]]}{_CLOSE}", text)

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, in which no control token is.

        As `tokenizer(text, add_special_tokens=False)` where the text spells none.
        """
        if not any(texts):
            return [[] for _ in texts]
        found = [list(ids) for ids in self._split(list(texts))]
        for index, text in enumerate(texts):
            if self.spells(text) and not self.ids.isdisjoint(found[index]):
                found[index] = self._cut(text)
        return found

    def markup_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids; control tokens that it spells out are such, those that `guard` has masked are text."""
        masked = [bool(_MASKED.search(text)) for text in texts]
        plain = [text for text, mask in zip(texts, masked, strict=True) if not mask]
        whole = iter(self._whole(plain))
        return [self._pieces(text) if mask else next(whole) for text, mask in zip(texts, masked, strict=True)]

    def following(self, before: Sequence[str], texts: Sequence[str], *, guarded: bool = False) -> list[list[int]]:
        """The ids of each text, or with `guarded` of markup, behind the markup that stands before it.

        Some tokenizers put a space before a text (SentencePiece's dummy prefix). Behind other text it is not there, and
        behind a control token only where the tokenizer itself puts it there.
        """
        if not self._starts_with_space:
            return self.markup_ids(texts) if guarded else self.text_ids(texts)
        markup = texts if guarded else [self.guard(text) for text in texts]
        return [self._behind(*pair) for pair in zip(before, markup, strict=True)]

    def _behind(self, before: str, markup: str) -> list[int]:
        ending = max(
            (content for content in self._spelled if content and before.endswith(content)), key=len, default=""
        )
        if not before:
            return self.markup_ids([markup])[0]
        return _continued(self.markup_ids, markup, (ending,) if ending else _ANCHORS)

    @cached_property
    def _starts_with_space(self) -> bool:
        """Whether a word has other ids at the beginning of a text than at the beginning of its second line."""
        return _continued(self.text_ids, "b", _ANCHORS[:1]) != self.text_ids(["b"])[0]

    @cached_property
    def _space_behind_control(self) -> bool:
        """Whether text behind a control token begins as at the beginning of a text."""
        if not self._starts_with_space or not self._by_content:
            return True
        control, token = next(iter(self._by_content.items()))
        whole, alone = self._whole([control + "a", "a"])
        return whole == [token, *alone]

    def _whole(self, texts: list[str]) -> list[list[int]]:
        if not any(texts):
            return [[] for _ in texts]
        return [list(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _split(self, texts: list[str]) -> Sequence[Sequence[int]]:
        if self._backend is None:
            options = {"add_special_tokens": False, "split_special_tokens": True}
            return [self.tokenizer(text, **options)["input_ids"] for text in texts]
        with _as_text(self._backend):
            if self._words is not None:
                return self._words(texts)
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _cut(self, text: str) -> list[int]:
        """The ids of a text whose control tokens are entries of the model's own vocabulary: each is cut in two."""
        cuts = [0, *(found.start() + 1 for found in self._pattern.finditer(text) if len(found[0]) > 1), len(text)]
        pieces = [text[start:stop] for start, stop in pairwise(cuts)]
        return [token for ids in self._split(pieces) for token in ids]

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = []
        start = 0
        for found in self._pattern.finditer(text):
            left, right = self._strips.get(found[0], (False, False))
            piece = text[start : found.start()].rstrip() if left else text[start : found.start()]
            ids += self._restored(piece, begins=not ids)
            ids.append(self._by_content[found[0]])
            start = found.end()
            if right:
                start += len(text[start:]) - len(text[start:].lstrip())
        return ids + self._restored(text[start:], begins=not ids)

    def _restored(self, piece: str, *, begins: bool) -> list[int]:
        known = self._spelled
        text = _MASKED.sub(lambda found: known[int(found[1])] if int(found[1]) < len(known) else found[0], piece)
        if begins or self._space_behind_control:
            return self.text_ids([text])[0]
        return _continued(self.text_ids, text, _ANCHORS)


def _continued(encode: Callable[[list[str]], list[list[int]]], text: str, anchors: Sequence[str]) -> list[int]:
    """A text's ids where it stands behind something: behind the first of `anchors` that does not merge with it."""
    for anchor in anchors:
        head, whole = encode([anchor, anchor + text])
        if head and whole[: len(head)] == head:
            return whole[len(head) :]
    return encode([text])[0]


def control_ids(tokenizer) -> frozenset[int]:
    """Special tokens, and added tokens that the chat template writes around the messages of past turns."""
    found = special_ids(tokenizer)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    frame = chat_frame(tokenizer) if any(not entry.special for entry in added.values()) else None
    if frame is not None:
        written = [frame.before, frame.opening, frame.between, frame.closing]
        ids = {token for ids in tokenizer(written, add_special_tokens=False)["input_ids"] for token in ids}
        contents = {entry.content for entry in added.values()}
        found |= {token for token in ids & added.keys() if _marks(added[token].content, contents)}
    return frozenset(found)


def _marks(content: str, contents: set[str]) -> bool:
    """Whether an added token marks turns: it is not white space, and no tag of a text such as `<think>`, `</think>`."""
    tag = content.startswith("<") and {content.replace("</", "<"), content.replace("</", "<").replace("<", "</")}
    return not content.isspace() and not (tag and tag <= contents)


def _flagged(backend: Tokenizer, tokens: set[int]) -> Tokenizer:
    """The backend, or a copy of it in which these added tokens are special ones."""
    if not tokens:
        return backend
    settings = json.loads(backend.to_str())
    for entry in settings["added_tokens"]:
        entry["special"] |= entry["id"] in tokens
    return Tokenizer.from_str(json.dumps(settings))


@contextmanager
def _as_text(backend: Tokenizer):
    """Special tokens are encoded as the text they are spelled with; nothing is padded or cut off."""
    backend.no_padding()
    backend.no_truncation()
    before, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        yield
    finally:
        backend.encode_special_tokens = before


# ------------------------------------------------------------------------------------ by tokenizer

_KNOWN: WeakKeyDictionary[Any, tuple[Any, ControlTokens]] = WeakKeyDictionary()


def control_of(tokenizer) -> ControlTokens:
    """The `ControlTokens` of a tokenizer, made again where its tokens or its chat template have changed."""
    added = getattr(tokenizer, "added_tokens_decoder", {})  # not len(tokenizer), which copies the whole vocabulary
    state = (len(added), str(getattr(tokenizer, "chat_template", None)), tuple(tokenizer.all_special_ids))
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = _KNOWN[tokenizer] = state, ControlTokens(tokenizer)
    return known[1]


def text_ids(tokenizer, text: str) -> list[int]:
    """The ids of a text, without special tokens; control tokens that it spells out stay text."""
    return control_of(tokenizer).text_ids([text])[0]


def leading_ids(tokenizer) -> tuple[int, ...]:
    """What the tokenizer puts before a text by itself: BOS, or nothing. What it puts behind it is none of a prompt."""
    bare, whole = (list(tokenizer("a", add_special_tokens=added)["input_ids"]) for added in (False, True))
    if not bare:  # no such word
        return tuple(whole[:1]) if whole[:1] == [tokenizer.bos_token_id] else ()
    starts = range(len(whole) - len(bare) + 1)
    return tuple(whole[: next((n for n in starts if whole[n : n + len(bare)] == bare), 0)])


def chat_markup(tokenizer, chats: Sequence[Sequence[Mapping[str, str]]], **options: Any) -> list[str]:
    """Chats rendered by the template as markup, their contents guarded; `options` as `apply_chat_template` takes."""
    guard = control_of(tokenizer).guard
    guarded = [[{**message, "content": guard(message["content"])} for message in chat] for chat in chats]
    return tokenizer.apply_chat_template(guarded, tokenize=False, **options)


def chat_ids(tokenizer, messages: Sequence[Mapping[str, str]], **options: Any) -> list[int]:
    """One chat's ids: the template's own markers are control tokens, what the messages spell out is text."""
    return control_of(tokenizer).markup_ids(chat_markup(tokenizer, [messages], **options))[0]
