"""Prompts that are told something else: a wrong answer, another row's answer, or nothing, in the told prompt's form.

    told_prompt         "19+23 <told> 42 ="      the row's own answer
    told_wrong_prompt   "19+23 <told> 77 ="      another row's, which is wrong here
    told_random_prompt  "19+23 <told> 8 ="       another row's, which may happen to be right
    told_form_prompt    "19+23 <told>  ="        nothing

What only the told prompt shows goes together: where a template tells a hint beside the answer, both are the other
row's. Which row that is depends on the question alone: it is the same in every pass, and after a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

from ixt_rl.conditioning.own_template import OwnPromptTemplate
from ixt_rl.conditioning.prompts import Prompt, PromptTemplate
from ixt_rl.errors import DataError

Telling = Literal["wrong", "random", "form"]

COLUMNS: dict[str, str] = {kind: f"told_{kind}_prompt" for kind in ("wrong", "random", "form")}
"""The column that has the prompt of each kind."""

IsWrong = Callable[[str, Any], bool]
"""(an answer, the row's gold or golds) -> whether it is known to be wrong."""

_MOST_TRIES = 1000


class NothingToTell(DataError):
    """No other row has an answer that a row could be told; `kind` is of which kind."""

    def __init__(self, kind: str, what: str, *, reason: str, remedy: str):
        super().__init__(what, reason=reason, remedy=remedy)
        self.kind = kind


def differs(answer: str, golds: Any) -> bool:
    """Whether an answer is none of the golds, as text."""
    known = golds if isinstance(golds, list | tuple) else [golds]
    return _plain(answer) not in {_plain(gold) for gold in known}


def told_others(
    row: Mapping[str, Any],
    told: Prompt,
    template: PromptTemplate | OwnPromptTemplate,
    pool: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    is_wrong: IsWrong = differs,
) -> dict[str, Prompt]:
    """The further told prompts of a row, by their columns.

    Args:
        row: with `question` (text or messages), `answer`, and the columns that the template shows.
        told: its told prompt.
        template: what rendered it.
        pool: rows whose answers may be told in the place of its own; the row may be among them.
        kinds: of `COLUMNS`.
        is_wrong: whether an answer is known to be wrong for this row; by default, whether it is another text.

    Raises:
        NothingToTell: no row of the pool has another question, or for `wrong` an answer that is known to be wrong.
    """
    found = {}
    for kind in kinds:
        if kind == "form":
            made = template.tell(row, dict.fromkeys(row.keys() - {"question"}, ""))
        else:
            made = _from_another(row, told, template, pool, kind, is_wrong)
        found[COLUMNS[kind]] = made
    return found


def _from_another(
    row: Mapping[str, Any],
    told: Prompt,
    template: PromptTemplate | OwnPromptTemplate,
    pool: Sequence[Mapping[str, Any]],
    kind: str,
    is_wrong: IsWrong,
) -> Prompt:
    for other in _others(row, pool, kind):
        answer = other["answer"][0] if isinstance(other["answer"], list | tuple) else other["answer"]
        if kind == "wrong" and not (differs(answer, row["answer"]) and is_wrong(answer, row["answer"])):
            continue
        made = template.tell(row, {**other, "answer": answer})
        if kind != "wrong" or made != told:
            return made
    raise NothingToTell(
        kind,
        f"no {kind} answer to tell beside the question {row['question']!r:.80}",
        reason=f"of {len(pool)} rows none has "
        + ("another question" if kind == "random" else "an answer that is known to be wrong here"),
        remedy="give more rows, whose answers differ, or leave out what needs a wrong answer told",
    )


def _others(row: Mapping[str, Any], pool: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    """Rows of the pool with other questions, from a place that question and kind decide."""
    digest = blake2b(f"{kind}\n{row['question']}".encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "big")
    for turn in range(min(len(pool), _MOST_TRIES)):
        other = pool[(start + turn) % len(pool)]
        if other["question"] != row["question"]:
            yield other


def _plain(answer: Any) -> str:
    return str(answer).strip().casefold()
