"""Several CPU processes over gloo, for tests of what runs on many ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]


def run_ranks(module: str, call: str, ranks: int = 2, timeout_s: float = 280) -> list[str]:
    """Runs `call`, of names that `module` has, in as many processes, and returns what each printed.

    Raises:
        AssertionError: a process failed; the message has the end of everyone's output.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
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
