"""Weights by broadcast, from the trainer's device straight to those of the engines.

Rank 0 of a group of its own is the trainer's main process, the other ranks are the engines' processes; the trainer's
own groups are not touched. A rank at the trainer's place (the same GPU; on CPUs, the same node) reads what is sent in
memory that both share; to the others NCCL carries it between GPUs, gloo between CPUs. Tensors travel in buckets, each
as

    bytes of the header -> header: [[name, dtype, shape], ...] -> the tensors' bytes, each at a multiple of `ALIGNMENT`

A header of no bytes ends the weights. Headers, and the meetings of all ranks before and after a bucket's bytes, are
gloo's: a rank that has died is noticed there, whatever its device is waiting for.
"""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.weights.manifest import TensorEntry, describe
from ixt_rl.rollout.weights.shared_memory import Shared, attach, place, settle

LOOPBACK = "127.0.0.1"
BUCKET = 32 * 2**20
"""Bytes sent at once; a larger tensor takes several turns. Small enough for engines to load one while the next is
filled."""

ALIGNMENT = 64

Header = list[tuple[str, str, list[int]]]  # name, dtype, shape


class TransferBroken(Exception):
    """A rank of the group went away, or did not keep up."""


@dataclass(frozen=True)
class Meeting:
    """Where and how the ranks of a group meet.

    Args:
        host: of rank 0. Loopback says that all ranks are on one machine: they meet in a file that only their user can
            read, and open no port for it.
        port: there; 0 for a file.
        file: where ranks of one machine meet.
        world_size: ranks.
        timeout: seconds one of them waits for the others.
        bucket: bytes sent at once.
    """

    host: str
    port: int
    world_size: int
    timeout: float
    bucket: int
    file: str = ""


class TransferGroup:
    """One rank's end; blocks until all ranks are there.

    Args:
        meeting: the same for all ranks.
        rank: 0 sends.
        device: of this rank's tensors: CPUs for all ranks, or GPUs.
        node: tells this machine from those of other ranks.
        store: rank 0's own.
    """

    def __init__(self, meeting: Meeting, rank: int, device: torch.device, node: str, store: dist.Store | None = None):
        self.device = device
        store = store or _store(meeting)
        control = dist.PrefixStore("control", store)
        self._control: Any = _gloo(meeting, control, rank, meeting.world_size)
        store.set(f"place of {rank}", place(device, node) or f"only {rank}")
        places = [store.get(f"place of {each}").decode() for each in range(meeting.world_size)]
        self.near = [each for each in range(1, meeting.world_size) if places[each] == places[0]]
        """Ranks that read the bytes in memory they share with rank 0."""
        self._is_near = rank in self.near
        far = [each for each in range(meeting.world_size) if each not in self.near]
        self._far: Any = None
        if rank in far and len(far) > 1:
            self._far = _carrier(meeting, device, dist.PrefixStore("far", store), far.index(rank), len(far))
        self.bucket = torch.empty(0)
        """uint8 `[meeting.bucket]`: bytes on their way. Rank 0's, and that of the ranks that share it."""
        self._size = meeting.bucket
        if rank == 0:
            shared = Shared(meeting.bucket, device)
            for each in self.near:
                store.set(f"bucket for {each}", shared.handle())
            self.bucket = shared.data
            try:
                self._meet()
            finally:
                shared.seal()
        else:
            if self._is_near:
                self.bucket = attach(store.get(f"bucket for {rank}").decode(), meeting.bucket, device)
            self._meet()

    def send_header(self, header: Header) -> None:
        """Announces tensors; an empty header ends the weights. Rank 0's.

        Raises:
            TransferBroken: some rank cannot take part; so in all that follows.
        """
        text = json.dumps(header).encode() if header else b""
        self._broadcast(self._control, torch.tensor([len(text)]))
        if text:
            self._broadcast(self._control, torch.frombuffer(bytearray(text), dtype=torch.uint8))

    def receive_header(self) -> Header:
        """What rank 0 announces."""
        length = int(self._broadcast(self._control, torch.zeros(1, dtype=torch.int64)))
        if not length:
            return []
        return json.loads(bytes(self._broadcast(self._control, torch.empty(length, dtype=torch.uint8)).numpy()))

    def send_bucket(self, nbytes: int) -> None:
        """Sends the first bytes of `bucket`, which may be filled again afterwards. Rank 0's."""
        settle(self.device)
        self._meet()
        if self._far is not None:
            self._broadcast(self._far, self.bucket[:nbytes])
        self._meet()

    def receive(self, nbytes: int) -> Tensor:
        """What rank 0 sends, in memory of this rank's own: uint8 `[nbytes]`."""
        data = torch.empty(nbytes, dtype=torch.uint8, device=self.device)
        for part in data.split(self._size) if nbytes else ():
            self._meet()
            if self._is_near:
                part.copy_(self.bucket[: len(part)])
                settle(self.device)
            else:
                self._broadcast(self._far, part)
            self._meet()
        return data

    def abort(self) -> None:
        """Ends the group. A gloo broadcast under way still waits for its time limit, or for the other rank's death."""
        self._control.abort()
        if self._far is not None:
            self._far.abort()
        self.bucket = torch.empty(0)

    def _broadcast(self, group: Any, tensor: Tensor) -> Tensor:
        options = dist.BroadcastOptions()
        options.rootRank = 0
        _finish(group.broadcast, [tensor], options)
        return tensor

    def _meet(self) -> None:
        """All ranks are here."""
        _finish(self._control.barrier)


