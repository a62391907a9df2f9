"""Memory of one device that several processes use: CUDA's interprocess handles on a GPU, a file without a name on CPUs.

What is shared goes when its last user does, however that ends: nothing of it has a name that could be left behind.
"""

from __future__ import annotations

import os
import pickle
from base64 import b64decode, b64encode

import torch
from torch import Tensor


def place(device: torch.device, node: str) -> str:
    """Where a process's tensors are: two processes at the same place can share memory. Empty: it can share with none.

    Args:
        device: of the tensors.
        node: what tells this machine from others.
    """
    if device.type == "cuda":
        return str(torch.cuda.get_device_properties(device).uuid)  # two processes may count GPUs differently
    if device.type == "cpu" and hasattr(os, "memfd_create"):
        return f"cpu of {node}, user {os.getuid()}"
    return ""


class Shared:
    """Bytes that other processes of the same place can map.

    Args:
        nbytes: how many.
        device: where.

    Attributes:
        data: uint8 `[nbytes]`.
    """

    def __init__(self, nbytes: int, device: torch.device):
        self._file: int | None = None
        if device.type == "cpu" and hasattr(os, "memfd_create"):
            self._file = os.memfd_create("ixt-rl")
            os.ftruncate(self._file, nbytes)
            self.data = _map(f"/proc/self/fd/{self._file}", nbytes)
        else:
            self.data = torch.empty(nbytes, dtype=torch.uint8, device=device)

    def handle(self) -> str:
        """For `attach` in one other process, while this one lives and has not called `seal`; each process needs its
        own."""
        if self._file is not None:
            return f"/proc/{os.getpid()}/fd/{self._file}"
        from torch.multiprocessing.reductions import reduce_tensor

        return b64encode(pickle.dumps(reduce_tensor(self.data)[1])).decode()

    def seal(self) -> None:
        """Nobody else is to attach; what is mapped stays mapped."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def attach(handle: str, nbytes: int, device: torch.device) -> Tensor:
    """The other process's `Shared.data`, on `device`, which is at the same place.

    Args:
        handle: of `Shared.handle`; a GPU's is unpickled, so it must come from a process that is trusted.
        nbytes: as there.
        device: this process's name for it.
    """
    if device.type == "cpu":
        return _map(handle, nbytes)
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    arguments = list(pickle.loads(b64decode(handle)))
    arguments[6] = device.index  # the GPU's index in this process
    return rebuild_cuda_tensor(*arguments)


def settle(device: torch.device) -> None:
    """Waits until what was asked of the device is done, so that other processes see it."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _map(path: str, nbytes: int) -> Tensor:
    return torch.from_file(path, shared=True, size=nbytes, dtype=torch.uint8)
