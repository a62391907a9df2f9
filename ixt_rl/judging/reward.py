"""A judge as a reward function: a rubric over each completion, the prompt it answers and the row's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.conditioning.thought_marks import predicted_suffix
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.answer import Question
from ixt_rl.judging.backend import Finish
from ixt_rl.judging.client import Judge
from ixt_rl.judging.parse import parse_answer
from ixt_rl.judging.rubric import VERDICT, Rubric
from ixt_rl.rewards.math.verifier import Completion, completion_text

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


LogMetric = Callable[[str, float], None]


class VerdictReward:
    """1 where the verdict is the row's label, 0 where it is another one.

    Args:
        rubric: what was asked; it answers with a label.
        unreadable: reward of an answer without a readable verdict, or cut off before it ended. 0 is the paper's rule,
            which discourages it as much as a wrong verdict; None leaves such samples out.
        limit: most tokens of a completion: one that long counts as cut off where the trainer does not say.

    Raises:
        ConfigError: the rubric asks for scores.
    """

    def __init__(self, rubric: Rubric, *, unreadable: float | None = 0.0, limit: int | None = None):
        if not rubric.by_label:
            raise ConfigError(
                f"a verdict reward with rubric {rubric.name}",
                reason="it is answered with scores, not with a label",
                remedy="use a rubric with the axis `verdict`, such as pairwise-quality or safety",
            )
        self.__name__ = "verdict_reward"
        self.rubric, self.unreadable, self.limit = rubric, unreadable, limit

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str],
        finish_reason: Sequence[str] | None = None,
        log_metric: LogMetric | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """Rewards B completions.

        Args:
            prompts: B prompts (part of the signature).
            completions: B texts or conversations.
            completion_ids: B lists of ids.
            answer: B labels of the rubric.
            finish_reason: B times `eos`, `stop` or `length`, as this library's trainers give it.
            log_metric: receives `verdict/right` (of the readable ones) and `verdict/unreadable`.

        Raises:
            DataError: a label that the rubric does not have.
        """
        labels = self.rubric.axes[VERDICT].labels
        for gold in answer:
            if gold not in labels:
                raise DataError(
                    f"label {gold!r:.60}",
                    reason=f"rubric {self.rubric.name} has {', '.join(labels)}",
                    remedy="set data.answer to the column of the labels, and rubric to what the prompts ask",
                )
        ends = _finishes(completion_ids, finish_reason, self.limit)
        found = [
            parse_answer(completion_text(completion), self.rubric).label if finish == "stop" else ""
            for completion, finish in zip(completions, ends, strict=True)
        ]
        right = [float(label == gold) for label, gold in zip(found, answer, strict=True) if label]
        if log_metric is not None and found:
            log_metric("verdict/unreadable", 1 - len(right) / len(found))
            if right:
                log_metric("verdict/right", sum(right) / len(right))
        rewards = iter(right)
        return [next(rewards) if label else self.unreadable for label in found]


def _finishes(ids: Sequence[Sequence[int]], reasons: Sequence[str] | None, limit: int | None) -> list[Finish]:
    """Of each completion, whether it ended or was cut off."""
    if reasons is not None:
        return ["length" if reason == "length" else "stop" for reason in reasons]
    return ["length" if limit is not None and len(one) >= limit else "stop" for one in ids]


def _log(log_metric: LogMetric, name: str, values: Sequence[bool]) -> None:
    if values:
        log_metric(name, sum(values) / len(values))
