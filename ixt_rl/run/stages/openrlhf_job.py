"""What stages in OpenRLHF share: its Python, the checkpoint they go on from, their rows, the model that comes back."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.files import read_rows, write_json, write_rows
from ixt_rl.integrations.openrlhf.environment import check_environment, openrlhf_python
from ixt_rl.integrations.openrlhf.flags import JobSettings
from ixt_rl.integrations.openrlhf.job import JobFolder, restore
from ixt_rl.run.callbacks import as_json, seconds_so_far
from ixt_rl.run.console import StageProgress
from ixt_rl.run.folder import ROWS, StageFolder
from ixt_rl.run.stages.context import StageRun
from ixt_rl.trainers.checkpoints import step_of

_CONFIG = "config.json"
_SET_THERE = ("use_cache", "output_router_logits")
"""Keys of a model's config that OpenRLHF sets for its own training, and saves."""


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
    for name in () if at.model.trust_remote_code else (_CONFIG, "tokenizer_config.json"):
        if "auto_map" in _said_in(at.origin, name):
            raise ConfigError(
                f"{name} of {at.origin} with backend: openrlhf",
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


def leave_devices(at: StageRun) -> None:
    """Gives back what this process has of accelerators, which OpenRLHF is about to fill: engines, and memory that torch
    keeps of models that are gone."""
    at.engines.close()
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def take_model(job: JobFolder, folder: StageFolder, done: int, steps: int, origin: str, tokenizer: Any) -> None:
    """Makes the model that a job wrote the stage's, with what OpenRLHF sets in its config as it was in `origin`.

    The tokenizer is the run's own: OpenRLHF writes what it read by the class that the files name.

    Raises:
        BackendFailed: OpenRLHF ended early, or without a model.
    """
    if done != steps or not (job.model / "config.json").is_file():
        raise BackendFailed(
            f"OpenRLHF ended after {done} of {steps} updates",
            reason="it said so with status 0, and without an error",
            remedy=f"its log is {job.log}",
        )
    before, now = _said_in(origin, _CONFIG), _said_in(str(job.model), _CONFIG)
    for name in _SET_THERE:
        now.pop(name, None)
    write_json(job.model / _CONFIG, {**now, **{name: before[name] for name in _SET_THERE if name in before}}, indent=2)
    tokenizer.save_pretrained(job.model)
    shutil.rmtree(folder.model, ignore_errors=True)  # of one that was stopped right here
    job.model.rename(folder.model)


class JobRows:
    """A stage's rows of metrics, out of OpenRLHF's and of evaluations.

    Args:
        folder: the stage's.
        progress: its bar.
        started: when this call of the run began the stage, by `time.perf_counter`; earlier ones count beside it.
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
        self.folder, self.progress, self.counted = folder, progress, counted
        self.started = started - seconds_so_far(folder)
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


def _said_in(origin: str, name: str) -> dict[str, Any]:
    """A JSON file of a local folder, or of a repository of the hub; empty where it has none."""
    file = cached_file(origin, name, _raise_exceptions_for_missing_entries=False)
    found: dict[str, Any] = {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
    return found


def absolute(origin: str) -> str:
    """A local folder as every process finds it; a hub id as it is."""
    return os.path.abspath(origin) if Path(origin).is_dir() else origin
