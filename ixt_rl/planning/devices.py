"""Devices: their memory, what they compute and read in a second, and how much of that a phase reaches."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Literal

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.threads import usable_cores

GIB = 2**30

Strategy = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]


@dataclass(frozen=True)
class Efficiency:
    """Share of a device's peak that a phase reaches; what time is estimated with.

    Args:
        train: of FLOP/s, forward and backward.
        forward: of FLOP/s, passes without gradient and prefill.
        decode: of bytes/s, sampling token by token.
        step: of FLOP/s, sampling token by token.
        judge: of FLOP/s, of a judge or rewriter that reads and writes.
    """

    train: float = 0.40
    forward: float = 0.50
    decode: float = 0.60
    step: float = 0.50
    judge: float = 0.20


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        name: what the user calls it.
        memory: bytes.
        flops: FLOP/s of dense products by bytes of a number, {2: half precision, 4: float32}.
        bandwidth: bytes/s of its memory.
        process: bytes that a process takes before it has a model.
        cpu: no device of its own: what the process takes is main memory.
    """

    name: str
    memory: float
    flops: dict[int, float]
    bandwidth: float
    process: float = 0.8 * GIB
    cpu: bool = False
    efficiency: Efficiency = Efficiency()


def _gpu(name: str, gigabytes: float, half: float, single: float, bandwidth: float) -> Device:
    return Device(name, gigabytes * GIB, {2: half * 1e12, 4: single * 1e12}, bandwidth * 1e9)


GPUS = {
    device.name: device
    for device in (  # GiB as drivers report them, dense TFLOP/s of bf16 (T4: fp16) and float32, GB/s
        _gpu("H100", 79.1, 989, 67, 3350),
        _gpu("H200", 139.8, 989, 67, 4800),
        _gpu("B200", 178.4, 2250, 80, 8000),
        _gpu("A100", 79.1, 312, 19.5, 2039),
        _gpu("A100-40", 39.4, 312, 19.5, 1555),
        _gpu("L40S", 44.5, 362, 91.6, 864),
        _gpu("A10", 22.1, 125, 31.2, 600),
        _gpu("RTX4090", 23.5, 165, 82.6, 1008),
        _gpu("T4", 14.6, 65, 8.1, 320),
    )
}
"""Vendors' data sheets, without sparsity."""

_CORE_FLOPS, _CORE_BANDWIDTH = 1.5e11, 6e9
"""float32 products and reading of one core with AVX-512; older cores do a third of it."""

_CPU_EFFICIENCY = Efficiency(train=0.45, forward=0.45, step=0.28)


@dataclass(frozen=True)
class Machine:
    """Devices of one kind, and how training is laid over them.

    Args:
        device: one of them.
        count: how many.
        strategy: what each training rank holds; with one rank all strategies are one.
        offload: what the strategy shares lies in the host's memory (weights: of zero3 and fsdp2).
    """

    device: Device
    count: int = 1
    strategy: Strategy = "ddp"
    offload: bool = False

    def with_ranks(self, count: int) -> Machine:
        return replace(self, count=count)

    @property
    def described(self) -> str:
        """`H100x8, zero3, offloaded`."""
        if self.count == 1:
            return self.device.name
        how = f"{self.strategy}, offloaded" if self.offload else self.strategy
        return (
            f"{self.count} ranks of {self.device.name}, {how}"
            if self.device.cpu
            else f"{self.device.name}x{self.count}, {how}"
        )


def machine(text: str | None, strategy: Strategy = "ddp", offload: bool = False, ranks: int = 1) -> Machine:
    """`H100x8` -> eight of them; None -> this machine's cores and memory, divided by the ranks.

    Raises:
        ConfigError: no such GPU is known.
    """
    if text is None:
        return Machine(this_cpu(ranks), ranks, strategy, offload)
    match = re.fullmatch(r"(.+?)(?:x(\d{1,4}))?", text.strip())
    names = {name.upper(): name for name in GPUS}
    name = match[1].upper() if match else ""
    if match is None or name not in names or match[2] == "0":
        raise ConfigError(
            f"--gpus {text}",
            reason="no such GPU is known",
            remedy=did_you_mean(name, list(names)) + f"write NAME or NAMExCOUNT, such as H100x8; {', '.join(GPUS)}",
        )
    return Machine(GPUS[names[name]], int(match[2] or 1), strategy, offload)


def this_cpu(ranks: int = 1) -> Device:
    """A rank's part of this machine's cores and memory, as a device."""
    cores = usable_cores() / ranks
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / ranks
    flops = {2: 2 * _CORE_FLOPS * cores, 4: _CORE_FLOPS * cores}
    return Device(
        f"{cores:g} CPU core{'' if cores == 1 else 's'}",
        memory,
        flops,
        _CORE_BANDWIDTH * cores,
        0.6 * GIB,
        True,
        _CPU_EFFICIENCY,
    )
