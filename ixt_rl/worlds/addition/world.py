"""The addition world: its problems, their answers in a view, grades, and the documents that bases are pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from ixt_rl.types import Grade
from ixt_rl.worlds.addition.author import Habits, NoisyAuthor
from ixt_rl.worlds.addition.problem import (
    ID,
    VOCABULARY,
    AdditionProblem,
    View,
    is_eval_problem,
    read_answer,
    right_rationale,
    view_answer,
    wrong_answer,
)
from ixt_rl.worlds.shared import word_tokenizer


class AdditionWorld:
    """Problems, prompts, grades and noisy documents of the addition world.

    Args:
        view: what of the answer is shown to the told prompt and checked by the reward.
    """

    name = "addition"
    template = "addition"
    views: tuple[View, ...] = ("sum", "parity", "mod5")
    habits: ClassVar[Habits] = Habits()
    """Of the author whose documents bases are pretrained on."""
    wrong_keys: ClassVar[float] = 0.0
    """Share of training problems whose key, shown to the told prompt and checked by the reward, is wrong."""

    def __init__(self, view: View = "sum"):
        self.view: View = view

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word-level tokenizer of the 22 tokens; encoding adds `<bos>`."""
        return word_tokenizer(ID)

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` problems of a split as rows with `question` and `answer` (in this view)."""
        rng = np.random.default_rng([seed, split == "eval"])
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            a, b = (int(v) for v in rng.integers(0, 1000, size=2))
            problem = AdditionProblem(a, b)
            if is_eval_problem(a, b) == (split == "eval") and self.in_domain(problem, split):
                rows.append({"question": problem.question, "answer": self.key(problem)})
        return rows

    def in_domain(self, problem: AdditionProblem, split: Literal["train", "eval"]) -> bool:
        """Whether a problem is of the kind that a split draws: any is."""
        return True

    def key(self, problem: AdditionProblem) -> str:
        """The answer, in this view, that a problem is told and checked with; of evaluation problems always the right
        one."""
        return view_answer(wrong_answer(problem, self.wrong_keys) or problem.answer, self.view)

    def grade(self, question: str, completion_ids: Sequence[int]) -> Grade:
        """All that is known of a rationale: checked in this view, strict, and token by token."""
        problem = AdditionProblem.parse(question)
        answer = read_answer(completion_ids)
        first = VOCABULARY[completion_ids[0]] if completion_ids else ""
        style = {"C": "C", "V": "V", "#": "D"}.get(first, "other")
        check = ID["K"] in completion_ids
        right = right_rationale(problem, style, check and style != "D") if style != "other" else []
        agrees = [i < len(right) and token == right[i] for i, token in enumerate(completion_ids)]
        checked = answer is not None and view_answer(answer, self.view) == self.key(problem)
        return Grade(
            checked=checked,
            strict=bool(right) and list(completion_ids) == right,
            reasoned=style in ("C", "V"),
            token_right=tuple(agrees),
            extra={"sum": answer == problem.answer, "check": check},
        )

    def documents(self, count: int, seed: int) -> list[tuple[list[int], list[int]]]:
        """`count` noisy training documents as (prompt ids, rationale ids); see `Habits`."""
        return NoisyAuthor(seed, self.habits).documents(count)
