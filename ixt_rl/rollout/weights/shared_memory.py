"""Memory of one device that several processes use: CUDA's interprocess handles on a GPU, a file without a name on CPUs.

What is shared goes when its last user does, however that ends: nothing of it has a name that could be left behind.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode, b64encode
from typing import Any

import torch
from torch import Tensor

_FILE = re.compile(r"/proc/[0-9]+/fd/[0-9]+")
_OF_ALLOCATION = (3, *range(7, 10), *range(11, 15))
"""Of the arguments by which torch rebuilds a CUDA tensor: its offset; the allocation's handle, size and offset; its
reference counter and its event."""


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

        arguments = reduce_tensor(self.data)[1]
        return json.dumps([_as_json(arguments[index]) for index in _OF_ALLOCATION])

    def seal(self) -> None:
        """Nobody else is to attach; what is mapped stays mapped."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def attach(handle: str, nbytes: int, device: torch.device) -> Tensor:
    """The other process's `Shared.data`, on `device`, which is at the same place.

    Args:
        handle: of `Shared.handle`: data, of which nothing is run.
        nbytes: as there.
        device: this process's name for it.

    Raises:
        ValueError: it is no handle.
    """
    if device.type == "cpu":
        if not _FILE.fullmatch(handle):
            raise ValueError(f"{handle!r} is no handle of shared memory")
        return _map(handle, nbytes)
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    offset, *parts = [b64decode(value) if isinstance(value, str) else value for value in json.loads(handle)]
    allocation, references = parts[:3], parts[3:]
    view = (Tensor, torch.Size([nbytes]), (1,), offset, torch.storage.TypedStorage, torch.uint8)
    arguments: list[Any] = [*view, device.index, *allocation, False, *references]
    return rebuild_cuda_tensor(*arguments)


def settle(device: torch.device) -> None:
    """Waits until what was asked of the device is done, so that other processes see it."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _as_json(value: bytes | int | bool) -> str | int | bool:
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _map(path: str, nbytes: int) -> Tensor:
    return torch.from_file(path, shared=True, size=nbytes, dtype=torch.uint8)
