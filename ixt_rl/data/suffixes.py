"""Documents cut in token space into a prefix and a suffix, for SIP; resumable after any of them.

    documents --Conditioner: [bos, prompt, text, eos] as ids--> prefix | the last N tokens

Both sides are ids of one tokenization, so that the original suffix is trained as it stood in its document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any, Literal, get_args

from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.conditioning.options import Conditioning
from ixt_rl.conditioning.sequences import prefix_suffix
from ixt_rl.data.token_rows import Documents
from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.shares import share
from ixt_rl.types import Document

Cut = Literal["end", "anywhere"]
"""Where a document is cut: so that the suffix is its end, or at another place each time that it comes."""

TOO_SHORT, BLANK, SPLIT = "too short", "blank suffix", "split character"


@dataclass(frozen=True)
class PrefixSuffix:
    """A document cut in two; `prefix_ids + suffix_ids` are its ids, or their end if it was too long.

    Args:
        prefix_ids: what continuations begin from; BOS first if the tokenizer adds one.
        suffix_ids: how the document goes on, its EOS included.
        key: the document's.
    """

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    key: str


@dataclass
class SuffixCounts:
    """What was read so far.

    Args:
        documents: read, skipped ones included.
        given: cut and given out.
        shortened: of which with a prefix that lost its beginning.
        skipped: documents by the reason why they were not given out.
    """

    documents: int = 0
    given: int = 0
    shortened: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


class SuffixStream:
    """One `PrefixSuffix` a document: its last `suffix_tokens` tokens, EOS included, and what stands before them.

    With `cut="anywhere"` the suffix is any `suffix_tokens` tokens in a row, drawn anew each time that the document
    comes: long documents give other suffixes in every pass, all of their text in the end.

    Of a document with a prompt the suffix is cut from the reply and never from the prompt: a reply shorter than
    `suffix_tokens` is a suffix as a whole. A prefix longer than `max_prefix_tokens` loses its beginning, but for BOS.
    Nothing else of a long document is used: each time that it comes it is one suffix.

    Skipped and counted are documents that are `too short`; with a `blank suffix`; whose cut falls inside of a
    character of several tokens (`split character`), because no judge can read such a suffix; and those that `skip`
    names a reason for.

    Iterating goes on from where the stream stands; a second iterator goes on where the first one stopped.

    Args:
        documents: a `DocumentStream`, a `MemoryCorpus`, or anything else with a cursor.
        tokenizer: a transformers tokenizer with an EOS token.
        suffix_tokens: N.
        max_prefix_tokens: longest prefix, BOS included.
        min_prefix_tokens: shortest prefix, BOS not counted.
        skip: document -> why it is not to be used; "" if it is. Has to say the same whenever it is asked.
        cut: where.
        seed: of the draws of `anywhere`.

    Raises:
        ConfigError: lengths with which no document can be cut, or an unknown `cut`.
        DataError: the tokenizer has no EOS; while iterating, 100,000 documents in a row that are skipped.
    """

    _PATIENCE = 100_000

    def __init__(
        self,
        documents: Documents,
        tokenizer,
        *,
        suffix_tokens: int = 128,
        max_prefix_tokens: int = 1920,
        min_prefix_tokens: int = 1,
        skip: Callable[[Document], str] | None = None,
        cut: Cut = "end",
        seed: int = 0,
    ):
        if cut not in get_args(Cut):
            raise ConfigError(
                f"cut={cut!r}",
                reason="a suffix is the end of its document, or stands anywhere in it",
                remedy=f"{did_you_mean(cut, list(get_args(Cut)))}one of {', '.join(get_args(Cut))}",
            )
        self._conditioner = Conditioner(tokenizer, Conditioning())
        self._bos = len(self._conditioner.prompt("", None))
        if suffix_tokens < 1 or not 1 <= min_prefix_tokens <= max_prefix_tokens - self._bos:
            raise ConfigError(
                f"suffix_tokens={suffix_tokens}, min_prefix_tokens={min_prefix_tokens}, "
                f"max_prefix_tokens={max_prefix_tokens}",
                reason="no document can be cut into such a prefix and suffix"
                + (", BOS being the prefix's first token" if self._bos else ""),
                remedy="give suffix_tokens >= 1 and 1 <= min_prefix_tokens < max_prefix_tokens",
            )
        self.documents, self.tokenizer, self.skip = documents, tokenizer, skip
        self.anywhere, self.seed = cut == "anywhere", seed
        self.suffix_tokens = suffix_tokens
        self.max_prefix_tokens, self.min_prefix_tokens = max_prefix_tokens, min_prefix_tokens
        self.counts = SuffixCounts()

    def __iter__(self) -> Iterator[PrefixSuffix]:
        in_a_row = 0
        for document in self.documents:
            self.counts.documents += 1
            found = self._cut(document)
            if isinstance(found, PrefixSuffix):
                in_a_row = 0
                self.counts.given += 1
                yield found
                continue
            self.counts.skipped[found] = self.counts.skipped.get(found, 0) + 1
            in_a_row += 1
            if in_a_row >= self._PATIENCE:
                raise DataError(
                    f"{in_a_row} documents in a row without a usable suffix of {self.suffix_tokens} tokens",
                    reason=", ".join(f"{reason}: {count}" for reason, count in self.counts.skipped.items()),
                    remedy="choose a shorter suffix, or other documents",
                )

    def require_one(self, where: str, most: int = 1000) -> None:
        """Reads documents until one can be cut. A stream that is read on has to be another one.

        Args:
            where: they are from, for the message.
            most: documents to look at.

        Raises:
            DataError: none of them can be cut; says why.
        """
        reasons: Counter[str] = Counter()
        for document in islice(self.documents, most):
            found = self._cut(document)
            if isinstance(found, PrefixSuffix):
                return
            reasons[found] += 1
        raise DataError(
            f"{where}: none of the {'first ' if reasons.total() == most else ''}{reasons.total()} documents can be cut "
            f"into a prefix of {self.min_prefix_tokens} tokens or more and a suffix of {self.suffix_tokens}",
            reason=", ".join(f"{reason}: {count}" for reason, count in reasons.most_common()) or "there is none",
            remedy="lower suffix_tokens or min_prefix_tokens, or give longer documents",
        )

    @property
    def given(self) -> int:
        """Documents cut and given out so far."""
        return self.counts.given

    def state_dict(self) -> dict[str, Any]:
        """The place after what was given out so far, JSON-able."""
        return {
            "cutting": self._cutting(),
            "documents": self.documents.state_dict(),
            "counts": asdict(self.counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place that `state_dict` gave.

        Raises:
            ConfigError: documents were cut otherwise there.
            DataError: the documents are not those of that place.
        """
        if state["cutting"] != self._cutting():
            raise ConfigError(
                f"a cursor over suffixes with {state['cutting']}",
                reason=f"this stream has {self._cutting()}",
                remedy="resume with the settings of the run that wrote it",
            )
        self.documents.load_state_dict(state["documents"])
        counts = dict(state["counts"])
        self.counts = SuffixCounts(**counts | {"skipped": dict(counts["skipped"])})

    def _cutting(self) -> dict[str, Any]:
        return {
            "suffix_tokens": self.suffix_tokens,
            "max_prefix_tokens": self.max_prefix_tokens,
            "min_prefix_tokens": self.min_prefix_tokens,
            **({"cut": "anywhere", "seed": self.seed} if self.anywhere else {}),
        }

    def _cut(self, document: Document) -> PrefixSuffix | str:
        """The document in two, or why not."""
        reason = self.skip(document) if self.skip else ""
        if reason:
            return reason
        (segments,) = self._conditioner.segments([document], first=0)
        ids = tuple(chain.from_iterable(segment.ids or () for segment in segments))
        reply = sum(len(segment.ids or ()) for segment in segments if segment.trained)  # EOS included
        wanted = min(self.suffix_tokens, reply) if document.prompt else self.suffix_tokens
        if len(ids) - self._bos - wanted < self.min_prefix_tokens:
            return TOO_SHORT
        if self.anywhere:
            ids = ids[: self._end(len(ids), wanted, reply if document.prompt else len(ids))]
        prefix, suffix = prefix_suffix(ids, wanted)
        text = self.tokenizer.decode(suffix, skip_special_tokens=True)
        if not text or text.isspace():
            return BLANK
        if text.startswith("\ufffd"):
            return SPLIT
        surplus = len(prefix) - self.max_prefix_tokens
        if surplus > 0:
            self.counts.shortened += 1
            prefix = prefix[: self._bos] + prefix[self._bos + surplus :]
        return PrefixSuffix(prefix, suffix, document.key)

    def _end(self, length: int, wanted: int, reply: int) -> int:
        """Where the suffix of this visit ends: all places are alike, from the first with room before it to `length`."""
        first = max(self._bos + self.min_prefix_tokens, length - reply) + wanted
        drawn = share("cut", self.seed, self.counts.documents)  # counted before the document is cut: one number a visit
        return first + int(drawn * (length - first + 1))
