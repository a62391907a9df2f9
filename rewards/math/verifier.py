"""The reward for mathematical answers: 1.0 right, 0.0 wrong, None undecided (excluded and counted).

    completion --final_answer--> text --compare, in this process--> decided
                                          |  needs more than a small computation
                                          v
                                   MathPool: the same rules at 120 digits, and math-verify beside them
                                          |  still undecided, where a judge was given
                                          v
                                   ThirdOpinion

Most answers are decided by the first step in microseconds; only the rest goes to the child processes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, get_args

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rewards.math.compare import NeedsWorker, compare
from ixt_rl.rewards.math.extract import EXTRACTIONS, Extraction, final_answer
from ixt_rl.rewards.math.golds import Gold, OnBadGold, parse_gold
from ixt_rl.rewards.math.opinion import Opinion, ThirdOpinion
from ixt_rl.rewards.math.outcome import Decision
from ixt_rl.rewards.math.pool import Check, MathPool, shared_pool
from ixt_rl.threads import usable_cores
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
        extract: where the final answer stands: `auto`, `boxed`, `hashes`, `tags` or `minerva` (see `final_answer`).
        last_line: take a completion's last line where the answer stands nowhere else.
        tolerance: largest relative difference of a number from the gold, for suites whose rules allow one; 0: none.
        on_bad_gold: a gold answer that cannot be judged raises (`refuse`), or leaves its samples undecided (`drop`).
        judge: asked about undecided answers only, `(questions, golds, answers) -> verdicts`; see `ThirdOpinion`.

    `counts` sums over all calls: right, wrong, undecided, no_answer, bad_gold, `undecided/<reason>`, and with a judge
    `judge/asked`, `judge/cached`, `judge/right`, `judge/wrong`, `judge/undecided`; `pool.counts` has the timeouts,
    respawns and disagreements of the two checkers.
    """

    def __init__(
        self,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        workers: int | None = None,
        extract: Extraction = "auto",
        last_line: bool = False,
        tolerance: float = 0.0,
        on_bad_gold: OnBadGold = "refuse",
        judge: Opinion | None = None,
    ):
        if extract not in EXTRACTIONS:
            raise ConfigError(f"extract {extract!r}", reason="unknown", remedy=f"one of {', '.join(EXTRACTIONS)}")
        if not deadline_s > 0:
            raise ConfigError(f"deadline_s {deadline_s!r}", reason="not positive", remedy="give it in seconds")
        if not 0 <= tolerance < 1:
            raise ConfigError(f"tolerance {tolerance!r}", reason="not in [0, 1)", remedy="give a share, such as 0.01")
        if on_bad_gold not in get_args(OnBadGold):
            raise ConfigError(f"on_bad_gold {on_bad_gold!r}", reason="unknown", remedy="write refuse or drop")
        self.__name__ = "math_reward"
        self.deadline_s, self.extract, self.last_line, self.tolerance = deadline_s, extract, last_line, tolerance
        self.on_bad_gold = on_bad_gold
        self.third_opinion = None if judge is None else ThirdOpinion(judge)
        self.workers = workers or min(4, usable_cores())
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
            prompts: B prompts; a judge is asked about them where there is no column `question`.
            completions: B texts, or B message lists whose last message is judged.
            answer: B gold answers; a list or tuple holds several that are accepted.
            log_extra: given by TRL; receives the extracted answers and the verdicts.
            log_metric: given by TRL; receives `math/undecided`, the undecided share of the batch.

        Raises:
            DataError: a gold answer that cannot be read, with `on_bad_gold="refuse"`; check them with `check_golds`
                when data loads.
        """
        texts = [self.extracted(completion) for completion in completions]
        questions = kwargs.get("question") or prompts
        verdicts = self.judge(texts, self._golds(answer), [completion_text(question) for question in questions])
        if log_metric is not None and verdicts:
            log_metric("math/undecided", sum(v.score is None for v in verdicts) / len(verdicts))
        if log_extra is not None:
            log_extra("math/extracted", [_shown(text) for text in texts])
            log_extra("math/verdict", [f"{v.label}: {v.evidence}" for v in verdicts])
        return [verdict.score for verdict in verdicts]

    def extracted(self, completion: Completion) -> str | None:
        """The final answer of a completion, as it is judged; None if it gives none."""
        return final_answer(completion_text(completion), self.extract, last_line=self.last_line)

    def _golds(self, answers: Sequence[Any]) -> list[Gold | None]:
        golds: list[Gold | None] = []
        for row, gold in enumerate(answers):
            try:
                golds.append(parse_gold(gold, row=row))
            except DataError:
                if self.on_bad_gold == "refuse":
                    raise
                golds.append(None)
        return golds

    def judge(
        self, answers: Sequence[str | None], golds: Sequence[Gold | None], questions: Sequence[str] | None = None
    ) -> list[Verdict]:
        """Verdicts on B extracted answers (None: the completion gave none, which is wrong).

        Args:
            answers: B answers alone.
            golds: B golds; None for one that cannot be judged: its sample is undecided.
            questions: B questions, for the judge of undecided answers.
        """
        verdicts: list[Verdict] = []
        pending: list[tuple[int, Check]] = []
        for row, (text, gold) in enumerate(zip(answers, golds, strict=True)):
            start = time.perf_counter()
            if gold is None:
                verdicts.append(_verdict(None, "bad gold", text, 0.0))
                continue
            try:
                decision = (
                    Decision(False, "no final answer")
                    if text is None
                    else compare(gold, text, tolerance=self.tolerance)
                )
                if decision.right is None and not decision.settled:
                    raise NeedsWorker
                verdicts.append(_verdict(decision.right, decision.reason, text, time.perf_counter() - start))
            except NeedsWorker:
                verdicts.append(_verdict(None, "pending", text, 0.0))
                pending.append((row, Check(gold.texts, text or "", self.tolerance)))
        if pending:
            results = self.pool.judge([task for _, task in pending])
            for (row, task), result in zip(pending, results, strict=True):
                verdicts[row] = _verdict(result.right, result.reason, task.answer, result.seconds)
        if self.third_opinion is not None:
            self._ask(self.third_opinion, verdicts, answers, golds, questions or [""] * len(verdicts))
        for verdict in verdicts:
            self._count(verdict)
        return verdicts

    def _ask(
        self,
        opinion: ThirdOpinion,
        verdicts: list[Verdict],
        answers: Sequence[str | None],
        golds: Sequence[Gold | None],
        questions: Sequence[str],
    ) -> None:
        """The judge's verdicts in the place of the undecided ones."""
        rows = [row for row, verdict in enumerate(verdicts) if verdict.score is None and golds[row] is not None]
        if not rows:
            return
        start, before = time.perf_counter(), Counter(opinion.counts)
        found = opinion.ask([(questions[row], _gold_text(golds[row]), answers[row] or "") for row in rows])
        seconds = (time.perf_counter() - start) / len(rows)
        for row, right in zip(rows, found, strict=True):
            if right is not None:
                verdicts[row] = _verdict(right, f"judge, after {verdicts[row].evidence}", None, seconds)
        self.counts.update({f"judge/{name}": count for name, count in (opinion.counts - before).items()})

    def _count(self, verdict: Verdict) -> None:
        self.counts[verdict.label] += 1
        reason = verdict.evidence.partition(":")[0]
        if verdict.score is None:
            self.counts[f"undecided/{reason}"] += 1
            self.counts["bad_gold"] += reason == "bad gold"
        elif reason == "no final answer":
            self.counts["no_answer"] += 1


def completion_text(completion: Completion) -> str:
    """The text of a completion; of a conversation, that of its last message."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _gold_text(gold: Gold | None) -> str:
    assert gold is not None
    return gold.texts if isinstance(gold.texts, str) else " or ".join(gold.texts)


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
    """Judge one answer (the answer alone, not a completion) against one gold answer, or a list of accepted ones.

    Example:
        >>> verify("1/2", r"\\frac{1}{2}").label
        'right'
    """
    return _default.judge([answer_text], [parse_gold(gold)])[0]
