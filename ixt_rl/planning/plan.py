"""A run file on a machine: what each stage takes of a device, whether it fits, how long an update takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.config.at_odds import beyond_the_ranks
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import ConfigError
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.planning.devices import GIB, Machine
from ixt_rl.planning.memory import Part, peak, training_parts
from ixt_rl.planning.seconds import Sampler, pass_seconds, sampling_seconds
from ixt_rl.planning.shapes import ModelShape, shape_of
from ixt_rl.planning.work import Assumed, Work, numbers_of, work_of

RESERVE = 0.05
"""Share of a device's memory that fragments and workspaces take."""

_ENGINE_OVERHEAD = 1.5 * GIB  # vLLM's workspaces, CUDA graphs and longest prefill
_CPU_CACHE = 1.0  # GiB that vLLM takes on a CPU if it is not told


@dataclass(frozen=True)
class StagePlan:
    """What a stage takes.

    Args:
        name, type: of the stage.
        parts: of the memory of a training device; empty for a stage that is not planned.
        engine: of the memory of a device of its own that an engine has; empty where it has none.
        limit: bytes that a device has for them.
        ranks, devices: that train, and all.
        seconds: of an update by phase.
        sampled: tokens that are sampled for an update.
        steps: updates; None where that is not known.
        notes: what is not counted.
        misfits: what does not fit, in words.
    """

    name: str
    type: str
    parts: list[Part] = field(default_factory=list)
    engine: list[Part] = field(default_factory=list)
    limit: float = 0.0
    ranks: int = 1
    devices: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    sampled: int = 0
    steps: int | None = None
    notes: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    @property
    def planned(self) -> bool:
        return bool(self.parts)

    @property
    def peak(self) -> float:
        """Bytes of a training device at most."""
        return peak(self.parts)

    @property
    def update(self) -> float:
        """Seconds of an update."""
        return sum(self.seconds.values())

    @property
    def device_hours(self) -> float | None:
        """Hours of all devices for all updates of one seed."""
        return None if self.steps is None else self.steps * self.update * self.devices / 3600


def plan_run(config: RunConfig, machine: Machine, assumed: Assumed = Assumed()) -> list[StagePlan]:  # noqa: B008
    """A plan for each stage of a run, in its order.

    Raises:
        ConfigError: the model's shape is not known, or no device is left to train on.
    """
    return [plan_stage(config, index, machine, assumed) for index in range(len(config.stages))]


def plan_stage(config: RunConfig, index: int, machine: Machine, assumed: Assumed) -> StagePlan:
    """The plan of one stage, by its index; raises as `plan_run` does."""
    stage, device, shape = config.stages[index], machine.device, shape_of(config.model)
    work = work_of(stage, config.model, shape, assumed, device.cpu)
    if work is None or work.job is None:
        said = "it makes rows" if spec_of(stage).makes_rows else "it only measures"
        return StagePlan(stage.name, stage.type, notes=(f"not planned: {said}",))
    ranks = _training_ranks(config.engine, work, machine)
    work = work.on(ranks)
    assert work.job is not None
    parts = [
        Part("process", device.process, "always"),
        *training_parts(work.job, machine.strategy, ranks, machine.offload),
    ]
    beside: list[Part] = []
    limit = (1 - RESERVE) * device.memory
    if work.rollouts:
        inside, beside = engine_parts(config.engine, work, shape, numbers_of(config.model), machine)
        parts += inside
    found = StagePlan(
        stage.name, stage.type, parts, beside, limit, ranks, machine.count,
        _seconds(config.engine, work, shape, numbers_of(config.model), machine, ranks), work.rollouts * work.new,
        work.steps, (*work.notes, *_refused(config, stage, ranks, machine.strategy)),
    )  # fmt: skip
    return StagePlan(**{**vars(found), "misfits": _misfits(found)})


def _refused(config: RunConfig, stage: AnyStage, ranks: int, strategy: str) -> list[str]:
    """Why `ixt-rl run` would not start the stage on so many ranks; nothing where it would."""
    launch = config.launch.model_copy(update={"ranks": ranks, "strategy": strategy})
    refused = beyond_the_ranks(launch, config.engine, [stage])
    return [f"ixt-rl run would refuse {error.what}: {error.remedy}" for _, error in refused]


def _training_ranks(engine: EngineBlock, work: Work, machine: Machine) -> int:
    """Devices that train: all but those of engines of their own."""
    taken = _engine_devices(engine, machine) if work.rollouts else 0
    if machine.count <= taken:
        raise ConfigError(
            f"{machine.count} devices with engine.pool.engines={engine.pool.engines} of "
            f"tensor_parallel={engine.vllm.tensor_parallel}",
            reason=f"the engines take {taken}, and none is left to train on",
            remedy=f"plan with --gpus {machine.device.name}x{taken + 1} or more, or with fewer engines",
        )
    return machine.count - taken


