"""The nearest change that makes a stage fit: first what changes no result, then more devices, then another training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ixt_rl.blocks.model import LoraBlock
from ixt_rl.config.schema import RunConfig
from ixt_rl.config.strategies import SHARDED
from ixt_rl.errors import ConfigError
from ixt_rl.planning.devices import Machine, Strategy
from ixt_rl.planning.plan import StagePlan, plan_stage
from ixt_rl.planning.shapes import shape_of
from ixt_rl.planning.work import Assumed

_MOST_DEVICES = 64
_GPU_MEMORY = (0.5, 0.4, 0.3, 0.2)
_WHOLE = 0.9  # of a device that an engine has alone


@dataclass(frozen=True)
class Change:
    """What to write or to ask for.

    Args:
        words: overrides of the run file, and options of the command.
        plan: of the stage, with them.
    """

    words: tuple[str, ...]
    plan: StagePlan


@dataclass(frozen=True)
class _Try:
    words: tuple[str, ...]
    config: RunConfig
    machine: Machine


def nearest(config: RunConfig, index: int, machine: Machine, assumed: Assumed = Assumed()) -> Change | None:  # noqa: B008
    """The first change, in the order of this file's head, with which a stage fits; None if none of them does.

    Args:
        index: of the stage in the run.
    """
    for one in _changes(config, index, machine):
        try:
            plan = plan_stage(one.config, index, one.machine, assumed)
        except ConfigError:  # no device is left to train on
            continue
        if plan.planned and not plan.misfits:
            return Change(one.words, plan)
    return None


def _changes(config: RunConfig, index: int, machine: Machine) -> Iterator[_Try]:
    start = _Try((), config, machine)
    yield from _in_place(start, index)
    for one in _devices(machine):
        more = _Try(_asked(one, machine), config, one)
        yield from _in_place(more, index)
        if config.engine.type == "vllm":
            whole = config.engine.vllm.model_copy(update={"gpu_memory": _WHOLE})
            apart = config.engine.model_copy(update={"type": "ray-vllm", "vllm": whole})
            words = (*more.words, "engine.type=ray-vllm", f"engine.vllm.gpu_memory={_WHOLE}")
            yield from _in_place(_Try(words, config.model_copy(update={"engine": apart}), one), index)
    if getattr(config.stages[index], "lora", LoraBlock) is None:
        with_lora = _with(start, index, "lora", LoraBlock.model_construct(), "lora={r: 16}")
        yield from _in_place(with_lora, index)
        if machine.strategy not in SHARDED and not shape_of(config.model).experts:
            packed = _with(start, index, "lora", LoraBlock.model_construct(quantize="nf4"), "lora={quantize: nf4}")
            yield from _in_place(packed, index)


def _in_place(at: _Try, index: int) -> Iterator[_Try]:
    """As it is, smaller micro-batches, checkpointed activations, both; each also with less for what samples."""
    tried = [*_smaller(at, index)]
    stage = at.config.stages[index]
    if getattr(stage, "gradient_checkpointing", None) is False:
        again = _with(at, index, "gradient_checkpointing", True, "gradient_checkpointing=true")
        tried += [again, *_smaller(again, index)]
    for one in [at, *tried]:
        yield one
        yield from _smaller_engine(one, index)


def _smaller(at: _Try, index: int) -> Iterator[_Try]:
    stage: Any = at.config.stages[index]
    whole = getattr(stage, "rollouts_per_step", None) or stage.batch_size
    if "micro_batch_size" not in type(stage).model_fields:
        return
    now = stage.micro_batch_size or whole
    for size in sorted((size for size in range(1, now) if whole % size == 0), reverse=True):
        yield _with(at, index, "micro_batch_size", size, f"micro_batch_size={size}")


def _smaller_engine(at: _Try, index: int) -> Iterator[_Try]:
    """Less memory for what samples in the process."""
    engine, sampling = at.config.engine, getattr(at.config.stages[index], "sampling", None)
    if sampling is None:
        return
    if engine.type == "transformers":
        rows = sampling.batch_size // 2
        while rows >= 1:
            fewer = sampling.model_copy(update={"batch_size": rows})
            yield _with(at, index, "sampling", fewer, f"sampling.batch_size={rows}")
            rows //= 2
    elif not at.machine.device.cpu:
        for share in (share for share in _GPU_MEMORY if share < engine.vllm.gpu_memory):
            vllm = engine.vllm.model_copy(update={"gpu_memory": share})
            config = at.config.model_copy(update={"engine": engine.model_copy(update={"vllm": vllm})})
            yield _Try((*at.words, f"engine.vllm.gpu_memory={share}"), config, at.machine)


def _devices(machine: Machine) -> Iterator[Machine]:
    """The same devices with what is shared more, then more of them."""
    if machine.device.cpu:
        return
    strategies: tuple[Strategy, ...] = ("zero2", "zero3")
    if machine.count > 1:
        yield from (replace(machine, strategy=strategy) for strategy in strategies if strategy != machine.strategy)
    count = 2 * machine.count
    while count <= _MOST_DEVICES:
        yield from (replace(machine, count=count, strategy=strategy) for strategy in strategies)
        count *= 2


def _asked(new: Machine, old: Machine) -> tuple[str, ...]:
    gpus = () if new.count == old.count else (f"--gpus {new.device.name}x{new.count}",)
    return (*gpus, f"--strategy {new.strategy}")


def _with(at: _Try, index: int, key: str, value: Any, words: str) -> _Try:
    stages = [*at.config.stages]
    stages[index] = stages[index].model_copy(update={key: value})
    said = f"stages.{stages[index].name}.{words}"
    return _Try((*at.words, said), at.config.model_copy(update={"stages": stages}), at.machine)
