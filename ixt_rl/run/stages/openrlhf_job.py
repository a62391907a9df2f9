"""What stages in OpenRLHF share: its Python, the checkpoint that they go on from, the model that comes back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.integrations.openrlhf.environment import check_environment, openrlhf_python
from ixt_rl.integrations.openrlhf.flags import JobSettings
from ixt_rl.integrations.openrlhf.job import JobFolder, restore
from ixt_rl.run.folder import StageFolder
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


def absolute(origin: str) -> str:
    """A local folder as every process finds it; a hub id as it is."""
    return os.path.abspath(origin) if Path(origin).is_dir() else origin
