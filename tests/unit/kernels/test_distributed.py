"""Two CPU processes over gloo: gradients under DDP and FSDP2 equal those of one process on the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ixt_rl.kernels import Head, IntroSpec, intro_loss, selected_logprobs

RANKS, ROWS, VOCAB = 2, 12, 70
ROOT = Path(__file__).resolve().parents[3]


class Model(nn.Module):
    """Body and head; the losses are called inside forward, where the wrappers' hooks fire."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 6)
        self.lm_head = nn.Linear(6, VOCAB)

    def forward(self, x, x_posterior, tokens, weights):
        head = Head(self.lm_head.weight, self.lm_head.bias)
        with torch.no_grad():
            posterior_hidden = torch.tanh(self.body(x_posterior))
        hidden = torch.tanh(self.body(x))
        loss, _ = intro_loss(hidden, posterior_hidden, head, tokens, weights, IntroSpec("exact"))
        logp, entropy = selected_logprobs(hidden, head, tokens, entropy=True)
        return loss + (weights * (0.5 * logp + 0.1 * entropy)).sum()


def batch():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 8, generator=g)
    return (
        x,
        x + torch.randn(ROWS, 8, generator=g),
        torch.randint(VOCAB, (ROWS,), generator=g),
        torch.rand(ROWS, generator=g),
    )


def worker(mode: str) -> None:
    """One rank: its half of the batch, gradients gathered, compared with one process (whose sum is RANKS x mean)."""
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = Model()
    if mode == "ddp":
        run = nn.parallel.DistributedDataParallel(model)
    else:
        mesh = torch.distributed.init_device_mesh("cpu", (RANKS,))
        if mode == "fsdp2, head apart":
            fully_shard(model.lm_head, mesh=mesh)
        run = fully_shard(model, mesh=mesh)
    half = slice(rank * ROWS // RANKS, (rank + 1) * ROWS // RANKS)
    run(*(x[half] for x in batch())).backward()

    single = Model()
    (single(*batch()) / RANKS).backward()
    for (name, mine), theirs in zip(model.named_parameters(), single.parameters(), strict=True):
        grad = mine.grad.full_tensor() if hasattr(mine.grad, "full_tensor") else mine.grad
        torch.testing.assert_close(grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    torch.distributed.barrier()
    print(f"{mode}: gradients equal", flush=True)
    os._exit(0)  # tearing gloo down at interpreter exit now and then aborts, after all is compared


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp2", "fsdp2, head apart"])
def test_gradients_equal_one_process(mode):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-c", f"from tests.unit.kernels.test_distributed import worker; worker({mode!r})"]
    common = {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
    ranks = [
        subprocess.Popen(
            command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * RANKS, "\n".join(o[-2000:] for o in outputs)
    assert all(f"{mode}: gradients equal" in output for output in outputs)
