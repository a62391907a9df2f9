"""What OpenRLHF's trainers write for the run folder, and that they keep the order of what they are given.

Imports no torch.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_rl.files import append_rows, write_json
from ixt_rl.trainers.checkpoints import OPENRLHF, rotate, seal

_KEPT = 2  # checkpoints: one to fall back to


def in_given_order(strategy: Any) -> Any:
    """`strategy`, whose loaders leave rows in their order: to each rank one in turn, update after update."""
    loader = strategy.setup_dataloader

    def unshuffled(dataset: Any, batch_size: int, pin_memory: bool, shuffle: bool, *args: Any, **kwargs: Any) -> Any:
        return loader(dataset, batch_size, False, False, *args, **kwargs)

    strategy.setup_dataloader = unshuffled
    return strategy


def record(job: Mapping[str, Any], step: int, metrics: Mapping[str, Any]) -> None:
    """Adds an update's row to a job's metrics; what is not finite is null."""
    row = {name: _number(value) for name, value in metrics.items()}
    append_rows(job["metrics"], [{"step": step, **row}])


def seal_written(folder: Path, step: int, steps: int) -> None:
    """Makes what DeepSpeed has written below `folder` a checkpoint beside it, whole or not there.

    Args:
        folder: `checkpoints/_actor`, with all ranks' states in `global_step<step>`.
        step, steps: updates so far, and of the stage.
    """
    written, checkpoint = folder / f"global_step{step}", folder.parent / f"checkpoint-{step}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir()
    os.rename(written, checkpoint / written.name)
    write_json(checkpoint / "trainer_state.json", {"global_step": step, "max_steps": steps})
    write_json(checkpoint / OPENRLHF, {"folder": written.name})
    seal(checkpoint)
    rotate(folder.parent, _KEPT)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
