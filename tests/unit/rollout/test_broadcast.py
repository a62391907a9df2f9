"""Weights in shared memory and by gloo; receivers are threads of this process, where they need not be others."""

from __future__ import annotations

import inspect
import json
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
import torch
from torch.multiprocessing import reductions

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.weights import broadcast
from ixt_rl.rollout.weights.broadcast import Meeting, Sender, TransferBroken, TransferGroup, receive
from ixt_rl.rollout.weights.manifest import TensorEntry
from ixt_rl.rollout.weights.shared_memory import Shared, attach

CPU = torch.device("cpu")
HERE, THERE = "the trainer's node", "another node"
NEAR, FAR = [HERE, HERE], [THERE, THERE]
LIMIT = 200.0  # seconds; to start a process may take many where others compute


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(broadcast, "BUCKET", 4096)


def tensors() -> dict[str, torch.Tensor]:
    """More than a bucket in all, one tensor larger than it, and whatever else could go wrong."""
    torch.manual_seed(0)
    return {
        "odd length": torch.randn(3, 5).half(),
        "empty": torch.empty(0, 4),
        "a number": torch.tensor(3.0),
        "half a bucket": torch.randn(25, 40).bfloat16(),
        "another half": torch.randn(25, 45).bfloat16(),
        "integers": torch.arange(7),
        "large": torch.randn(100, 100),
        "transposed": torch.randn(6, 9).t(),
        "bytes": torch.randint(256, (11,), dtype=torch.uint8),
        "the last": torch.randn(4, dtype=torch.float64),
    }


def meet(nodes: list[str], updates: int) -> tuple[Sender, list[Future]]:
    """A sender, and for a receiver on each of the nodes: what arrived in each update, and its description."""
    sender = Sender("127.0.0.1", HERE, len(nodes), LIMIT)
    threads = ThreadPoolExecutor(len(nodes))
    futures = [threads.submit(_received, sender.meeting, rank, node, updates) for rank, node in enumerate(nodes, 1)]
    sender.join("cpu")
    return sender, futures


def _received(meeting: Meeting, rank: int, node: str, updates: int) -> list[tuple[dict, dict]]:
    group = TransferGroup(meeting, rank, CPU, node)
    assert (rank in group.near) == (node == HERE)
    described: list[dict] = [{} for _ in range(updates)]
    return [(dict(receive(group, entries)), entries) for entries in described]


@pytest.mark.parametrize("nodes", [NEAR, FAR, [THERE, HERE], [HERE, THERE, THERE]])
def test_every_receiver_gets_every_tensor_of_every_update(nodes):
    sender, receivers = meet(nodes, updates=2)
    updates = [tensors(), {name: tensor + 1 for name, tensor in tensors().items()}]
    sent = [sender.send(update.items()) for update in updates]
    for receiver in receivers:
        for update, entries, (got, seen) in zip(updates, sent, receiver.result(60), strict=True):
            assert seen == entries
            assert list(got) == list(update)
            for name, tensor in got.items():
                assert tensor.dtype == update[name].dtype
                assert torch.equal(tensor, update[name]), name


@pytest.mark.parametrize("node", [HERE, THERE])
def test_a_tensor_may_change_once_it_was_read(node):
    """As gathered parameters do, whose memory the next one takes."""
    sender, (receiver,) = meet([node], updates=1)
    memory = torch.empty(4)
    sender.send((str(value), memory.fill_(value)) for value in range(5))
    ((got, _),) = receiver.result(60)
    assert {name: tensor.tolist() for name, tensor in got.items()} == {str(value): [value] * 4 for value in range(5)}


@pytest.mark.parametrize("node", [HERE, THERE])
def test_an_error_of_the_tensors_ends_the_weights(node):
    def broken():
        yield "first", torch.zeros(5000)
        raise ValueError("no second")

    sender, (receiver,) = meet([node], updates=2)
    with pytest.raises(ValueError, match="no second"):
        sender.send(broken())
    sender.send(tensors().items())
    (first, _), (second, _) = receiver.result(60)
    assert list(first) == ["first"]
    assert list(second) == list(tensors())


def test_shared_memory_ends_with_the_group():
    sender, receivers = meet(NEAR, updates=1)
    sender.send(tensors().items())
    assert "memfd:ixt-rl" in mapped()
    for receiver in receivers:
        receiver.result(60)
    sender.abort()
    assert "memfd:ixt-rl" not in mapped()


def mapped() -> str:
    return Path("/proc/self/maps").read_text()


