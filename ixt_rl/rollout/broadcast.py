"""Weights by broadcast, from the trainer's device straight to those of the engines.

Rank 0 of a `torch.distributed` group of its own is the trainer's main process, the other ranks are the engines'
processes; the trainer's own groups are not touched. NCCL carries it between GPUs, gloo between CPUs. Tensors travel
in buckets, each as three broadcasts:

    bytes of the header -> header: [[name, dtype, shape], ...] -> the tensors' bytes, each at a multiple of `ALIGNMENT`

A header of no bytes ends the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.weights import TensorEntry, describe

BUCKET = 32 * 2**20
"""Bytes sent at once; a larger tensor goes alone. Small enough for engines to load one while the next is filled."""

ALIGNMENT = 64

Header = list[tuple[str, str, list[int]]]  # name, dtype, shape


class TransferBroken(Exception):
    """A rank of the group went away, or did not keep up."""


@dataclass(frozen=True)
class Meeting:
    """Where and how the ranks of a group meet.

    Args:
        host: of rank 0.
        port: there.
        world_size: ranks.
        timeout: seconds one of them waits for the others.
    """

    host: str
    port: int
    world_size: int
    timeout: float


class Group:
    """One rank's end; blocks until all ranks are there.

    Args:
        meeting: the same for all ranks.
        rank: 0 sends.
        device: of this rank's tensors: CPUs for all ranks, or a GPU each.
        store: rank 0's own.
    """

    def __init__(self, meeting: Meeting, rank: int, device: torch.device, store: dist.Store | None = None):
        self.device = device
        self._timeout = timedelta(seconds=meeting.timeout)
        store = store or dist.TCPStore(meeting.host, meeting.port, timeout=self._timeout)
        self._group: Any
        if device.type == "cpu":
            self._group = dist.ProcessGroupGloo(store, rank, meeting.world_size, self._timeout)
        else:
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = self._timeout
            self._group = dist.ProcessGroupNCCL(store, rank, meeting.world_size, options)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's values of `tensor`, in place.

        Raises:
            TransferBroken: some rank cannot take part.
        """
        options = dist.BroadcastOptions()
        options.rootRank = 0
        try:
            self._group.broadcast([tensor], options).wait(self._timeout)
        except RuntimeError as error:
            raise TransferBroken(str(error)) from error
        return tensor

    def abort(self) -> None:
        """Ends the group. A gloo broadcast under way still waits for its time limit, or for the other rank's death."""
        self._group.abort()


class Sender:
    """The trainer's end.

    Args:
        host: this process's address, for the other ranks.
        receivers: processes of all engines.
        timeout: seconds one rank waits for the others.
    """

    def __init__(self, host: str, receivers: int, timeout: float):
        world_size = 1 + receivers
        self._store = dist.TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
        self.meeting = Meeting(host, self._store.port, world_size, timeout)
        self._group: Group | None = None

    def join(self, device_type: str) -> None:
        """Meets the engines, whose tensors are on devices of this type.

        Raises:
            BackendFailed: this process has no such device.
            RuntimeError: an engine did not come.
        """
        self._group = Group(self.meeting, 0, _own_device(device_type), self._store)

    def send(self, named_tensors: Iterable[tuple[str, Tensor]]) -> dict[str, TensorEntry]:
        """Sends tensors, each read before the next is asked for; what was sent, by name.

        Raises:
            TransferBroken: an engine went away.
            Exception: what reading the tensors raises; the engines take what came before for all there is.
        """
        assert self._group is not None
        entries: dict[str, TensorEntry] = {}
        bucket = _Bucket(self._group)
        try:
            for name, tensor in named_tensors:
                tensor = tensor.detach().to(self._group.device).contiguous()
                entries[name] = describe(tensor)
                bucket.add(name, entries[name], tensor)
            bucket.flush()
        except TransferBroken:
            raise
        except Exception:
            _send_header(self._group, [])
            raise
        _send_header(self._group, [])
        return entries

    def abort(self) -> None:
        """Ends the group; see `Group.abort`."""
        if self._group is not None:
            self._group.abort()


class _Bucket:
    def __init__(self, group: Group):
        self._group = group
        self._data = torch.empty(BUCKET, dtype=torch.uint8, device=group.device)
        self._header: Header = []
        self._used = 0

    def add(self, name: str, entry: TensorEntry, tensor: Tensor) -> None:
        if self._used + tensor.nbytes > BUCKET:
            self.flush()
        line = (name, entry.dtype, list(entry.shape))
        data = tensor.view(-1).view(torch.uint8)
        if len(data) > BUCKET:
            _send_header(self._group, [line])
            self._group.broadcast(data)
            return
        self._data[self._used : self._used + len(data)] = data
        self._header.append(line)
        self._used = _aligned(self._used + len(data))

    def flush(self) -> None:
        if self._header:
            _send_header(self._group, self._header)
            self._group.broadcast(self._data[: _length(self._header)])
            self._header, self._used = [], 0


def receive(group: Group, entries: dict[str, TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) as rank 0 sends them, on this rank's device; each stays valid.

    Args:
        group: this rank's end.
        entries: filled with `describe` of each tensor that arrived, by name.

    Raises:
        TransferBroken: rank 0 or another rank went away.
    """
    while header := _receive_header(group):
        data = group.broadcast(torch.empty(_length(header), dtype=torch.uint8, device=group.device))
        for name, tensor in _unpacked(header, data):
            entries[name] = describe(tensor)
            yield name, tensor


def _send_header(group: Group, header: Header) -> None:
    text = json.dumps(header).encode() if header else b""
    group.broadcast(torch.tensor([len(text)], device=group.device))
    if text:
        group.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8).to(group.device))


def _receive_header(group: Group) -> Header:
    length = int(group.broadcast(torch.zeros(1, dtype=torch.int64, device=group.device)))
    if not length:
        return []
    text = group.broadcast(torch.empty(length, dtype=torch.uint8, device=group.device))
    return json.loads(bytes(text.cpu().numpy()))


def _unpacked(header: Header, data: Tensor) -> Iterator[tuple[str, Tensor]]:
    start = 0
    for name, dtype, shape in header:
        end = start + _nbytes(dtype, shape)
        yield name, data[start:end].view(getattr(torch, dtype)).view(shape)
        start = _aligned(end)


def _length(header: Header) -> int:
    """Bytes of a bucket, up to the end of its last tensor."""
    start = end = 0
    for _, dtype, shape in header:
        end = start + _nbytes(dtype, shape)
        start = _aligned(end)
    return end


def _nbytes(dtype: str, shape: list[int]) -> int:
    return math.prod(shape) * getattr(torch, dtype).itemsize


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _own_device(device_type: str) -> torch.device:
    if device_type == "cpu":
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or accelerator.type != device_type:
        raise BackendFailed(
            f"weights cannot be broadcast to engines on {device_type}",
            reason=f"this process computes on {accelerator or 'cpu'}",
            remedy="train on a GPU too, or send weights through Ray's object store",
        )
    return torch.device(device_type, torch.accelerator.current_device_index())
