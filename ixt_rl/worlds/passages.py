"""What a world gives for SIP: passages that are cut in two, a teacher who rewrites, judges, and an exact measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, Protocol

from transformers import PreTrainedTokenizerBase

Split = Literal["train", "eval"]
Teacher = Callable[[str, str], str]
"""(prefix, suffix) -> the suffix it would rather see there; the same one if that is perfect."""

JudgeFunction = Callable[[Mapping[str, str]], Any]
"""A rubric's fields -> one of its labels; for `FunctionBackend`."""


@dataclass(frozen=True)
class Passage:
    """A document in two: words, without `<bos>` and `<eos>`.

    Args:
        document: key of the document that it is cut from; "": one that gives no other passage.
    """

    prefix: str
    suffix: str
    document: str = ""


class SuffixWorld(Protocol):
    """A world that SIP can be trained and measured in.

    Args:
        suffix_tokens: longest suffix, `<eos>` included, of authors and teachers.
        judge_functions: by axis, the judges that train. They overlook things, always the same ones, and go by other
            criteria than `measure`.
    """

    name: str
    suffix_tokens: int
    judge_functions: dict[str, JudgeFunction]

    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    def passages(self, split: Split, count: int, seed: int) -> list[Passage]:
        """Passages as the corpus's authors write them. No document begins with a prefix of the other split."""

    def rewriter(self, error: float, seed: int) -> Teacher:
        """A teacher, of whose rewrites a share of `error` is flawed; the same answer to the same question."""

    def measure(self, prefix: str, original: str, suffix: str) -> dict[str, float]:
        """What there is to know about a suffix, exactly, on 0..1: `right` (0 or 1), `quality` and the world's own."""


def chance(*texts: str) -> float:
    """A number on 0..1 that belongs to these texts: what stands for luck in a function without state."""
    return int.from_bytes(blake2b("\0".join(texts).encode(), digest_size=8).digest(), "big") / 2**64
