"""The reward for mathematical answers: 1.0 right, 0.0 wrong, None undecided (excluded and counted).

    completion --final_answer--> text --compare, exact rules--> decided
                                          |  needs more than rationals
                                          v
                                   MathPool: exact rules at 120 digits, and math-verify beside them

Most answers are decided by the first step in microseconds; only the rest goes to the child processes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ixt_rl.errors import ConfigError
from ixt_rl.rewards.compare import NeedsWorker, compare
from ixt_rl.rewards.extract import EXTRACTIONS, Extraction, final_answer
from ixt_rl.rewards.golds import Gold, parse_gold
from ixt_rl.rewards.math_pool import MathPool, Task, shared_pool
from ixt_rl.rewards.outcome import Decision
from ixt_rl.types import Verdict

Completion = str | list[dict[str, Any]]
DEFAULT_DEADLINE_S = 5.0
SHOWN_CHARS = 200
"""How much of an extracted answer is logged."""


class MathReward:
    """A configured math reward; call it as TRL calls reward functions.

    Args:
        deadline_s: wall time that judging one answer may take, seconds; then it is undecided.
        workers: child processes; by default one per CPU core, at most 4.
        extract: where the final answer stands: `last_box`, `hashes` or `auto` (see `final_answer`).

    `counts` sums over all calls: right, wrong, undecided, no_answer, and `undecided/<reason>`;
    `pool.counts` has the timeouts, respawns and disagreements of the two checkers.
    """

    def __init__(
        self,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        workers: int | None = None,
        extract: Extraction = "auto",
    ):
        if extract not in EXTRACTIONS:
            raise ConfigError(f"extract {extract!r}", reason="unknown", remedy=f"one of {', '.join(EXTRACTIONS)}")
        if not deadline_s > 0:
            raise ConfigError(f"deadline_s {deadline_s!r}", reason="not positive", remedy="give it in seconds")
        self.__name__ = "math_reward"
        self.deadline_s, self.extract = deadline_s, extract
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.counts: Counter[str] = Counter()

    @property
    def pool(self) -> MathPool:
        """This process's pool of workers for these settings."""
        return shared_pool(workers=self.workers, deadline_s=self.deadline_s)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        answer: Sequence[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """Reward B completions.

        Args:
            prompts: B prompts (not used; part of TRL's signature).
            completions: B texts, or B message lists whose last message is judged.
            answer: B gold answers.
            log_extra: given by TRL; receives the extracted answers and the verdicts.
            log_metric: given by TRL; receives `math/undecided`, the undecided share of the batch.

        Raises:
            DataError: a gold answer that cannot be read; check them with `check_golds` when data loads.
        """
        texts = [final_answer(completion_text(completion), self.extract) for completion in completions]
        verdicts = self.judge(texts, [parse_gold(gold, row=row) for row, gold in enumerate(answer)])
        if log_metric is not None and verdicts:
            log_metric("math/undecided", sum(v.score is None for v in verdicts) / len(verdicts))
        if log_extra is not None:
            log_extra("math/extracted", [_shown(text) for text in texts])
            log_extra("math/verdict", [f"{v.label}: {v.evidence}" for v in verdicts])
        return [verdict.score for verdict in verdicts]

    def judge(self, answers: Sequence[str | None], golds: Sequence[Gold]) -> list[Verdict]:
        """Verdicts on B extracted answers (None: the completion gave none, which is wrong)."""
        verdicts: list[Verdict | None] = []
        pending: list[tuple[int, Task]] = []
        for row, (text, gold) in enumerate(zip(answers, golds, strict=True)):
            start = time.perf_counter()
            try:
                decision = Decision(False, "no final answer") if text is None else compare(gold, text)
                verdicts.append(_verdict(decision.right, decision.reason, text, time.perf_counter() - start))
                if decision.right is None and not decision.settled:
                    raise NeedsWorker
            except NeedsWorker:
                verdicts[row:] = [None]
                pending.append((row, Task(gold.text, text or "")))
        if pending:
            results = self.pool.judge([task for _, task in pending])
            for (row, task), result in zip(pending, results, strict=True):
                verdicts[row] = _verdict(result.right, result.reason, task.answer, result.seconds)
        found = [verdict for verdict in verdicts if verdict is not None]
        for verdict in found:
            self.counts[verdict.label] += 1
            reason = verdict.evidence.partition(":")[0]
            if verdict.score is None:
                self.counts[f"undecided/{reason}"] += 1
            elif reason == "no final answer":
                self.counts["no_answer"] += 1
        return found


def completion_text(completion: Completion) -> str:
    """The text of a completion; of a conversation, that of its last message."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _verdict(right: bool | None, reason: str, text: str | None, seconds: float) -> Verdict:
    label = "undecided" if right is None else "right" if right else "wrong"
    evidence = reason if text is None else f"{reason}: {_shown(text)}"
    return Verdict(None if right is None else float(right), label, evidence, seconds)


def _shown(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


_default = MathReward()


def math_reward(
    prompts: Sequence[Any], completions: Sequence[Completion], answer: Sequence[Any], **kwargs: Any
) -> list[float | None]:
    """`MathReward` with its defaults, as a plain function: 1.0 right, 0.0 wrong, None undecided.

    The dataset has the gold answers in a column `answer`. See `MathReward.__call__`.
    """
    return _default(prompts, completions, answer, **kwargs)


def math_reward_counts() -> Counter[str]:
    """Counts of `math_reward` in this process, its pool's included under `pool/`."""
    counts = Counter(_default.counts)
    counts.update({f"pool/{name}": count for name, count in _default.pool.counts.items()})
    return counts


def verify(answer_text: str, gold: Any) -> Verdict:
    """Judge one answer (the answer alone, not a completion) against one gold answer.

    Example:
        >>> verify("1/2", r"\\frac{1}{2}").label
        'right'
    """
    return _default.judge([answer_text], [parse_gold(gold)])[0]
