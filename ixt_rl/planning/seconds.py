"""Seconds of an update by phase: the ledger's FLOPs over what a device reaches; sampling by what it reads.

    passes      FLOPs of the phase / (devices x FLOP/s x efficiency)
    sampling    tokens of a row x max(bytes read / (bytes/s x efficiency), FLOPs of a token / (FLOP/s x efficiency))

A step of sampling reads the weights once, and the keys and values of all rows that are sampled at once. Attention's
quadratic term is left out, as in the ledger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ixt_rl.ledger import Ledger, ModelSize
from ixt_rl.planning.devices import Device
from ixt_rl.planning.shapes import ModelShape

PYTHON_STEP = 7e-4
"""Seconds a layer and step that an engine spends between its kernels where nothing is compiled (on a GPU)."""

_AGAIN = 2  # FLOPs a parameter and token of the forward pass that gradient checkpointing repeats


@dataclass(frozen=True)
class Sampler:
    """What samples.

    Args:
        shape: of the model.
        device: one of those that it is split over, or of those that each have one.
        numbers: bytes of weights, keys and values.
        rows: sampled at once on one engine.
        devices: of one engine.
        engines: how many.
        compiled: no Python between the kernels of a step.
    """

    shape: ModelShape
    device: Device
    numbers: int = 2
    rows: int = 256
    devices: int = 1
    engines: int = 1
    compiled: bool = True


def step_seconds(sampler: Sampler, rows: int, context: float) -> float:
    """Seconds in which one engine makes a token of each of `rows` rows, behind `context` tokens each."""
    shape, device, reach = sampler.shape, sampler.device, sampler.device.efficiency
    read = sampler.numbers * shape.active + rows * context * shape.kv_bytes(sampler.numbers)
    reading = read / (sampler.devices * device.bandwidth * reach.decode)
    computing = 2 * shape.active * rows / (sampler.devices * device.flops[sampler.numbers] * reach.step)
    waiting = 0.0 if sampler.compiled or device.cpu else PYTHON_STEP * shape.layers
    return max(reading, computing, waiting)


def tokens_per_second(sampler: Sampler, prompt: int, new: int) -> float:
    """Tokens a second that all engines sample together while each has all its rows."""
    return sampler.engines * sampler.rows / step_seconds(sampler, sampler.rows, prompt + new / 2)


def sampling_seconds(sampler: Sampler, rollouts: int, prompt: int, new: int) -> float:
    """Seconds until `rollouts` rows of `new` tokens behind `prompt` ones are sampled."""
    each = math.ceil(rollouts / sampler.engines)
    waves = math.ceil(each / sampler.rows)
    rows = math.ceil(each / waves)
    return waves * new * step_seconds(sampler, rows, prompt + new / 2)


def pass_seconds(
    tokens: dict[str, int], size: ModelSize, device: Device, devices: int, numbers: int, again: bool
) -> dict[str, float]:
    """Seconds of the passes of an update, by the ledger's phases.

    Args:
        tokens: by phase, of all devices together.
        again: activations are checkpointed, so that `train` has a second forward pass (which the ledger leaves out).
    """
    ledger = Ledger(size)
    for phase, count in tokens.items():
        ledger.add(phase, count)
    speed, reach = devices * device.flops[numbers], device.efficiency
    found: dict[str, float] = {}
    for phase, count in tokens.items():
        share = reach.train if phase == "train" else reach.forward
        flops = ledger.flops(phase)  # type: ignore[arg-type]
        flops += _AGAIN * size.active * count if again and phase == "train" else 0
        found[phase] = flops / (speed * share)
    return found
