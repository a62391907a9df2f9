"""Several CPU processes over gloo, for tests of what runs on many ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.distributed.elastic.utils.distributed import get_free_port

ROOT = Path(__file__).resolve().parents[2]
NEXT = "=== next: "
"""Begins what a rank prints of the next of several runs."""


def run_ranks(module: str, call: str, ranks: int = 2, timeout_s: float = 280) -> list[str]:
    """Runs `call`, of names that `module` has, in as many processes, and returns what each printed.

    Raises:
        AssertionError: a process failed; the message has the end of everyone's output.
    """
    port = get_free_port()
    name = call.partition("(")[0]
    command = [sys.executable, "-c", f"from {module} import {name}; {call}"]
    common = {
        "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks, "\n".join(o[-3000:] for o in outputs)
    return outputs


def run_forked(module: str, call: str, folder: Path, ranks: int = 2, timeout_s: float = 280) -> list[str]:
    """As `run_ranks`; one process imports `module` and forks into the ranks, which spares their imports.

    Args:
        module, call, ranks, timeout_s: see `run_ranks`; importing `module` may start no thread.
        folder: gets what each rank printed.
    """
    name = call.partition("(")[0]
    code = (
        f"from {module} import {name}; from tests.unit.distributed import fork_ranks; "
        f"raise SystemExit(any(fork_ranks(lambda rank: {call}, {ranks}, {str(folder)!r}, {timeout_s})))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT, start_new_session=True)
    try:
        status = parent.wait(timeout=timeout_s + 60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    outputs = [log_of(folder, rank).read_text(encoding="utf-8") for rank in range(ranks)]
    assert status == 0, "\n".join(output[-3000:] for output in outputs)
    return outputs


def fork_ranks(call: Callable[[int], int | None], ranks: int, folder: str | Path, patience: float) -> list[int | None]:
    """The exit statuses of as many forks of this process: minus the signal where one killed it, None where it did not
    end. Nobody stops those that are left when one has ended.

    Args:
        call: of a fork's rank; its status, or None for 0. An exception is printed, and is 1.
        folder: gets what each printed, see `log_of`.
        patience: seconds after which what is left is killed.
    """
    port, forks = get_free_port(), []
    for rank in range(ranks):
        forks.append(os.fork())
        if forks[-1] == 0:
            with open(log_of(folder, rank), "a", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            if ranks > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            try:
                status = call(rank) or 0
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            os._exit(status)
    end = time.monotonic() + patience
    statuses: dict[int, int | None] = dict.fromkeys(forks)
    while None in statuses.values() and time.monotonic() < end:
        for fork in [fork for fork, status in statuses.items() if status is None]:
            ended, status = os.waitpid(fork, os.WNOHANG)
            if ended:
                statuses[fork] = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    for fork in [fork for fork, status in statuses.items() if status is None]:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
    return list(statuses.values())


def log_of(folder: str | Path, rank: int) -> Path:
    """What a forked rank has printed."""
    return Path(folder, f"rank{rank}.log")


def end_rank() -> None:
    """Ends a worker: tearing gloo down at interpreter exit now and then aborts, after all is compared."""
    torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)


def zero3_engine(model: nn.Module, optimizer: torch.optim.Optimizer, rows: int):
    """A DeepSpeed ZeRO-3 engine that partitions every parameter of `model`; `rows` is a rank's batch.

    Neither DeepSpeed's shared-memory collectives nor an optimizer of its own is used, so that no C++ is built.
    """
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    config = {
        "train_micro_batch_size_per_gpu": rows,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "gradient_clipping": 0.0,  # its default is 1
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine
