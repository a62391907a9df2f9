"""One callback joins a trainer to its stage: rows, evaluations, samples and the progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import psutil
from transformers import TrainerCallback

from ixt_rl.ledger import Ledger
from ixt_rl.run.answered import keep_start
from ixt_rl.run.best import BestModel
from ixt_rl.run.console import StageProgress
from ixt_rl.run.folder import StageFolder

Evaluate = Callable[[], tuple[dict[str, float], list[dict[str, Any]]]]

_SKIPPED = ("epoch", "total_flos")


class StageCallback(TrainerCallback):
    """Writes what the trainer logs, evaluates every `evaluate_every` steps, moves the bar.

    Args:
        folder: where rows go.
        progress: the stage's bar.
        ledger: FLOPs and tokens of all ranks so far; all call it.
        rollouts: completions sampled by the end of a step, for the rows.
        columns: further ones of every row, of the ledger: tokens and FLOPs by phase.
        evaluate: measures the current policy; None for stages without evaluation.
        evaluate_every: in steps; the last step is always evaluated.
        evaluate_at_start: also at step 0.
        best: keeps the model of the best evaluation, and says when to stop.
    """

    def __init__(
        self,
        folder: StageFolder,
        progress: StageProgress,
        ledger: Callable[[], Ledger],
        rollouts: Callable[[int], int] = lambda step: 0,
        columns: Callable[[Ledger], dict[str, float]] = lambda ledger: {},
        evaluate: Evaluate | None = None,
        evaluate_every: int = 1,
        evaluate_at_start: bool = True,
        best: BestModel | None = None,
    ):
        self.folder, self.progress, self.ledger = folder, progress, ledger
        self.rollouts, self.columns = rollouts, columns
        self.evaluate, self.every, self.at_start = evaluate, evaluate_every, evaluate_at_start
        self.best = best
        self.started = time.perf_counter()

    def on_train_begin(self, args, state, control, **kwargs):
        self.progress.step(state.global_step)
        if state.global_step and state.is_world_process_zero:  # what calls before took up to the checkpoint
            self.started -= seconds_so_far(self.folder)
        if self.evaluate is not None and self.at_start and state.global_step == 0:
            self._evaluate(state, keep_samples=True)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "train_samples_per_second" not in logs:  # the trainer's closing words
            kept = {name: as_json(value) for name, value in logs.items() if name not in _SKIPPED}
            self._row(state, "train", {**kept, "rss_gib": psutil.Process().memory_info().rss / 2**30})

    def on_step_end(self, args, state, control, **kwargs):
        self.progress.step(state.global_step)
        last = state.global_step == state.max_steps
        if last or (args.save_strategy == "steps" and state.global_step % args.save_steps == 0):
            control.should_log = True  # no average may span a checkpoint: a resumed run logs the same rows
        if self.evaluate is not None and (last or state.global_step % self.every == 0):
            self._evaluate(state, keep_samples=last and self.best is None)
            if self.best is not None and self.best.exhausted:
                control.should_training_stop = control.should_log = True

    def _evaluate(self, state, keep_samples: bool) -> None:
        assert self.evaluate is not None
        metrics, samples = self.evaluate()  # on every rank: with sharded weights all must take part
        self._row(state, "eval", {name: as_json(value) for name, value in metrics.items()})
        if self.best is not None:
            self.best.evaluated(state.global_step, metrics, samples)
        if state.is_world_process_zero:
            if state.global_step == 0:
                keep_start(self.folder.path)
            if keep_samples:
                self.folder.add_samples(state.global_step, samples)
            self.progress.evaluation(state.global_step, metrics)

    def _row(self, state, phase: str, metrics: dict[str, Any]) -> None:
        ledger = self.ledger()
        if state.is_world_process_zero:
            seconds = time.perf_counter() - self.started
            step, columns = state.global_step, {**self.columns(ledger), **metrics}
            self.folder.add_metrics(phase, step, self.rollouts(step), ledger.total(), seconds, columns)


def seconds_so_far(folder: StageFolder) -> float:
    """What a stage took up to its last row, by all calls of the run; 0 where it has none."""
    return max((row["seconds"] for row in folder.metrics()), default=0.0)


def as_json(value: Any) -> Any:
    """JSON has no NaN; None says that nothing was measured."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
