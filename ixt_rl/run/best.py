"""The model of a stage's best evaluation: found in its rows, kept beside its checkpoints, handed on at its end.

    evaluation better than all before -> best/checkpoint-<n>/ (weights, samples, what else was written), whole by rename
    resume from checkpoint-k          -> what came after k is forgotten; the best is that of the rows up to k
    end of the stage                  -> its weights back into the trainer, which saves its model as ever

Nothing but the rows says which is best, so a resumed stage keeps what the straight one would have kept.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ixt_rl.blocks.best import BestBlock, EarlyStoppingBlock, KeepBestBlock
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.files import read_rows, write_rows
from ixt_rl.run.folder import CONTINUATIONS, SAMPLES, StageFolder
from ixt_rl.run.ranks.team import ALONE, Ranks
from ixt_rl.trainers.checkpoints import checkpoints, remove, step_of


class Standing:
    """Which of a stage's evaluations is the best so far, and how many have come since.

    Args:
        keep: metric and mode.
    """

    def __init__(self, keep: KeepBestBlock):
        self.keep = keep
        self.step: int | None = None
        self.value = math.nan
        self.since = 0

    def add(self, step: int, value: Any) -> bool:
        """Takes one evaluation; whether it is better than all before. What was not measured is better than none."""
        measured = isinstance(value, int | float) and math.isfinite(value)
        better = measured and (self.step is None or self._less(self.value, value))
        if better:
            self.step, self.value, self.since = step, float(value), 0
        else:
            self.since += 1
        return better

    def _less(self, one: float, other: float) -> bool:
        return one < other if self.keep.mode == "max" else other < one


class BestModel:
    """Keeps the model of the best evaluation of a stage.

    Args:
        keep: metric and mode.
        early: when to stop; None: never.
        folder: the stage's.
        trainer: has the model.
        averaged: a `with` in which the model has the weights that are measured and handed on.
        begins_without: the evaluation before training does not measure all.
        ranks: of the run; all call each method, the first decides.
    """

    def __init__(
        self,
        keep: KeepBestBlock,
        early: EarlyStoppingBlock | None,
        folder: StageFolder,
        trainer: Any,
        averaged: Callable[[], AbstractContextManager[None]] = nullcontext,
        begins_without: bool = False,
        ranks: Ranks = ALONE,
    ):
        self.ranks = ranks
        self.keep, self.early, self.folder, self.trainer = keep, early, folder, trainer
        self.averaged, self.begins_without = averaged, begins_without
        self.standing = Standing(keep)
        self.at = 0  # updates that were made; every stage ends with an evaluation

    def recall(self, step: int) -> None:
        """Goes on from a checkpoint: forgets models of later evaluations, and takes the rows up to it."""
        self.standing, self.at = self.ranks.decided(lambda: self._recalled(step)), step

    def _recalled(self, step: int) -> Standing:
        for path in self._kept():
            if step_of(path) > step:
                remove(path)
        standing = Standing(self.keep)
        for row in self.folder.metrics():
            if row["phase"] == "eval" and (row["step"] or self.keep.metric in row):
                standing.add(row["step"], row.get(self.keep.metric))
        return standing

    def evaluated(self, step: int, metrics: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the model if its evaluation is the best.

        Raises:
            ConfigError: it has no such metric.
        """
        self.at = step
        if self.keep.metric not in metrics:
            if step == 0 and self.begins_without:
                return
            known = sorted(metrics)
            raise ConfigError(
                f"keep_best.metric: {self.keep.metric!r}",
                reason="the evaluation of this stage has no metric of that name",
                remedy=did_you_mean(self.keep.metric, known) + f"one of: {', '.join(known)}",
            )
        value = self.ranks.decided(lambda: metrics[self.keep.metric])
        if self.standing.add(step, value):
            self._write(step, samples)
            if self.ranks.leads:
                self._forget_older()

    @property
    def exhausted(self) -> bool:
        """Whether the stage's patience is at its end."""
        return self.early is not None and self.standing.since >= self.early.patience

    def restore(self) -> bool:
        """The best model back into the trainer, its samples and files into the stage; False where there is none, or it
        is the one that the trainer has."""
        step = self.standing.step
        if step is None:
            return False
        path = self._path(step)
        if self.ranks.leads:
            self._restore_files(step, path)
        if step == self.at:
            return False
        self.trainer._load_from_checkpoint(str(path))
        return True

    def _restore_files(self, step: int, path: Path) -> None:
        if all(row["step"] != step for row in self.folder.samples()):
            rows = read_rows(path / SAMPLES)
            self.folder.add_samples(step, rows)
        if (path / CONTINUATIONS).is_file():
            write_rows(self.folder.path / CONTINUATIONS, read_rows(path / CONTINUATIONS))

    def result(self) -> dict[str, Any]:
        """What the stage's result says of it."""
        found = {"metric": self.keep.metric, "step": self.standing.step, "value": self.standing.value}
        return {"best": {**found, "updates": self.at}} if self.standing.step is not None else {}

    def notes(self) -> list[str]:
        """In words, what was handed on and when the stage stopped."""
        standing, planned = self.standing, self.trainer.args.max_steps
        if standing.step is None:
            return [f"keep_best: {self.keep.metric} was never decided, so the last model is handed on"]
        found = [f"handed on: the model of step {standing.step}, {self.keep.metric} {standing.value:.4g}"]
        if self.at < planned and self.exhausted:
            found.append(f"stopped at step {self.at} of {planned}: {standing.since} evaluations in a row no better")
        return found

    def _write(self, step: int, samples: Iterable[Mapping[str, Any]]) -> None:
        path = self._path(step)
        part = path.with_name(f"{path.name}.part")
        for old in (part, path) if self.ranks.leads else ():
            if old.exists():
                shutil.rmtree(old)  # of a run that was killed
        with self.averaged():
            self.trainer.save_model(str(part))  # all ranks: the first has gathered what is spread over them
        if not self.ranks.leads:
            return
        write_rows(part / SAMPLES, samples)
        if (self.folder.path / CONTINUATIONS).is_file():
            shutil.copyfile(self.folder.path / CONTINUATIONS, part / CONTINUATIONS)
        part.rename(path)

    def _forget_older(self) -> None:
        """Only what a checkpoint, if the stage went on from it, would find to be the best stays."""
        steps = [step_of(path) for path in self._kept()]
        ends = [step_of(path) for path in checkpoints(self.folder.checkpoints)]
        needed = {max((s for s in steps if s <= end), default=None) for end in ends} | {self.standing.step}
        for path in self._kept():
            if step_of(path) not in needed:
                remove(path)

    def _path(self, step: int) -> Path:
        return self.folder.best / f"checkpoint-{step}"

    def _kept(self) -> list[Path]:
        return checkpoints(self.folder.best)


def best_model(
    stage: BestBlock,
    folder: StageFolder,
    trainer: Any,
    averaged: Callable[[], AbstractContextManager[None]] = nullcontext,
    begins_without: bool = False,
    ranks: Ranks = ALONE,
) -> BestModel | None:
    """What keeps the best model of a stage; None where its block does not ask for it. See `BestModel`."""
    if stage.keep_best is None:
        return None
    return BestModel(stage.keep_best, stage.early_stopping, folder, trainer, averaged, begins_without, ranks)
