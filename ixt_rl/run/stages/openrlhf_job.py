"""What stages in OpenRLHF share: its Python, the checkpoint they go on from, their rows, the model that comes back."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.files import read_rows, write_rows
from ixt_rl.integrations.openrlhf.environment import check_environment, openrlhf_python
from ixt_rl.integrations.openrlhf.flags import JobSettings
from ixt_rl.integrations.openrlhf.job import JobFolder, restore
from ixt_rl.run.callbacks import as_json
from ixt_rl.run.console import StageProgress
from ixt_rl.run.folder import ROWS, StageFolder
from ixt_rl.run.stages.context import StageRun
from ixt_rl.trainers.checkpoints import step_of


def checked_python(named: str | None, at: StageRun) -> tuple[str, list[str]]:
    """The Python of OpenRLHF's environment, and how it differs from what was tried.

    Args:
        named: `openrlhf.python` of a stage.

    Raises:
        BackendMissing: it is not there, or another OpenRLHF.
        ConfigError: the model brings code of its own, which OpenRLHF runs unasked (`trust_remote_code=True`).
    """
    python = openrlhf_python(named)
    notes = check_environment(python)
    if at.model.trust_remote_code or not Path(at.origin).is_dir():
        return python, notes
    for name in ("config.json", "tokenizer_config.json"):
        file = Path(at.origin) / name
        if file.is_file() and "auto_map" in json.loads(file.read_text(encoding="utf-8")):
            raise ConfigError(
                f"{file} with backend: openrlhf",
                reason="it names code of the model's own, which OpenRLHF runs without asking",
                remedy="set model.trust_remote_code: true if you trust it, or leave backend out",
            )
    return python, notes


def job_folder(folder: StageFolder) -> JobFolder:
    """Where a stage's job has its files."""
    return JobFolder(folder.path.resolve() / "openrlhf")


def go_on(folder: StageFolder) -> Path | None:
    """The checkpoint that a stage goes on from, where OpenRLHF finds it; rows of later updates are dropped."""
    checkpoint = folder.last_checkpoint()
    if checkpoint is not None:
        folder.drop_rows_after(step_of(checkpoint))
    restore(folder.checkpoints, checkpoint)
    return checkpoint


def job_settings(at: StageRun, job: JobFolder, checkpoints: Path, resume: bool) -> JobSettings:
    """What the run gives a job; `checkpoints`: where OpenRLHF writes them."""
    return JobSettings(absolute(at.origin), at.model.attention, at.seed or 0, checkpoints.resolve(), job.model, resume)


def take_model(job: JobFolder, folder: StageFolder, done: int, steps: int) -> None:
    """Makes the model that a job wrote the stage's.

    Raises:
        BackendFailed: OpenRLHF ended early, or without a model.
    """
    if done != steps or not (job.model / "config.json").is_file():
        raise BackendFailed(
            f"OpenRLHF ended after {done} of {steps} updates",
            reason="it said so with status 0, and without an error",
            remedy=f"its log is {job.log}",
        )
    shutil.rmtree(folder.model, ignore_errors=True)  # of one that was stopped right here
    job.model.rename(folder.model)


class JobRows:
    """A stage's rows of metrics, out of OpenRLHF's and of evaluations.

    Args:
        folder: the stage's.
        progress: its bar.
        started: when the stage began, by `time.perf_counter`.
        counted: (rollouts, FLOPs, further columns) by the end of an update; of the row of the update it takes what the
            stage's rows do not have.
    """

    def __init__(
        self,
        folder: StageFolder,
        progress: StageProgress,
        started: float,
        counted: Callable[[int, dict[str, Any]], tuple[int, float, dict[str, float]]],
    ):
        self.folder, self.progress, self.started, self.counted = folder, progress, started, counted
        self.step = max((row["step"] for row in folder.metrics() if row["phase"] == "train"), default=0)

    def trained(self, row: dict[str, Any]) -> None:
        """Adds a row of OpenRLHF's."""
        row = dict(row)
        self.step = row.pop("step")
        self._add("train", row)
        self.progress.step(self.step)

    def evaluated(self, step: int, metrics: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Adds an evaluation, in the place of one that a killed run had added."""
        self.step = step
        self._forget_evaluation(step)
        self._add("eval", {name: as_json(value) for name, value in metrics.items()})
        self.folder.add_samples(step, samples)
        self.progress.evaluation(step, metrics)

    def _forget_evaluation(self, step: int) -> None:
        for path in (self.folder.path / name for name in ROWS):
            rows = read_rows(path)
            kept = [row for row in rows if row["step"] != step or row.get("phase") == "train"]
            if len(kept) < len(rows):
                write_rows(path, kept)

    def _add(self, phase: str, metrics: dict[str, Any]) -> None:
        rollouts, flops, columns = self.counted(self.step, metrics)
        seconds = time.perf_counter() - self.started
        self.folder.add_metrics(phase, self.step, rollouts, flops, seconds, {**columns, **metrics})


def absolute(origin: str) -> str:
    """A local folder as every process finds it; a hub id as it is."""
    return os.path.abspath(origin) if Path(origin).is_dir() else origin
