"""Measures a policy on held-out problems: greedy and sampled, and sampled when told the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ixt_rl.conditioning.prompts import row_ids
from ixt_rl.evaluation.controls import METRICS, over_samples
from ixt_rl.evaluation.tasks import Task
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.types import Rollout, SamplingParams

SAMPLING_SEED = 5


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure.

    Args:
        max_new_tokens: longest completion.
        temperature, top_p: of the sampled modes.
        samples: sampled completions a problem; metrics are means over problems of their mean (avg@k). What is undecided
            is in no mean of `checked`: the share `undecided` stands beside it, and `checked_lower`: 0.
        keep_samples: completions of the sampled mode kept for reading.
        max_prompt_tokens: longer prompts lose their beginning; None: none does.
        chat_template_kwargs: of the prompts, as the task has them.
        stop: texts that end a completion; it is measured up to there.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    keep_samples: int = 10
    max_prompt_tokens: int | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mode:
    """One way of answering every problem.

    Args:
        name: first part of its metrics' names.
        prompts: ids, one list a problem.
        sampling: how completions are drawn.
        n: completions a problem; metrics are means over them (avg@k).
        keep: completions kept for reading.
    """

    name: str
    prompts: Sequence[Sequence[int]]
    sampling: SamplingParams
    n: int = 1
    keep: int = 0


@dataclass(frozen=True)
class Answers:
    """What was measured of every completion.

    Args:
        values: by mode and metric, float64 [Q, n] over Q problems, nan where a completion has no such value.
        sources: of a mixture, the source of each problem; else empty.
        samples: to read.
    """

    values: dict[str, dict[str, np.ndarray]]
    sources: Sequence[str]
    samples: list[dict[str, Any]]

    def metrics(self) -> dict[str, float]:
        """Means named `<mode>/<metric>`; of a mixture also `source/<name>/<mode>/<metric>`.

        `strict` and `checked` are means over problems, as their intervals are, of each one's decided samples; all else
        is a mean over completions.
        """
        metrics: dict[str, float] = {}
        for mode, measured in self.values.items():
            for name, of_samples in measured.items():
                values = over_samples(of_samples) if name in METRICS else of_samples
                metrics |= _mean(f"{mode}/{name}", values)
                for source in dict.fromkeys(self.sources):
                    of = [own == source for own in self.sources]
                    metrics |= _mean(f"source/{source}/{mode}/{name}", values[of])
        return metrics


def _mean(name: str, values: np.ndarray) -> dict[str, float]:
    decided = values[~np.isnan(values)].tolist()
    return {name: math.fsum(decided) / len(decided)} if decided else {}


def evaluate(
    engine: RolloutEngine, tokenizer, task: Task, rows: Sequence[dict[str, Any]], plan: EvaluationPlan
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics named `<mode>/<metric>` for modes greedy, sampled and told, and samples to read."""
    answers = answer(engine, tokenizer, task, rows, modes_of(tokenizer, rows, plan))
    return answers.metrics(), answers.samples


def modes_of(
    tokenizer, rows: Sequence[dict[str, Any]], plan: EvaluationPlan, further: Sequence[str] = ()
) -> list[Mode]:
    """Greedy, sampled and told; and sampled from each of the `further` prompts of the rows, `told_wrong` for the column
    `told_wrong_prompt`."""
    cold = SamplingParams(plan.max_new_tokens, temperature=0.0, seed=SAMPLING_SEED, stop=plan.stop)
    hot = SamplingParams(plan.max_new_tokens, plan.temperature, plan.top_p, seed=SAMPLING_SEED, stop=plan.stop)

    def ids(column: str) -> list[list[int]]:
        return [row_ids(tokenizer, row, column, plan.max_prompt_tokens, plan.chat_template_kwargs) for row in rows]

    plain = ids("prompt")
    return [
        Mode("greedy", plain, cold),
        Mode("sampled", plain, hot, plan.samples, plan.keep_samples),
        *(Mode(name.removesuffix("_prompt"), ids(name), hot, plan.samples) for name in ("told_prompt", *further)),
    ]


def answer(
    engine: RolloutEngine, tokenizer, task: Task, rows: Sequence[dict[str, Any]], modes: Sequence[Mode]
) -> Answers:
    """What each mode answers, problem by problem.

    A value that is undecided or not applicable leaves a metric's mean untouched. Sampling is seeded: equal weights give
    equal results.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    samples: list[dict[str, Any]] = []
    for mode in modes:
        groups = engine.generate(mode.prompts, mode.sampling, mode.n)
        of_rows = [row for row, group in zip(rows, groups, strict=True) for _ in group]
        rollouts = [rollout for group in groups for rollout in group]
        texts = [text_before_stop(tokenizer, one.completion_ids, mode.sampling.stop) for one in rollouts]
        measured = _measured(task, of_rows, rollouts, texts)
        places = [(place, turn) for place, group in enumerate(groups) for turn in range(len(group))]
        found[mode.name] = _arrays(measured, places, (len(rows), mode.n))
        each = zip(of_rows, rollouts, texts, measured, strict=True)
        samples += [_sample(task, mode.name, tokenizer, *one) for one in islice(each, mode.keep)]
    return Answers(found, [row["source"] for row in rows] if task.sources else [], samples)


def _measured(
    task: Task, rows: Sequence[dict[str, Any]], rollouts: Sequence[Rollout], texts: Sequence[str]
) -> list[dict[str, float | None]]:
    """Named values of each completion."""
    if not rollouts:
        return []
    values = task.measure(rows, [rollout.completion_ids for rollout in rollouts], texts)
    return [
        {
            **of_one,
            "length": float(len(rollout.completion_ids)),
            "truncated": float(rollout.finish_reason == "length"),
        }
        for of_one, rollout in zip(values, rollouts, strict=True)
    ]


def _arrays(
    measured: Sequence[dict[str, float | None]], places: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """By metric, float64 of `shape`: what was measured at each place, else nan."""
    arrays: dict[str, np.ndarray] = {}
    for place, values in zip(places, measured, strict=True):
        for name, value in values.items():
            if name not in arrays:
                arrays[name] = np.full(shape, np.nan)
            if value is not None:
                arrays[name][place] = value
    return arrays


def _sample(
    task: Task, mode: str, tokenizer, row: dict[str, Any], rollout: Rollout, text: str, measured
) -> dict[str, Any]:
    flags: dict[str, Any] = {
        name: _said(measured[name]) for name in ("checked", "strict", "reasoned") if name in measured
    }
    if "strict" in flags:
        flags["lucky"] = bool(flags["checked"] and not flags["strict"])
    if task.extracted is not None:
        flags["extracted"] = task.extracted(text)
    return {
        "mode": mode,
        "question": row["question"],
        "answer": row["answer"],
        "completion": tokenizer.decode(rollout.completion_ids),
        "length": len(rollout.completion_ids),
        "finish_reason": rollout.finish_reason,
        **flags,
    }


def _said(value: float | None) -> bool | float | None:
    """Right or wrong, of a reward of other values the number, None where it is undecided."""
    return bool(value) if value in (0.0, 1.0) else value
