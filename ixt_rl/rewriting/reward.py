"""The reward that trains a rewriter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.judging.answer import Question
from ixt_rl.judging.backend import Finish, Reply
from ixt_rl.judging.client import Judge
from ixt_rl.judging.reward import LogMetric, _finishes, _log
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.rewards.math.verifier import Completion, completion_text
from ixt_rl.rewriting.prompt import COPY, read_rewrite
from ixt_rl.rewriting.rewriter import begun_alike

_PAIRWISE, _SAFETY = "pairwise-quality", "safety"


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
