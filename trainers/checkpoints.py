"""Checkpoints that are whole or not there: a seal, written last, lists every file with its size and hash.

    checkpoint-10/  what transformers writes, what our trainers add, then complete.json

A checkpoint without its seal was being written, or removed, when its process ended. One whose files differ from its
seal is damaged. Neither is resumed from: `last_whole_checkpoint` says what is wrong and takes the one before. Imports
no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.files import open_weights, write_json

SEAL = "complete.json"
"""File of a checkpoint, written last: its other files, with sizes in bytes and SHA-256."""

CURSOR = "cursor.json"
"""File of a checkpoint of a trainer on a stream: where the stream stands after the checkpoint's updates."""

OPENRLHF = "openrlhf.json"
"""File of a checkpoint that OpenRLHF has written: which folder of it is DeepSpeed's."""

STATE = "state-{rank}.pt"
"""File of a checkpoint: what each rank of a trainer of this library knows beside transformers' files."""

REFERENCE = "reference.safetensors"
"""File of a checkpoint: a reference that follows the policy."""

_LOSS = {
    CURSOR: "without it, the place in the stream is not known",
    "trainer_state.json": "without it, the number of updates is not known",
    "optimizer": "without it, training would go on with a fresh optimizer, to other weights",
    "scheduler": "without it, the learning rate is not known",
    "rng_state": "without it, training would go on with other random numbers, to other weights",
    "state-": "without it, rollouts, averages and counts are not known",
}
_log = logging.getLogger(__name__)


def step_of(checkpoint: Path) -> int:
    """The number of updates in `checkpoint-<number>`; -1 for another name."""
    prefix, _, number = checkpoint.name.rpartition("-")
    return int(number) if prefix == "checkpoint" and number.isdecimal() else -1


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, oldest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if path.is_dir() and step_of(path) >= 0), key=step_of)


def seal(checkpoint: Path) -> None:
    """Declares a checkpoint complete: every file is on the disk, and is listed in a file that appears by rename."""
    open_weights(checkpoint)
    listed = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        name = file.relative_to(checkpoint).as_posix()
        if name == SEAL:
            continue
        with open(file, "rb") as opened:
            listed[name] = [file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()]
            os.fsync(opened.fileno())
    write_json(checkpoint / SEAL, {"files": listed})


def spread_by(checkpoint: Path) -> str:
    """What had the model in pieces while it was saved, as transformers and accelerate name its files: FSDP, DeepSpeed;
    "" where each rank had it whole."""
    files = {"FSDP": "pytorch_model_fsdp*", "DeepSpeed": "global_step*"}
    return next((name for name, pattern in files.items() if any(checkpoint.glob(pattern))), "")


def damage(checkpoint: Path) -> DataError | None:
    """Why a run cannot go on from a checkpoint, ready to be raised; None if it is whole.

    Reads every file. Whole means: sealed, each file as it was sealed, and states of optimizer and generators in it.
    """
    try:
        listed: dict[str, list[Any]] = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
        rows = [(str(name), int(size), str(digest)) for name, (size, digest) in listed.items()]
    except FileNotFoundError:
        return _damaged(checkpoint, f"no {SEAL}", "it was being written when its process ended, or is not ours")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _damaged(checkpoint, f"{SEAL} cannot be read", "it is damaged")
    needed = ["trainer_state.json", "optim", *([] if OPENRLHF in listed else ["rng_state"])]  # it draws anew
    for name in needed:
        if not any(name in of_file for of_file, _, _ in rows):
            return _damaged(checkpoint, f"no {'optimizer' if name == 'optim' else name}", _lost(name))
    for name, size, digest in rows:
        file = checkpoint / name
        if not file.is_file():
            return _damaged(checkpoint, f"no {name}", _lost(name))
        found = file.stat().st_size
        if found != size:
            return _damaged(checkpoint, f"{name} has {found} of {size} bytes", _lost(name))
        with open(file, "rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != digest:
                return _damaged(checkpoint, f"{name} is not as it was written", _lost(name))
    return None


def last_whole_checkpoint(
    folder: Path, say: Callable[[str], None] = _log.warning, up_to: int | None = None
) -> Path | None:
    """The newest checkpoint of a folder from which a run goes on exactly; None if there is none.

    Args:
        folder: holds `checkpoint-<updates>` folders; it need not exist.
        say: told of each newer one that is passed over, and why.
        up_to: the last update whose rows are there; later checkpoints are passed over.
    """
    for checkpoint in reversed(checkpoints(folder)):
        if up_to is not None and step_of(checkpoint) > up_to:
            say(f"{checkpoint}: rows of its updates are missing: passed over")
            continue
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint
        say(f"{wrong.what} ({wrong.reason}): passed over")
    return None


def rotate(folder: Path, limit: int | None, protected: Iterable[Path | None] = ()) -> None:
    """Removes the oldest sealed checkpoints beyond `limit`, and what was never sealed; None or 0 removes nothing.

    Args:
        folder: see `last_whole_checkpoint`.
        limit: sealed checkpoints to keep.
        protected: never removed.
    """
    if not limit:
        return
    kept = {path.resolve() for path in protected if path is not None}
    found = checkpoints(folder)
    for path in reversed(found):
        if len(kept) < limit and (path / SEAL).is_file():
            kept.add(path.resolve())
    for path in found:
        if path.resolve() not in kept:
            remove(path)


def remove(checkpoint: Path) -> None:
    """Removes a checkpoint, its seal first: what a kill leaves of it is not taken for whole."""
    (checkpoint / SEAL).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _damaged(checkpoint: Path, what: str, reason: str) -> DataError:
    return DataError(
        f"{checkpoint}: {what}", reason=reason, remedy="resume from the checkpoint before it, or train anew"
    )


def _lost(name: str) -> str:
    if "optim" in name:
        name = "optimizer"
    return next((lost for part, lost in _LOSS.items() if part in name), "it is damaged, or something was deleted")
