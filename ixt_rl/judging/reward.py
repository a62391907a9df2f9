"""A judge as a reward function: a rubric over each completion, the prompt it answers and the row's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ixt_rl.errors import ConfigError
from ixt_rl.judging.answer import Question
from ixt_rl.judging.client import Judge
from ixt_rl.judging.rubric import Rubric
from ixt_rl.judging.thoughts import predicted_suffix
from ixt_rl.rewards.math_verifier import Completion, completion_text

_PREDICTED = "predicted"
_OF_ROW = {
    "problem": "question", "task": "question", "prefix": "question",
    "reference": "answer", "suffix": "answer", "original": "answer",
}  # fmt: skip
_OF_COMPLETION = ("solution", "continuation", "text", "code")


class JudgeReward:
    """A reward with TRL's signature: the judge's overall verdict on 0..1, None for undecided.

    The rubric's fields are filled by their names: `problem`, `task` and `prefix` with the row's question, `reference`,
    `suffix` and `original` with its answer, `solution`, `continuation`, `text` and `code` with the completion, and
    `predicted` with what the completion says outside of its thoughts. Where `predicted` is asked for and the completion
    has no whole thought, there is no prediction: the reward is 0, and the judge is not asked.

    Args:
        judge: the client.
        rubric: one that reads a single completion.

    Raises:
        ConfigError: the rubric compares two texts, or has a field of another name.
    """

    def __init__(self, judge: Judge, rubric: Rubric):
        known = [*_OF_ROW, *_OF_COMPLETION, _PREDICTED]
        unknown = [name for name in rubric.fields if name not in known]
        if unknown or rubric.pair:
            raise ConfigError(
                f"rubric {rubric.name} as a reward",
                reason=f"it asks for {', '.join(unknown)}" if unknown else "it compares two texts",
                remedy=f"use a rubric over some of {', '.join(known)}",
            )
        self.judge, self.rubric = judge, rubric
        self._fields = [name for name in (*rubric.fields, *rubric.optional) if name in known]

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        question: Sequence[str],
        answer: Sequence[str | list[str]],
        **_: Any,
    ) -> list[float | None]:
        """Rewards of B completions.

        Args:
            prompts: not read; the row's question is.
            completions: texts or conversations.
            question, answer: the rows' columns; of several answers each is right.
        """
        asked = [self._texts(*row) for row in zip(completions, question, answer, strict=True)]
        answers = iter(self.judge.ask([Question(self.rubric, fields) for fields in asked if fields is not None]))
        return [0.0 if fields is None else next(answers).verdict.score for fields in asked]

    def _texts(self, said: Completion, question: str, answer: str | list[str]) -> dict[str, str] | None:
        """The rubric's fields; None where a prediction is asked for and there is none."""
        completion = completion_text(said)
        row = {"question": question, "answer": answer if isinstance(answer, str) else "\nor\n".join(answer)}
        texts = {name: row[column] for name, column in _OF_ROW.items()} | dict.fromkeys(_OF_COMPLETION, completion)
        if _PREDICTED in self._fields:
            predicted = predicted_suffix(completion)
            if predicted is None:
                return None
            texts[_PREDICTED] = predicted
        return {name: texts[name] for name in self._fields}
