"""The ranks of a run as workers of Ray Train: `python examples/cluster/ray_train.py RANKS FILE [KEY=VALUE]...`.

Each worker starts `ixt-rl run` as one rank, at a port of its own: Ray Train's torch backend has the first one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import ray.train
from ray.train import ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer
from ray.util import get_node_ip_address
from torch.cuda import is_available
from torch.distributed.elastic.utils.distributed import get_free_port


def rank(words: list[str]) -> None:
    """One worker's part."""
    context = ray.train.get_context()
    address, port = broadcast_from_rank_zero((get_node_ip_address(), get_free_port()))
    said = {
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "IXT_RL_LAUNCHER": os.getpid(),  # the rank ends with its worker
    }
    environment = {**os.environ, **{name: str(value) for name, value in said.items()}}
    subprocess.run([sys.executable, "-m", "ixt_rl", "run", *words], env=environment, check=True)


if __name__ == "__main__":
    ranks, *words = sys.argv[1:]
    scaling = ScalingConfig(num_workers=int(ranks), use_gpu=is_available())
    TorchTrainer(lambda: rank(words), scaling_config=scaling).fit()
