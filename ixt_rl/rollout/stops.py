"""What ends a completion before its EOS and its limit: a stop string, or a loop (`loops.py`). No model.

Stop strings: a completion ends with the first token with which its text holds one.

The token, and so the stop string, perhaps with a tail, stays among the ids, because that is what was sampled; the text
that rewards and judges read ends before it. One `StopWatch` a completion decides for every engine, so that equal ids
end at the same place, whichever engine sampled them. It reads the completion alone: what the prompt holds, or begins,
does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Literal

from ixt_rl.rollout.loops import EVERY, find_period
from ixt_rl.types import UNKNOWN_CHARACTER, SamplingParams

Early = Literal["stop", "looped"]


class StopWatch:
    """Reads one completion token by token, special tokens included, and says when a stop string is in it.

    Text is decoded from a few tokens at a time, as vLLM's and transformers' streamers do: from where the last whole
    piece began, so that a character's bytes may lie in several tokens.

    Args:
        tokenizer: of the policy.
        stop: at least one text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]):
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._longest = max(map(len, self._stop))
        self._ids: list[int] = []
        self._begin = self._read = 0  # ids before `_read` are in `_tail`; decoding begins at the piece before them
        self._tail = ""

    def add(self, token: int) -> bool:
        """Whether the text holds a stop string with this token."""
        self._ids.append(token)
        before = plain_text(self._tokenizer, self._ids[self._begin : self._read])
        now = plain_text(self._tokenizer, self._ids[self._begin :])
        text = self._tail + now[len(before) :]
        if any(one in text for one in self._stop):
            return True
        if len(now) > len(before) and not now.endswith(UNKNOWN_CHARACTER):  # else more bytes of a character may follow
            self._begin, self._read = self._read, len(self._ids)
            self._tail = text[max(0, len(text) - self._longest + 1) :]
        return False


class EndWatch:
    """Reads one completion token by token, and says what ends it early.

    Args:
        tokenizer: of the policy; only stop strings need it.
        sampling: has some, or cuts loops: `ends_early`.
    """

    def __init__(self, tokenizer: Any, sampling: SamplingParams):
        self._stop = StopWatch(tokenizer, sampling.stop) if sampling.stop else None
        self._loops, self._ids = sampling.cut_loops, list[int]()

    def add(self, token: int) -> Early | None:
        """What this token, which is no EOS, ends it with."""
        if self._stop is not None and self._stop.add(token):
            return "stop"
        if self._loops:
            self._ids.append(token)
            if len(self._ids) % EVERY == 0 and find_period(self._ids):
                return "looped"
        return None


def ends_early(sampling: SamplingParams) -> bool:
    """Whether something besides an EOS and the limit may end completions."""
    return bool(sampling.stop or sampling.cut_loops)


def plain_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of ids as they are: special tokens written out, no space taken away."""
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def before_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first stop string in it; all of it where there is none."""
    places = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(places)] if places else text


def text_before_stop(tokenizer: Any, ids: Sequence[int], stop: Sequence[str], skip_special_tokens: bool = True) -> str:
    """What rewards and judges read of a completion: its text up to the first stop string, special tokens left out.

    Args:
        ids: the completion, its end included.
        stop: stop strings it was sampled with, none or several; they may spell out special tokens.
        skip_special_tokens: whether special tokens are left out of the text.
    """
    whole: str = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
    if not stop:
        return whole
    plain = plain_text(tokenizer, ids)
    head = before_stop(plain, stop)
    if head == plain:
        return whole
    kept = len(ids) - 1  # whole tokens before the stop string: it may begin within one, which is then cut
    while not head.startswith(text := plain_text(tokenizer, ids[:kept])):
        kept -= 1
    shown = tokenizer.decode(ids[:kept], skip_special_tokens=skip_special_tokens) + head[len(text) :]
    # a space after a special token is not shown where that is left out
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(shown, whole, strict=False)))