def _finish(collective: Callable[..., Any], *args: Any) -> None:
    try:
        collective(*args).wait()  # gloo: until done, or the group's time limit; NCCL: the device waits, not this thread
    except RuntimeError as error:
        raise TransferBroken(str(error)) from error


def _carrier(meeting: Meeting, device: torch.device, store: dist.Store, rank: int, world_size: int) -> Any:
    if device.type == "cpu":
        return _gloo(meeting, store, rank, world_size)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timedelta(seconds=meeting.timeout)
    return dist.ProcessGroupNCCL(store, rank, world_size, options)


def _gloo(meeting: Meeting, store: dist.Store, rank: int, world_size: int) -> Any:
    make: Any = dist.ProcessGroupGloo
    options = make._Options()
    options._timeout = timedelta(seconds=meeting.timeout)
    options._devices = [_gloo_device(make, meeting.host)]
    return make(store, rank, world_size, options)


def _gloo_device(make: Any, host: str) -> Any:
    """Loopback where all ranks are; else the interface that `$GLOO_SOCKET_IFNAME` names, as for torch's own groups, or
    the address that this machine's name stands for."""
    if host == LOOPBACK:
        return make.create_device(hostname=LOOPBACK)
    interface = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    return make.create_device(interface=interface) if interface else make.create_default_device()


def _store(meeting: Meeting) -> dist.Store:
    if not meeting.file:
        return dist.TCPStore(meeting.host, meeting.port, timeout=timedelta(seconds=meeting.timeout))
    store = dist.FileStore(meeting.file, meeting.world_size)
    store.set_timeout(timedelta(seconds=meeting.timeout))
    return store


class Sender:
    """The trainer's end.

    Args:
        host: this process's address, for the other ranks; loopback if they are all on this machine.
        node: tells this machine from those of other ranks.
        receivers: processes of all engines.
        timeout: seconds one rank waits for the others.
    """

    def __init__(self, host: str, node: str, receivers: int, timeout: float):
        world_size = 1 + receivers
        self._node = node
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._store: dist.Store
        if host == LOOPBACK:
            self._folder = tempfile.TemporaryDirectory(prefix="ixt-rl-")  # its mode is 0700
            self.meeting = Meeting(host, 0, world_size, timeout, BUCKET, f"{self._folder.name}/meeting")
            self._store = _store(self.meeting)
        else:
            listening = socket.create_server((host, 0))  # TCPStore alone would listen on every interface
            port = listening.getsockname()[1]
            self._store = dist.TCPStore(
                host, port, world_size, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout),
                master_listen_fd=listening.detach(),
            )  # fmt: skip
            self.meeting = Meeting(host, port, world_size, timeout, BUCKET)
        self._group: TransferGroup | None = None

    def join(self, device_type: str) -> None:
        """Meets the engines, whose tensors are on devices of this type.

        Raises:
            BackendFailed: this process has no such device.
            RuntimeError, TransferBroken: an engine did not come.
        """
        self._group = TransferGroup(self.meeting, 0, _own_device(device_type), self._node, self._store)

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
            self._group.send_header([])
            raise
        self._group.send_header([])
        return entries

    def abort(self) -> None:
        """Ends the group; see `TransferGroup.abort`."""
        if self._group is not None:
            self._group.abort()
        if self._folder is not None:
            self._folder.cleanup()


class _Bucket:
    def __init__(self, group: TransferGroup):
        self._group = group
        self._header: Header = []
        self._used = 0

    def add(self, name: str, entry: TensorEntry, tensor: Tensor) -> None:
        size = len(self._group.bucket)
        if self._used + tensor.nbytes > size:
            self.flush()
        line = (name, entry.dtype, list(entry.shape))
        data = tensor.view(-1).view(torch.uint8)
        if len(data) > size:
            self._group.send_header([line])
            for part in data.split(size):
                self._group.bucket[: len(part)] = part
                self._group.send_bucket(len(part))
            return
        self._group.bucket[self._used : self._used + len(data)] = data
        self._header.append(line)
        self._used = _aligned(self._used + len(data))

    def flush(self) -> None:
        if self._header:
            self._group.send_header(self._header)
            if length := _length(self._header):
                self._group.send_bucket(length)
            self._header, self._used = [], 0


def receive(group: TransferGroup, entries: dict[str, TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) as rank 0 sends them, on this rank's device; each stays valid.

    Args:
        group: this rank's end.
        entries: filled with `describe` of each tensor that arrived, by name.

    Raises:
        TransferBroken: rank 0 or another rank went away.
    """
    while header := group.receive_header():
        data = group.receive(_length(header))
        for name, tensor in _unpacked(header, data):
            entries[name] = describe(tensor)
            yield name, tensor


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
    accelerator = torch.accelerator.current_accelerator(check_available=True)  # a build for GPUs may have none
    if accelerator is None or accelerator.type != device_type:
        raise BackendFailed(
            f"weights cannot be broadcast to engines on {device_type}",
            reason=f"this process computes on {accelerator or 'cpu'}",
            remedy="train on a GPU too, or send weights through Ray's object store",
        )
    return torch.device(device_type, torch.accelerator.current_device_index())
