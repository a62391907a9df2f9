"""The partial-prompt probe (arXiv 2507.10532): does a model complete a question verbatim from its beginning?

    question -> its first 40, 60, 80 % of words -> the model's own greedy continuation -> is the rest what follows?

The beginning stands alone, without a chat template or an instruction: a model that never read the question cannot
know how it goes on, save where the rest is forced. Decoding goes on after the rest, and what it then answers is
graded: a right answer to a question that was shown in part is a second sign, weaker where the rest can be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ixt_rl.conditioning.control import text_ids
from ixt_rl.conditioning.prompts import encode_prompt
from ixt_rl.data.fields import question_text
from ixt_rl.errors import ConfigError
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.types import SamplingParams

SHARES = (0.4, 0.6, 0.8)
LEAST_WORDS = 10
"""Shorter questions are left out: their rest is a word or two, which many a model guesses."""
SPARE = 8  # tokens for a rest that the model writes in other tokens than the tokenizer

_WORD = re.compile(r"\S+")


class Scored(Protocol):
    """What a grader says of a completion: 1 right, 0 wrong, None undecided."""

    @property
    def score(self) -> float | None: ...


Grade = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Sequence[Scored]]
"""(B rows of a suite, B completions) -> B verdicts; a `SuiteGrader` is one."""


@dataclass(frozen=True)
class PartialPrompt:
    """The beginning of a question.

    Args:
        index: of the row in the suite.
        share: of the question's words (parted by blanks) that are shown.
        shown: these, as the question has them.
        rest: what follows, the blank before it included.
    """

    suite: str
    index: int
    id: str
    share: float
    shown: str
    rest: str


@dataclass(frozen=True)
class ProbeRecord:
    """What the model made of one beginning.

    Args:
        verbatim: the completion begins with the rest; runs of blanks count as one.
        answered: the whole completion ends in the right answer; None: undecided, or not graded.
        truncated: it was cut at its limit.
    """

    prompt: PartialPrompt
    text: str
    verbatim: bool
    answered: bool | None
    truncated: bool


def partial_prompts(
    suite: str, rows: Sequence[Mapping[str, Any]], shares: Sequence[float] = SHARES
) -> tuple[list[PartialPrompt], int]:
    """The beginnings of a suite's questions, question after question; and how many questions are too short for any.

    Raises:
        ConfigError: a share that leaves nothing to show or nothing to complete.
    """
    for share in shares:
        if not 0 < share < 1:
            raise ConfigError(f"share {share}", reason="it is a part of the question", remedy="write 0.4, 0.6 or such")
    prompts, short = [], 0
    for index, row in enumerate(rows):
        question = question_text(row["question"]).strip()
        ends = [word.end() for word in _WORD.finditer(question)]
        if len(ends) < LEAST_WORDS:
            short += 1
            continue
        for share in shares:
            cut = ends[min(max(round(share * len(ends)), 1), len(ends) - 1) - 1]
            prompts.append(
                PartialPrompt(suite, index, str(row.get("id") or index), share, question[:cut], question[cut:])
            )
    return prompts, short


def probe(
    engine: RolloutEngine,
    tokenizer: Any,
    prompts: Sequence[PartialPrompt],
    rows: Sequence[Mapping[str, Any]],
    grade: Grade | None,
    answer_tokens: int,
    stop: Sequence[str] = (),
) -> list[ProbeRecord]:
    """A record for each beginning, in their order; all are decoded at once.

    Args:
        engine: decodes greedily.
        tokenizer: of its model.
        prompts: of one suite, at least one.
        rows: the suite's.
        grade: of the answers; None: only the rest is asked for.
        answer_tokens: most tokens after the rest.
        stop: texts that end a completion.
    """
    ids = [encode_prompt(tokenizer, one.shown) for one in prompts]
    most = longest_rest(tokenizer, prompts) + (answer_tokens if grade else 0)
    groups = engine.generate(ids, SamplingParams(most, temperature=0.0, stop=tuple(stop)))
    rollouts = [group[0] for group in groups]
    texts = [text_before_stop(tokenizer, rollout.completion_ids, stop) for rollout in rollouts]
    scores: list[float | None] = [None] * len(prompts)
    if grade is not None:
        scores = [found.score for found in grade([rows[one.index] for one in prompts], texts)]
    return [
        ProbeRecord(
            one, text, goes_on(text, one.rest), None if score is None else score == 1, rollout.finish_reason == "length"
        )
        for one, text, score, rollout in zip(prompts, texts, scores, rollouts, strict=True)
    ]


def longest_rest(tokenizer: Any, prompts: Sequence[PartialPrompt]) -> int:
    """Most tokens that a rest may take, a few to spare."""
    return max(len(text_ids(tokenizer, one.rest)) for one in prompts) + SPARE


def goes_on(text: str, rest: str) -> bool:
    """Whether a completion begins with the rest of the question, and then ends or goes on with another word."""
    said, wanted = " ".join(text.split()), " ".join(rest.split())
    after = said[len(wanted) : len(wanted) + 1]
    return said.startswith(wanted) and not (after.isalnum() and wanted[-1:].isalnum())
