"""Two CPU processes over gloo: gradients under DDP, FSDP2 and ZeRO-3 equal those of one process on the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ixt_rl.backends import is_installed
from ixt_rl.kernels import Head, IntroSpec, intro_loss, selected_logprobs
from tests.unit.distributed import end_rank, run_ranks, zero3_engine

RANKS, ROWS, VOCAB = 2, 12, 70


class Model(nn.Module):
    """Body and head; the losses are called inside forward, where the wrappers' hooks fire."""

    def __init__(self, loss: str = "both"):
        super().__init__()
        torch.manual_seed(0)
        self.loss = loss
        self.body = nn.Linear(8, 6)
        self.lm_head = nn.Linear(6, VOCAB)

    def forward(self, x, x_posterior, tokens, weights):
        head = Head(self.lm_head.weight, self.lm_head.bias)
        with torch.no_grad():
            posterior_hidden = torch.tanh(self.body(x_posterior))
        hidden = torch.tanh(self.body(x))
        total = 0.0
        if self.loss in ("both", "intro"):
            loss, _ = intro_loss(hidden, posterior_hidden, head, tokens, weights, IntroSpec("exact"))
            total = total + loss
        if self.loss in ("both", "logprobs"):
            logp, entropy = selected_logprobs(hidden, head, tokens, entropy=True)
            total = total + (weights * (0.5 * logp + 0.1 * entropy)).sum()
        return total


def batch():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 8, generator=g)
    return (
        x,
        x + torch.randn(ROWS, 8, generator=g),
        torch.randint(VOCAB, (ROWS,), generator=g),
        torch.rand(ROWS, generator=g),
    )


def my_half():
    rank = torch.distributed.get_rank()
    half = slice(rank * ROWS // RANKS, (rank + 1) * ROWS // RANKS)
    return [x[half] for x in batch()]


def single_process(loss: str = "both") -> Model:
    """The model in one process, with the gradients of the whole batch."""
    model = Model(loss)
    (model(*batch()) / RANKS).backward()
    return model


def worker(mode: str) -> None:
    """One rank: its half of the batch, gradients gathered, compared with one process (whose sum is RANKS x mean)."""
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    model = Model()
    if mode == "ddp":
        run = nn.parallel.DistributedDataParallel(model)
    else:
        mesh = torch.distributed.init_device_mesh("cpu", (RANKS,))
        if mode == "fsdp2, head apart":
            fully_shard(model.lm_head, mesh=mesh)
        run = fully_shard(model, mesh=mesh)
    run(*my_half()).backward()
    for (name, mine), theirs in zip(model.named_parameters(), single_process().parameters(), strict=True):
        grad = mine.grad.full_tensor() if hasattr(mine.grad, "full_tensor") else mine.grad
        torch.testing.assert_close(grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    print(f"{mode}: gradients equal", flush=True)
    end_rank()


def zero3_worker() -> None:
    """The same under DeepSpeed ZeRO-3, every parameter partitioned, for each loss alone and for both on one head."""
    torch.set_num_threads(1)
    for loss in ("intro", "logprobs", "both"):
        compare_zero3(loss)
        print(f"{loss}: gradients equal", flush=True)
    end_rank()


def compare_zero3(loss: str) -> None:
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
    from deepspeed.utils import safe_get_full_grad

    model = Model(loss)
    engine = zero3_engine(model, torch.optim.SGD(model.parameters(), lr=0.1), rows=ROWS // RANKS)
    single = single_process(loss)
    for _ in range(3):  # from the second step on, DeepSpeed prefetches along the trace of the first
        assert all(p.ds_status == ZeroParamStatus.NOT_AVAILABLE for p in model.parameters())
        mine = engine(*my_half())
        engine.backward(mine)
        whole = mine.detach().clone()
        torch.distributed.all_reduce(whole)
        torch.testing.assert_close(whole, single(*batch()).detach(), rtol=1e-5, atol=1e-5)
        for (name, parameter), theirs in zip(model.named_parameters(), single.parameters(), strict=True):
            grad = safe_get_full_grad(parameter)
            torch.testing.assert_close(grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        engine.step()
        torch.optim.SGD(single.parameters(), lr=0.1).step()
        single.zero_grad()
        (single(*batch()) / RANKS).backward()


LONG = pytest.mark.long("tests/unit/kernels/test_distributed.py::test_gradients_equal_one_process")


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param("ddp", marks=LONG), "fsdp2", "fsdp2, head apart"])
def test_gradients_equal_one_process(mode):
    outputs = run_ranks(__name__, f"worker({mode!r})", RANKS)
    assert all(f"{mode}: gradients equal" in output for output in outputs)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("deepspeed"), reason="DeepSpeed is not installed")
def test_gradients_under_zero3_equal_one_process():
    for output in run_ranks(__name__, "zero3_worker()", RANKS):
        assert output.count("gradients equal") == 3
