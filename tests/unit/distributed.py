"""Several CPU processes over gloo, for tests of what runs on many ranks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.distributed.elastic.utils.distributed import get_free_port

NEXT = "=== next: "
"""Begins what a rank prints of the next of several runs."""


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["ixt_rl.trainers", "ixt_rl.run.stages.online"])  # their imports, once for all ranks


def run_ranks(module: str, call: str, ranks: int = 2, timeout_s: float = 280) -> list[str]:
    """Runs `call`, of names that `module` has, on as many ranks, and returns what each printed.

    The ranks are forks of one process, which imports `module`; that may start no thread.

    Raises:
        AssertionError: a rank failed; the message has the end of everyone's output.
    """
    with TemporaryDirectory() as folder:
        asked = (module, call, ranks, folder, timeout_s, dict(os.environ))
        parent = _SERVER.Process(target=_parent, args=asked)
        parent.start()
        try:
            parent.join(timeout_s + 60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
        outputs = [log_of(folder, rank).read_text(encoding="utf-8") for rank in range(ranks)]
    assert parent.exitcode == 0, "\n".join(output[-3000:] for output in outputs)
    return outputs


def _parent(module: str, call: str, ranks: int, folder: str, patience: float, environment: dict[str, str]) -> None:
    """In a process of its own, whose group the ranks are in."""
    os.setsid()
    os.environ.clear()
    os.environ |= environment | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)
    names = vars(import_module(module))
    ends = fork_ranks(lambda rank: eval(call, dict(names)), ranks, folder, patience)
    sys.exit(any(end != 0 for end in ends))


def fork_ranks(call: Callable[[int], int | None], ranks: int, folder: str | Path, patience: float) -> list[int | None]:
    """The exit statuses of as many forks of this process: minus the signal where one killed it, None where it did not
    end. Nobody stops those that are left when one has ended.

    Args:
        call: of a fork's rank; its status, or None for 0. An exception is printed, and is 1.
        folder: gets what each printed, see `log_of`.
        patience: seconds after which what is left is killed.
    """
    port, forks = get_free_port(), []
    gc.freeze()  # trainers collect garbage, which looks through all that is imported
    for rank in range(ranks):
        forks.append(os.fork())
        if forks[-1] == 0:
            with open(log_of(folder, rank), "a", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout.reconfigure(line_buffering=True)  # who ends by os._exit does not flush
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


def keep(trainer: Any, folder: str | Path, logged: list[Any]) -> None:
    """Saves, on the first rank, what `kept` reads: a trained model's weights and what was logged; ends a rank."""
    if trainer.accelerator.is_main_process:
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        torch.save((weights, logged), Path(folder, "kept.pt"))
    if "RANK" in os.environ:
        end_rank()


def kept(folder: str | Path) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """(weights, what was logged) of a folder of `keep`."""
    found: tuple[dict[str, torch.Tensor], list[Any]] = torch.load(Path(folder, "kept.pt"))
    return found


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
