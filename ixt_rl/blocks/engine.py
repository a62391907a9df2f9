"""What samples the policy: engine, pool, correction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    ValidationInfo,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.strict import BatchSize, NonNegativeInt, PositiveFloat, Seconds, Strict, Workers
from ixt_rl.errors import ConfigError


class VllmBlock(Strict):
    """vLLM's own settings (engines `vllm` and `ray-vllm`)."""

    max_num_seqs: BatchSize = Field(256, description="sequences decoded at once by one engine")
    tensor_parallel: Workers = Field(1, description="GPUs one engine's model is split over")
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = Field(0.9, description="share of a GPU's memory for one engine")
    kv_cache_gib: PositiveFloat | None = Field(
        None, description="KV cache of one engine; default: what gpu_memory leaves, 1 GiB on a CPU"
    )
    eager: bool = Field(False, description="no CUDA graphs, no compilation: a faster start, slower steps")


class PoolBlock(Strict):
    """The Ray actors of engine `ray-vllm`, each with a vLLM engine."""

    engines: Workers = 1
    cpus_per_engine: Workers = 1
    gpus_per_engine: NonNegativeInt | None = Field(
        None, description="default: tensor_parallel if there are GPUs, else 0"
    )
    weight_transfer: Literal["object-store", "broadcast"] = Field(
        "object-store",
        description="how new weights reach the engines: through Ray's object store, or from device to device",
    )
    placement: Literal["pack", "spread"] = Field(
        "pack", description="on a cluster: fill nodes one after the other, or spread engines over as many as there are"
    )
    address: str | None = Field(None, description="of a running Ray cluster, or `auto`; default: start Ray here")
    deadline: Seconds = Field(120.0, description="seconds without progress after which an engine is replaced")
    max_restarts: NonNegativeInt = Field(8, description="engines replaced before the run stops")
    dashboard: bool = Field(False, description="Ray's dashboard, where Ray is started here (needs ray[default])")


class CorrectionBlock(Strict):
    """Importance correction of what another engine, or an older policy, sampled."""

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = Field("truncate", description="of ratios above cap: count as cap, or as 0")
    cap: PositiveFloat = 2.0


class EngineBlock(Strict):
    """What samples the policy, for all stages of a run."""

    type: Literal["transformers", "vllm", "ray-vllm"] = Field(
        "transformers", description="the model itself; vLLM in this process; a pool of vLLM engines on Ray"
    )
    vllm: VllmBlock = VllmBlock()
    pool: PoolBlock = PoolBlock()
    staleness: NonNegativeInt = Field(
        0, description="batches sampled ahead while the trainer steps, by a policy that many updates old (ray-vllm)"
    )
    correction: CorrectionBlock | None = Field(
        CorrectionBlock(), description="null: none. The model's own rollouts (transformers) need none"
    )
    parity_limit: PositiveFloat | None = Field(
        None, description="largest |log-prob difference| of engine and trainer; default 1e-2, half precision 0.5"
    )

    @property
    def unread_sections(self) -> list[str]:
        """Keys that the chosen engine does not look at."""
        if self.type == "transformers":
            return ["vllm", "pool", "staleness", "correction"]
        return [] if self.type == "ray-vllm" else ["pool", "staleness"]

    @property
    def cores_beside_trainer(self) -> int:
        """Cores of this machine that engines compute on while the trainer does."""
        ahead = self.type == "ray-vllm" and self.staleness > 0 and self.pool.address is None
        return self.pool.engines * self.pool.cpus_per_engine if ahead else 0

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> EngineBlock:
        if self.staleness and self.type != "ray-vllm":
            raise ConfigError(
                f"staleness={self.staleness} with type: {self.type}",
                reason="it samples in the trainer's process, while the trainer waits",
                remedy="set type: ray-vllm, or staleness: 0",
            )
        if self.type != "transformers":
            checks.needs_backend("vllm", f"engine.type: {self.type}", info)
        if self.type == "ray-vllm":
            checks.needs_backend("ray", "engine.type: ray-vllm", info)
        return self
