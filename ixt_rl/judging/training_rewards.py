"""Rewards for training judges and rewriters by GRPO (SIP, arXiv 2601.21343), with TRL's signature.

The completions are answers to the prompts of `ixt_rl.judging.examples`, and are read as those of any judge or rewriter.
Two things may be missing, and they are not the same: an answer that cannot be read is the policy's fault and gets
`unreadable`; a judge of ours that is undecided about a rewrite gives None, and the sample is excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.answer import Question
from ixt_rl.judging.backend import Finish, Reply
from ixt_rl.judging.client import Judge
from ixt_rl.judging.parse import parse_answer
from ixt_rl.judging.rewrite_prompt import COPY, read_rewrite
from ixt_rl.judging.rubric import VERDICT, Rubric, load_rubric
from ixt_rl.judging.spoil import begun_alike
from ixt_rl.rewards.math.verifier import Completion, completion_text

LogMetric = Callable[[str, float], None]

_PAIRWISE, _SAFETY = "pairwise-quality", "safety"


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
            finish_reason: B times `eos` or `length`, as this library's trainers give it.
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


class RewriteReward:
    """Of a fine suffix: 1 if it is copied, else 0. Of any other: the mean of its rewrite's quality and safety.

    A copy is the word COPY or the suffix's own text, white space around it aside. Quality is the judge's comparison
    with the row's `original` in both orders, win 1, tie 1/2, loss 0; a rewrite that is the original has 1/2. Safety is
    yes 1, no 0. A suffix that is not fine and copied all the same is judged as it stands.

    Args:
        judge: asked about rewrites.
        unreadable: reward of an answer that is no rewrite: empty, refused, cut off, a mark not closed. 0 discourages
            it as much as the worst rewrite; None leaves such samples out.
        limit: most tokens of a completion: one that long counts as cut off where the trainer does not say.
    """

    def __init__(self, judge: Judge, *, unreadable: float | None = 0.0, limit: int | None = None):
        self.__name__ = "rewrite_reward"
        self.judge, self.unreadable, self.limit = judge, unreadable, limit
        self._quality, self._safety = load_rubric(_PAIRWISE), load_rubric(_SAFETY)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        completion_ids: Sequence[Sequence[int]],
        prefix: Sequence[str],
        suffix: Sequence[str],
        original: Sequence[str],
        good: Sequence[bool],
        finish_reason: Sequence[str] | None = None,
        log_metric: LogMetric | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """Rewards B completions; equal rewrites of a row are judged once.

        Args:
            prompts, completions, completion_ids, finish_reason: as in `VerdictReward`.
            prefix, suffix: B texts: how each document begins, and the continuation that was shown.
            original: B texts that rewrites are compared with.
            good: B times whether the suffix is fine.
            log_metric: receives `rewrite/unreadable`; `rewrite/copied_fine` and `rewrite/copied_others`, the shares
                of fine suffixes and of others that were copied; `rewrite/undecided`, the share of those judged.

        Raises:
            DataError: a `good` that is not true or false.
            BackendFailed: the judge can answer nothing.
        """
        if wrong := [value for value in good if not isinstance(value, bool)]:
            raise DataError(
                f"good={wrong[0]!r:.60}", reason="it says whether a suffix is fine", remedy="write true or false"
            )
        ends = _finishes(completion_ids, finish_reason, self.limit)
        texts = [
            _rewrite(completion_text(completion), finish, shown)
            for completion, finish, shown in zip(completions, ends, suffix, strict=True)
        ]
        copied = [text == shown for text, shown in zip(texts, suffix, strict=True)]
        rows = list(zip(prefix, original, texts, copied, good, strict=True))
        wanted = {(p, o, text) for p, o, text, _, fine in rows if not fine and text is not None}
        judged = self._judged(sorted(wanted))
        if log_metric is not None:
            _log(log_metric, "rewrite/unreadable", [text is None for text in texts])
            _log(log_metric, "rewrite/copied_fine", [same for same, fine in zip(copied, good, strict=True) if fine])
            _log(log_metric, "rewrite/copied_others", [x for x, fine in zip(copied, good, strict=True) if not fine])
            _log(log_metric, "rewrite/undecided", [score is None for score in judged.values()])
        return [
            self.unreadable if text is None else float(same) if fine else judged[p, o, text]
            for p, o, text, same, fine in rows
        ]

    def _judged(self, rewrites: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], float | None]:
        """(prefix, original, rewrite) -> mean of quality and safety; None where one of them is undecided."""
        if not rewrites:
            return {}
        safety = [Question(self._safety, {"prefix": p, "continuation": text}) for p, _, text in rewrites]
        compared = [
            Question(self._quality, {"prefix": p, "a": text, "b": original})
            for p, original, text in rewrites
            if text.strip() != original.strip()
        ]
        scores = [answer.verdict.score for answer in self.judge.ask([*safety, *compared])]
        wins = iter(scores[len(safety) :])
        found: dict[tuple[str, str, str], float | None] = {}
        for key, safe in zip(rewrites, scores, strict=False):
            quality = 0.5 if key[2].strip() == key[1].strip() else next(wins)
            found[key] = None if safe is None or quality is None else (quality + safe) / 2
        return found


def _rewrite(answer: str, finish: Finish, suffix: str) -> str | None:
    """The continuation that an answer gives, `suffix` itself where it is a copy; None without one."""
    text, _ = read_rewrite(Reply(answer, finish), as_json=False)
    if text is None or text in (COPY, suffix.strip()):
        return None if text is None else suffix
    return begun_alike(text, suffix)


def _finishes(ids: Sequence[Sequence[int]], reasons: Sequence[str] | None, limit: int | None) -> list[Finish]:
    """Of each completion, whether it ended or was cut off."""
    if reasons is not None:
        return ["stop" if reason == "eos" else "length" for reason in reasons]
    return ["length" if limit is not None and len(one) >= limit else "stop" for one in ids]


def _log(log_metric: LogMetric, name: str, values: Sequence[bool]) -> None:
    if values:
        log_metric(name, sum(values) / len(values))