def describe_all(meeting: Meeting, device: str, out: Connection) -> None:
    entries: dict[str, TensorEntry] = {}
    group = TransferGroup(meeting, 1, torch.device(device), HERE)
    for _ in receive(group, entries):
        pass
    out.send((group.near, entries))


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda:0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_another_process_reads_what_it_shares(device):
    sender = Sender("127.0.0.1", HERE, 1, LIMIT)
    answer, out = Pipe()
    process = get_context("spawn").Process(target=describe_all, args=(sender.meeting, device, out), daemon=True)
    process.start()
    sender.join(torch.device(device).type)
    sent = sender.send(tensors().items())
    assert answer.recv() == ([1], sent)
    process.join(60)
    sender.abort()


def die(meeting: Meeting, node: str) -> None:
    next(receive(TransferGroup(meeting, 1, CPU, node), {}))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("node", [HERE, THERE])
def test_a_receiver_that_dies_is_noticed(node):
    sender = Sender("127.0.0.1", HERE, 1, LIMIT)
    process = get_context("spawn").Process(target=die, args=(sender.meeting, node), daemon=True)
    process.start()
    sender.join("cpu")
    with pytest.raises(TransferBroken):
        for _ in range(100):  # the sockets of a dead process take some more
            sender.send(tensors().items())
    process.join(60)
    sender.abort()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this process has an accelerator")
def test_engines_on_gpus_need_a_trainer_on_one():
    with pytest.raises(BackendFailed, match="engines on cuda"):
        Sender("127.0.0.1", HERE, 1, LIMIT).join("cuda")


@pytest.mark.parametrize("nodes", [NEAR, FAR])
def test_ranks_of_one_machine_open_no_port_beyond_it(nodes):
    before = listening()
    sender, receivers = meet(nodes, updates=1)
    opened = listening() - before
    sender.send(tensors().items())
    for receiver in receivers:
        receiver.result(60)
    assert opened and {address for address, _ in opened} == {"127.0.0.1"}
    folder = Path(sender.meeting.file).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    sender.abort()
    assert not folder.exists()


def test_ranks_of_several_machines_meet_at_the_address_that_was_named():
    address = "127.0.0.2"  # stands for a machine's own
    before = listening()
    sender = Sender(address, HERE, 1, LIMIT)
    assert listening() - before == {(address, sender.meeting.port)}
    with ThreadPoolExecutor(1) as threads:
        receiver = threads.submit(_received, sender.meeting, 1, HERE, 1)
        sender.join("cpu")
        sender.send(tensors().items())
        receiver.result(60)
    sender.abort()


def listening() -> set[tuple[str, int]]:
    connections = psutil.Process().net_connections("inet")
    return {tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("handle", ["/etc/passwd", "/proc/self/mem", "/proc/1/fd/3/../../mem", "", "[1]"])
def test_what_is_no_handle_is_not_opened(handle):
    with pytest.raises(ValueError, match="no handle"):
        attach(handle, 16, CPU)


def test_a_handle_of_a_gpu_is_data(monkeypatch):
    """Sent as JSON, and rebuilt by torch's own function, whose arguments are those that are counted on."""
    names = list(inspect.signature(reductions.rebuild_cuda_tensor).parameters)
    sent = [b"handle", 64, 8, b"counter", 2, b"event", True]
    given = [torch.Tensor, torch.Size([16]), (1,), 4, torch.storage.TypedStorage, torch.uint8, 5, *sent[:3], False]
    given += sent[3:]
    assert names == ARGUMENTS
    shared = Shared(16, torch.device("meta"))
    monkeypatch.setattr(reductions, "reduce_tensor", lambda tensor: (reductions.rebuild_cuda_tensor, tuple(given)))
    handle = shared.handle()
    assert isinstance(json.loads(handle), list)
    monkeypatch.setattr(reductions, "rebuild_cuda_tensor", lambda *arguments: arguments)
    given[6] = 1  # the same GPU under this process's number
    assert attach(handle, 16, torch.device("cuda:1")) == tuple(given)


ARGUMENTS = [
    "tensor_cls", "tensor_size", "tensor_stride", "tensor_offset", "storage_cls", "dtype", "storage_device",
    "storage_handle", "storage_size_bytes", "storage_offset_bytes", "requires_grad", "ref_counter_handle",
    "ref_counter_offset", "event_handle", "event_sync_required",
]  # fmt: skip


def test_gloo_takes_the_interface_that_it_is_told(monkeypatch):
    """As it does in torch's own groups; on one machine it stays on loopback."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "none0")
    with pytest.raises(RuntimeError, match="none0"):
        Sender("127.0.0.2", HERE, 1, LIMIT).join("cpu")
    assert broadcast._gloo_device(torch.distributed.ProcessGroupGloo, "127.0.0.1") is not None
