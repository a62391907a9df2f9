"""The rollout engine of a run, outside the trainer's model: started when a stage first needs it, kept for the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.rollout.engine import RolloutEngine


class Engines:
    """Starts and keeps engines; stages of one architecture and one set of engine settings share one.

    Starting vLLM takes many seconds, new weights take few: a stage brings its own.
    """

    def __init__(self, section: EngineBlock, dtype: str):
        self._section, self._dtype = section, dtype
        self._key: str | None = None
        self._engine: RolloutEngine | None = None

    def get(
        self, sampling: SamplingBlock, model: str, eos_ids: tuple[int, ...], stop: Sequence[str] = ()
    ) -> RolloutEngine | None:
        """The engine of a stage, None for `transformers`; its weights may be another stage's.

        Args:
            sampling: the stage's `sampling` block.
            model: folder (or hub id) of the stage's initial model.
            eos_ids: ids that end a completion.
            stop: stop strings of its evaluation, beside those of `sampling`.
        """
        section = self._section
        if section.type == "transformers":
            return None
        settings: dict[str, Any] = {
            "eos_ids": list(eos_ids),
            "dtype": self._dtype,
            "max_model_len": _max_model_len(sampling, model),
            "max_num_seqs": section.vllm.max_num_seqs,
            "tensor_parallel_size": section.vllm.tensor_parallel,
            "gpu_memory_utilization": section.vllm.gpu_memory,
            "kv_cache_gib": section.vllm.kv_cache_gib,
            "enforce_eager": section.vllm.eager,
        }
        if sampling.stop or stop:
            settings["tokenizer"] = model
        pool = section.pool.model_dump() if section.type == "ray-vllm" else {}
        key = json.dumps([section.type, settings, pool, _architecture(model)], sort_keys=True)
        if key != self._key:
            self.close()
            self._engine = _start(model, settings, pool)
            self._key = key
        return self._engine

    def close(self) -> None:
        """Ends the engine that is up, if any."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._key = None


def _max_model_len(sampling: SamplingBlock, model: str) -> int:
    from transformers import AutoConfig

    most = sampling.max_prompt_tokens + sampling.max_new_tokens
    positions = getattr(AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None)
    return most if positions is None else min(most, positions)


def _start(model: str, settings: dict[str, Any], pool: dict[str, Any]) -> RolloutEngine:
    if not pool:
        from ixt_rl.rollout.vllm_engine import VLLMEngine

        return VLLMEngine(model, **settings)
    import torch

    from ixt_rl.rollout.pool.ray_pool import RayPool

    if pool["gpus_per_engine"] is None:
        pool["gpus_per_engine"] = settings["tensor_parallel_size"] if torch.accelerator.is_available() else 0
    return RayPool(model, **pool, **settings)


def _architecture(model: str) -> Any:
    """What two models must share for one engine to serve both: the config file, names and versions aside."""
    file = Path(model) / "config.json"
    if not file.is_file():
        return model
    volatile = ("_name_or_path", "transformers_version")
    return {k: v for k, v in json.loads(file.read_text(encoding="utf-8")).items() if k not in volatile}
