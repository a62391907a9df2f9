"""One run of OpenRLHF: the files that it reads, its main process, and the rows that it writes.

<folder>/job.json  prompts.jsonl  agent.py     written before; on documents job.json and rows/
         metrics.jsonl  model/  log.txt        written by it
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ixt_rl
from ixt_rl.errors import BackendFailed
from ixt_rl.files import read_json, read_rows, write_json, write_rows, write_text
from ixt_rl.integrations.openrlhf.environment import VARIABLE
from ixt_rl.integrations.openrlhf.token_files import write_token_files
from ixt_rl.place import launched
from ixt_rl.redaction import redacted
from ixt_rl.threads import spin_settings
from ixt_rl.trainers.checkpoints import OPENRLHF

_POLL_S = 0.5
_GRACE_S = 20.0  # after SIGTERM, for Ray to end its processes
_LAST_LINES = 12
ACTOR = "_actor"
"""Folder of checkpoints that OpenRLHF writes, and goes on from."""

HOLDER = "ixt-rl-variables"
"""Name of the actor that others ask for variables of judges and of the hub (`ixt_rl.rollout.pool.variables`)."""

_PROMPTS = ("prompt", "prompt_ids", "told_prompt_ids")  # of a row; all else is for rewards

_DATASETS = "datasets"  # where datasets keeps what it has read

LOGGED = {
    "intro": ("factor/taken", "factor/sampled", "factor/clipped", "factor/kl", "entropy", "sampler/logp_abs"),
    "rlsd": ("factor/taken", "factor/clipped", "entropy", "sampler/logp_abs"),
}
"""By type: metrics of tokens that every actor reduces in every step."""


@dataclass(frozen=True)
class JobFolder:
    """The files of a job."""

    path: Path

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.jsonl"

    @property
    def rows(self) -> Path:
        return self.path / "rows"

    @property
    def agent(self) -> Path:
        return self.path / "agent.py"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    def write(self, prompts: Iterable[Mapping[str, Any]], agent: str, job: Mapping[str, Any]) -> None:
        """Writes what the job reads, in the place of an earlier one's.

        Args:
            prompts: `{"prompt", "label"}` of each group of all updates, in their order.
            agent: the source of agent.py.
            job: `command`, `method`, `reward_names`, `seed`, `steps`, what the actors log, where engines write what
                fails and what judges have to say, and names of variables that processes are given (`HOLDER`).
        """
        self._clear()
        write_rows(self.prompts, prompts)
        write_text(self.agent, agent)
        self._write_job(job)

    def write_on_documents(self, rows: Iterable[Mapping[str, Any]], job: Mapping[str, Any]) -> None:
        """Writes what a job on documents reads, in the place of an earlier one's.

        Args:
            rows: of all updates, see `write_token_files`.
            job: `command`, `ranks`, `steps`.
        """
        self._clear()
        write_token_files(self.rows, rows)
        self._write_job(job)

    def _clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)

    def _write_job(self, job: Mapping[str, Any]) -> None:
        write_json(self.job, {**job, "metrics": str(self.metrics)})


def label(row: Mapping[str, Any], limit: int | None = None) -> str:
    """What goes with a prompt through OpenRLHF, as JSON: ids of both prompts, and the columns that rewards read.

    Args:
        row: of the dataset, with `prompt`, `prompt_ids`, `told_prompt_ids`.
        limit: of ids of a prompt, whose last ones are kept; None: all are.
    """
    columns = {name: value for name, value in row.items() if name not in _PROMPTS}
    ids = {"prompt_ids": _last(row["prompt_ids"], limit), "told_ids": _last(row["told_prompt_ids"], limit)}
    return json.dumps({**ids, "prompt": row["prompt"], "columns": columns})


def _last(ids: Sequence[Any], limit: int | None) -> list[int]:
    return [int(one) for one in (ids if limit is None else ids[-limit:])]


def restore(checkpoints: Path, checkpoint: Path | None) -> None:
    """Makes `ACTOR` what OpenRLHF goes on from: the folder in a checkpoint, or nothing."""
    place = checkpoints / ACTOR
    shutil.rmtree(place, ignore_errors=True)
    if checkpoint is None:
        return
    name = (read_json(checkpoint / OPENRLHF) or {})["folder"]
    place.mkdir(parents=True)
    (place / name).symlink_to((checkpoint / name).resolve(), target_is_directory=True)
    write_text(place / "latest", name)


def run_job(folder: JobFolder, python: str, each: Callable[[dict[str, Any]], None], driver: str = "driver") -> None:
    """Runs a job to its end; the process and all that it started end with this call, however that ends.

    Args:
        python: of OpenRLHF's environment.
        driver: module of this folder that is the job's main process.
        each: is given each row of metrics as it is written.

    Raises:
        BackendFailed: it ended with an error; with the last lines of its log.
    """
    command = [python, "-m", f"{__package__}.{driver}", str(folder.job.resolve())]
    with folder.log.open("wb") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=_environment(folder), start_new_session=True
        )
        seen = 0
        try:
            while True:
                status = child.poll()
                rows = read_rows(folder.metrics)
                for row in rows[seen:]:
                    each(row)
                seen = len(rows)
                if status is not None:
                    break
                time.sleep(_POLL_S)
        finally:
            _end(child)
            shutil.rmtree(folder.path / _DATASETS, ignore_errors=True)
    if status != 0:
        raise BackendFailed(
            f"OpenRLHF ended with status {status} after {seen} updates",
            reason=_last_lines(folder.log),
            remedy=f"its whole log is {folder.log}; the same command goes on from the last checkpoint",
        )


def _environment(folder: JobFolder) -> dict[str, str]:
    source = str(Path(ixt_rl.__file__).resolve().parents[1])
    path = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), source]
    ours = {VARIABLE, *launched()}  # also what accelerate writes here: it means other ranks there, or another's store
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    cache = {"HF_DATASETS_CACHE": str((folder.path / _DATASETS).resolve())}
    return {**kept, **spin_settings(), **cache, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to all of its session."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):  # what is left then is killed
            child.wait(_GRACE_S)
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _last_lines(log: Path) -> str:
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in said if "Error" in line][-3:]
    return redacted("\n    ".join(line[:300] for line in [*errors, *said[-_LAST_LINES:]]) or "it said nothing")


def ordered(count: int, groups: int, at_once: int, order: Sequence[int] | None, shuffled: Callable[[], list[int]]):
    """Places of the prompts of all updates: `order`, or passes over `count` rows, each shuffled anew; rows that fill no
    update are left out of a pass.

    Args:
        count: rows there are.
        groups: prompts that are needed.
        at_once: prompts of one update.
        order: places, where the data has its own.
        shuffled: gives a new order of the rows for each pass.
    """
    if order is not None:
        return [int(place) for place in order][:groups]
    found: list[int] = []
    while len(found) < groups:
        found += shuffled()[: count - count % at_once]
    return found[:groups]
