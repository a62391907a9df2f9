"""The model that a command samples from, and the engine that samples: words to blocks, blocks to an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import transformers

from ixt_rl.backends import BACKENDS
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.python_name import missing_path
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.strict import Strict
from ixt_rl.config.load import dump_yaml, validated
from ixt_rl.contents import Hashes, folder_files
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.models import checkpoint_eos_ids, load_model
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.named_model import NamedModel
from ixt_rl.yaml_io import parse_yaml

_KEYS = ("engine.vllm", "engine.pool", "model.attention", "model.trust_remote_code")


class SampledModelBlock(Strict):
    """What is sampled from, and what samples it: two blocks of a run file."""

    model: ModelBlock
    engine: EngineBlock


def checkpoint_config(found: NamedModel, text: str) -> dict[str, Any]:
    """The checkpoint's config.json.

    Args:
        text: as the user named the model.

    Raises:
        ConfigError: it is no folder, and the hub gave none.
    """
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(found.path)
    except OSError as error:
        raise ConfigError(
            f"model {text}",
            reason=f"it is no folder here, and the hub gave no model of that name ({str(error).splitlines()[0]})",
            remedy=missing_path(text).remedy,
        ) from None
    return config


def sampled_block(
    found: NamedModel,
    config: Mapping[str, Any],
    batch: int,
    words: Mapping[str, Any],
    overrides: Sequence[str] = (),
    command: str = "ixt-rl eval",
) -> SampledModelBlock:
    """The blocks `model` and `engine`, with KEY=VALUE written into them.

    Args:
        config: of the checkpoint.
        batch: answers sampled at once.
        words: `engine` and `dtype` of the command.
        overrides: KEY=VALUE.
        command: for messages.

    Raises:
        ConfigError: another key, or a value that does not fit.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == known or key.startswith(f"{known}.") for known in _KEYS):
            raise ConfigError(
                override,
                reason="an evaluation has no such key",
                remedy=f"{did_you_mean(key, list(_KEYS))}keys are {', '.join(_KEYS)}; the rest are options: --help",
            )
    text = config.get("text_config") or {}
    named = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    dtype = (named or "float32") if words["dtype"] == "auto" else words["dtype"]
    value = {
        "model": {"path": found.path, "dtype": str(dtype).removeprefix("torch.")},
        "engine": {"type": words["engine"], "vllm": {"max_num_seqs": batch}},
    }
    return validated(SampledModelBlock, parse_yaml(dump_yaml(value), command), overrides, command)


def model_identity(found: NamedModel, config: Mapping[str, Any], hashes: Hashes) -> dict[str, Any]:
    """What tells a model: the hashes of a folder's files, or a hub id and its commit."""
    if Path(found.path).is_dir():
        return {"files": {name: hashes.of(file) for name, file in folder_files(Path(found.path))}}
    return {"hub": found.path, "revision": config.get("_commit_hash")}


def open_engine(block: SampledModelBlock, sampling: SamplingBlock, tokenizer: Any, opened: ExitStack) -> RolloutEngine:
    """The engine, closed with `opened`.

    Args:
        sampling: longest prompt and answer, stop strings, and how many are sampled at once.
        tokenizer: of the model.
    """
    from ixt_rl.run.stages.engines import Engines
    from ixt_rl.run.stages.starting_engine import in_process_engine

    path = block.model.path
    assert path is not None
    ends = checkpoint_eos_ids(path, block.model, tokenizer)
    if block.engine.type == "transformers":
        return in_process_engine(load_model(path, block.model, train=False), ends, sampling, tokenizer)
    engines = Engines(block.engine, block.model.dtype)
    opened.callback(engines.close)
    engine = engines.get(sampling, path, ends)
    assert engine is not None
    return engine


def engine_version(engine: str) -> str:
    """Version of the package that samples."""
    return BACKENDS["transformers" if engine == "transformers" else "vllm"].version() or "unknown"


def default_batch() -> int:
    """Answers sampled at once, where nobody says how many."""
    return 256 if torch.accelerator.is_available() else 64
