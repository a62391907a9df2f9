"""One sample of an evaluation, as a line of records.jsonl. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ixt_rl.errors import DataError

VerdictLabel = Literal["right", "wrong", "undecided"]


@dataclass(frozen=True)
class Record:
    """One sampled answer to one question, with all that was decided about it.

    Args:
        suite: name of the suite.
        id: of the question, unique in the suite.
        index: place of the question in the suite, from 0.
        cluster: what the question shares with others (a subject, a table); None: nothing.
        sample: which of the question's samples, from 0.
        prompt_hash: sha256 of the prompt's ids, 16 hexadecimal digits.
        prompt_tokens: length of the prompt.
        seed: that the sample was drawn with; None where nothing is drawn (greedy).
        ids: the completion, its end included.
        text: what was graded.
        length: tokens of the completion.
        truncated: it was cut at the longest length.
        finish_reason: `eos`, `stop` or `length`.
        extracted: the final answer that was judged; None: the text gives none.
        verdict: `right`, `wrong` or `undecided`.
        why: what decided.
        engine, engine_version, dtype: what sampled it, in which precision.
        gold: the right answer, a list of them, or the tests of a program.
        question: as the suite has it.
        choices: of a question with choices; None: it has none.
        solution: the worked solution that the gold is the end of; None: the suite has none.
    """

    suite: str
    id: str
    index: int
    cluster: str | None
    sample: int
    prompt_hash: str
    prompt_tokens: int
    seed: int | None
    ids: tuple[int, ...]
    text: str
    length: int
    truncated: bool
    finish_reason: str
    extracted: str | None
    verdict: VerdictLabel
    why: str
    engine: str
    engine_version: str
    dtype: str
    gold: Any
    question: Any
    choices: Any = None
    solution: str | None = None

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        """What says which sample it is: suite, id, index, sample, prompt."""
        return self.suite, self.id, self.index, self.sample, self.prompt_hash

    @property
    def score(self) -> float | None:
        """1 for right, 0 for wrong, None for undecided."""
        return {"right": 1.0, "wrong": 0.0}.get(self.verdict)

    def row(self) -> dict[str, Any]:
        """As JSON has it; without choices and solution where there are none."""
        return {name: value for name, value in asdict(self).items() if name not in _OPTIONAL or value is not None}


_OPTIONAL = ("choices", "solution")
_NEEDED = tuple(field.name for field in fields(Record) if field.name not in _OPTIONAL)
_KNOWN = frozenset(field.name for field in fields(Record))


def record_of(row: Mapping[str, Any], place: str, with_ids: bool = True) -> Record:
    """A line of records.jsonl; fields of later versions are passed over.

    Args:
        row: the object on the line.
        place: of the line, for messages.
        with_ids: whether completions keep their ids, which are most of what a record takes of memory.

    Raises:
        DataError: a field is missing, or the verdict is none.
    """
    missing = [name for name in _NEEDED if name not in row]
    if missing or row["verdict"] not in get_args(VerdictLabel):
        raise DataError(
            f"{place} is no record of a sample",
            reason=f"it has no {missing[0]!r}" if missing else f"its verdict is {row['verdict']!r}",
            remedy="remove the file to have it sampled again, or name another folder",
        )
    kept = {name: value for name, value in row.items() if name in _KNOWN}
    return Record(**{**kept, "ids": tuple(row["ids"]) if with_ids else ()})


def prompt_hash(ids: Sequence[int]) -> str:
    """sha256 of a prompt's ids as decimal text joined by commas, its first 16 hexadecimal digits."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]


def question_seed(seed: int, suite: str, id: str) -> int:
    """The seed of a question's first sample, below 2^62; the k-th has k more. Depends on nothing but the arguments."""
    digest = hashlib.blake2b(f"{seed}\0{suite}\0{id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2
