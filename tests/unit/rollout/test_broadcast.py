"""Weights broadcast between processes of this machine by gloo."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout import broadcast
from ixt_rl.rollout.broadcast import Group, Meeting, Sender, TransferBroken, receive

CPU = torch.device("cpu")


def tensors() -> dict[str, torch.Tensor]:
    """More than a bucket of 4 KiB in all, one tensor larger than it, and whatever else could go wrong."""
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


def keep(meeting: Meeting, rank: int, folder: str, rounds: int) -> None:
    """A receiver that writes what it gets."""
    group = Group(meeting, rank, CPU)
    for number in range(rounds):
        entries: dict = {}
        got = list(receive(group, entries))  # kept until all are there: they must stay valid
        got = [(name, tensor.clone()) for name, tensor in got]
        torch.save((got, entries), f"{folder}/{rank}-{number}.pt")


def die(meeting: Meeting, rank: int) -> None:
    stream = receive(Group(meeting, rank, CPU), {})
    next(stream)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(broadcast, "BUCKET", 4096)


def start(target, *args):
    process = get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    return process


def test_every_receiver_gets_every_tensor_of_every_update(tmp_path: Path):
    sender = Sender("127.0.0.1", 2, 60.0)
    processes = [start(keep, sender.meeting, rank, str(tmp_path), 2) for rank in (1, 2)]
    sender.join("cpu")
    sent = tensors()
    first = sender.send(sent.items())
    changed = {name: tensor + 1 for name, tensor in sent.items()}
    second = sender.send(changed.items())
    for process in processes:
        process.join(60)
    for rank in (1, 2):
        for number, (want, entries) in enumerate(((sent, first), (changed, second))):
            got, seen = torch.load(tmp_path / f"{rank}-{number}.pt", weights_only=False)
            assert seen == entries
            assert [name for name, _ in got] == list(want)
            for name, tensor in got:
                assert tensor.dtype == want[name].dtype
                assert torch.equal(tensor, want[name]), name


def test_a_tensor_may_change_once_it_was_read(tmp_path: Path):
    """As gathered parameters do, whose memory the next one takes."""
    sender = Sender("127.0.0.1", 1, 60.0)
    process = start(keep, sender.meeting, 1, str(tmp_path), 1)
    sender.join("cpu")
    memory = torch.empty(4)

    def one_memory():
        for value in range(5):
            yield str(value), memory.fill_(value)

    sender.send(one_memory())
    process.join(60)
    got, _ = torch.load(tmp_path / "1-0.pt", weights_only=False)
    assert [tensor.tolist() for _, tensor in got] == [[value] * 4 for value in range(5)]


def test_an_error_of_the_tensors_ends_the_weights(tmp_path: Path):
    sender = Sender("127.0.0.1", 1, 60.0)
    process = start(keep, sender.meeting, 1, str(tmp_path), 2)
    sender.join("cpu")

    def broken():
        yield "first", torch.zeros(5000)
        raise ValueError("no second")

    with pytest.raises(ValueError, match="no second"):
        sender.send(broken())
    sender.send(tensors().items())
    process.join(60)
    assert [name for name, _ in torch.load(tmp_path / "1-0.pt", weights_only=False)[0]] == ["first"]
    assert len(torch.load(tmp_path / "1-1.pt", weights_only=False)[0]) == len(tensors())


def test_a_receiver_that_dies_is_noticed():
    sender = Sender("127.0.0.1", 1, 60.0)
    process = start(die, sender.meeting, 1)
    sender.join("cpu")
    with pytest.raises(TransferBroken):
        for _ in range(100):  # the sockets of a dead process take some more
            sender.send(tensors().items())
    process.join(60)
    sender.abort()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this process has an accelerator")
def test_engines_on_gpus_need_a_trainer_on_one():
    with pytest.raises(BackendFailed, match="engines on cuda"):
        Sender("127.0.0.1", 1, 60.0).join("cuda")
