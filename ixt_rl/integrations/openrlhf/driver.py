"""The main process of a job, in the Python of OpenRLHF's environment: `python -m ... JOB.json`.

It starts Ray (or joins the cluster that RAY_ADDRESS names), puts our actors in the place of OpenRLHF's, and runs its
`train_ppo_ray` as it is. When the process that started it ends, it ends, and with it all of Ray that it started.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from ixt_rl.integrations.openrlhf.job import HOLDER

_PASSED_ON = (
    *("PYTHONPATH", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "NCCL_DEBUG", "VLLM_CPU_KVCACHE_SPACE"),
    *("RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "HF_ENDPOINT"),
)


def main(path: str) -> None:
    """Runs the job in a file; raises what OpenRLHF raises."""
    end_with_parent()
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    os.environ.setdefault("RAY_ENABLE_ZERO_COPY_TORCH_TENSORS", "1")
    if "RAY_ADDRESS" not in os.environ:  # alone on this machine: only then does Ray listen on loopback alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import openrlhf.trainer.ppo_trainer as ppo_trainer
    import openrlhf.trainer.ray.ppo_actor as ppo_actor
    import openrlhf.utils as utils

    from ixt_rl.integrations.openrlhf import actors

    held = _start_ray(ppo_actor.ray, job)
    strategy_of = utils.get_strategy

    def with_job(args: Any) -> Any:
        args.ixt_rl = job  # the arguments reach every actor
        return strategy_of(args)

    utils.get_strategy = with_job
    ppo_actor.PolicyModelActor = actors.policy_class()
    ppo_trainer.PPOTrainer = actors.trainer_class()
    sys.argv = ["train_ppo_ray", *job["command"]]
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
    del held  # engines have asked for it
    ppo_actor.ray.shutdown()


def _start_ray(ray: Any, job: dict[str, Any]) -> Any:
    """Starts Ray, or joins it; what holds variables for its nodes, where they are others."""
    if "RAY_ADDRESS" not in os.environ:  # every process inherits this environment
        ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False)
        return None
    from ixt_rl.rollout.pool.environment import passed_on  # torch comes with it
    from ixt_rl.rollout.pool.variables import hold_variables

    ray.init(runtime_env={"env_vars": passed_on(_PASSED_ON)})
    return hold_variables(job["variables"], HOLDER)  # empty: none is needed


def end_with_parent() -> None:
    """Linux: this process gets SIGTERM when its parent ends, however that ends."""
    parent = os.getppid()
    set_signal = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if set_signal is not None:
        set_signal(1, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