def _engine_devices(engine: EngineBlock, machine: Machine) -> int:
    if engine.type != "ray-vllm" or machine.device.cpu or engine.pool.gpus_per_engine == 0:
        return 0
    return engine.pool.engines * (engine.pool.gpus_per_engine or engine.vllm.tensor_parallel)


def engine_parts(
    engine: EngineBlock, work: Work, shape: ModelShape, numbers: int, machine: Machine
) -> tuple[list[Part], list[Part]]:
    """What an engine takes of a training device, and of a device of its own.

    Args:
        numbers: bytes of its weights, keys and values.
    """
    device = machine.device
    if engine.type == "transformers":
        tokens = work.at_once(machine.count) * work.longest
        return [Part("keys and values", tokens * shape.kv_bytes(numbers), "rollout")], []
    weights = numbers * shape.parameters / engine.vllm.tensor_parallel
    if device.cpu:
        count = engine.pool.engines / machine.count if engine.type == "ray-vllm" else 1  # the ranks' memory is one
        cache = (engine.vllm.kv_cache_gib or _CPU_CACHE) * GIB
        return [
            Part("engine's process", count * (device.process + _ENGINE_OVERHEAD / 2), "always"),
            Part("engine's weights", count * weights, "always"),
            Part("engine's keys and values", count * cache, "always"),
        ], []
    room = engine.vllm.gpu_memory * device.memory
    cache = max(0.0, room - weights - _ENGINE_OVERHEAD)
    if engine.vllm.kv_cache_gib is not None:
        cache = engine.vllm.kv_cache_gib * GIB
    parts = [
        Part("engine's weights", weights, "always"),
        Part("engine's workspaces", _ENGINE_OVERHEAD, "always"),
        Part("engine's keys and values", cache, "always"),
    ]
    return (parts, []) if engine.type == "vllm" else ([], parts)


def _rows_at_once(engine: EngineBlock, work: Work, shape: ModelShape, numbers: int, machine: Machine) -> int:
    """Rows that one engine samples at once."""
    if engine.type == "transformers":
        return work.at_once(machine.count)
    inside, beside = engine_parts(engine, work, shape, numbers, machine)
    cache = next(part.bytes for part in (*inside, *beside) if part.name == "engine's keys and values")
    row = (work.prompt + work.new) * shape.kv_bytes(numbers) / engine.vllm.tensor_parallel
    return max(1, min(engine.vllm.max_num_seqs, int(cache / row)))


def _seconds(
    engine: EngineBlock, work: Work, shape: ModelShape, numbers: int, machine: Machine, ranks: int
) -> dict[str, float]:
    device, size = machine.device, shape.size(getattr(work.stage, "lora", None))
    assert work.job is not None
    found: dict[str, float] = {}
    if work.rollouts:
        sampler = Sampler(
            shape,
            device,
            numbers,
            rows=_rows_at_once(engine, work, shape, numbers, machine),
            devices=engine.vllm.tensor_parallel if engine.type == "ray-vllm" else 1,
            engines=engine.pool.engines if engine.type == "ray-vllm" else ranks,
            compiled=engine.type != "transformers" and not engine.vllm.eager,
        )
        found["sampling"] = sampling_seconds(sampler, work.rollouts, work.prompt, work.new)
    found |= pass_seconds(work.tokens, size, device, ranks, numbers, work.job.checkpointing)
    judged = sum(2 * tokens * parameters for tokens, parameters in work.judged if parameters)
    if judged:
        found["judge, rewriter"] = judged / (ranks * device.flops[2] * device.efficiency.judge)
    return found


def _misfits(found: StagePlan) -> tuple[str, ...]:
    said = []
    if found.peak > found.limit:
        largest = max((part for part in found.parts if part.when != "host"), key=lambda part: part.bytes)
        said.append(
            f"{found.name} takes {found.peak / GIB:.1f} GiB of a device that has {found.limit / GIB:.1f} for it; "
            f"most of it: {largest.name}, {largest.bytes / GIB:.1f} GiB"
        )
    for part in _without_room(found.parts, found.engine):
        said.append(f"{found.name}: engine.vllm.gpu_memory leaves {part.bytes / GIB:.1f} GiB for {part.name}")
    if sum(part.bytes for part in found.engine) > found.limit:
        said.append(f"{found.name}: an engine takes more than a device has")
    return tuple(said)


def _without_room(*parts: Sequence[Part]) -> list[Part]:
    return [part for some in parts for part in some if part.bytes < 0.25 * GIB and part.name.endswith("keys and values")
            and part.name.startswith("engine")]  # fmt: skip
