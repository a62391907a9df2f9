"""A judge as the third opinion on mathematical answers: asked where the rules leave an answer undecided."""

from __future__ import annotations

from collections.abc import Sequence

from ixt_rl.errors import ConfigError
from ixt_rl.judging.answer import Question
from ixt_rl.judging.client import Judge
from ixt_rl.judging.rubric import Rubric

_FIELDS = ("problem", "solution", "reference")


class AnswerOpinion:
    """`MathReward(judge=AnswerOpinion(judge, load_rubric("verifier")))`.

    Args:
        judge: the client.
        rubric: one over `problem`, `solution` (given the answer alone) and `reference` (the gold answer).

    Raises:
        ConfigError: the rubric compares two texts, or has a field of another name.
    """

    def __init__(self, judge: Judge, rubric: Rubric):
        unknown = [name for name in rubric.fields if name not in _FIELDS]
        if unknown or rubric.pair:
            raise ConfigError(
                f"rubric {rubric.name} on undecided answers",
                reason=f"it asks for {', '.join(unknown)}" if unknown else "it compares two texts",
                remedy=f"use a rubric over some of {', '.join(_FIELDS)}, such as verifier",
            )
        self.judge, self.rubric = judge, rubric

    def __call__(self, questions: Sequence[str], golds: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """Verdicts on B answers, on 0..1; None where the judge is undecided."""
        asked = []
        for question, gold, answer in zip(questions, golds, answers, strict=True):
            texts = dict(zip(_FIELDS, (question, answer, gold), strict=True))
            asked.append(Question(self.rubric, {name: texts[name] for name in self.rubric.fields}))
        return [found.verdict.score for found in self.judge.ask(asked)]
