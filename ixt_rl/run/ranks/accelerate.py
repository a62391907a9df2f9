"""What accelerate's launcher says of how a model trains, where the run file says it."""

from __future__ import annotations

import os

from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import ConfigError

_NOTHING = ("", "no", "false", "0")


def check_accelerate(config: RunConfig) -> None:
    """Refuses what `accelerate launch`, or the config file that it reads unasked, says otherwise than the run file.

    transformers and accelerate take it from the environment: a model of `dtype: float32` would compute in bfloat16, one
    of `strategy: ddp` would be spread, and nothing would say so.

    Raises:
        ConfigError: such a variable.
    """
    dtype, strategy = f"model.dtype: {config.model.dtype}", f"launch.strategy: {config.launch.strategy}"
    for name, key, agrees in (
        ("ACCELERATE_MIXED_PRECISION", dtype, config.model.dtype in ("bfloat16", "float16")),  # which then decides
        ("ACCELERATE_USE_FSDP", strategy, config.launch.strategy == "fsdp2"),
        ("ACCELERATE_USE_DEEPSPEED", strategy, config.launch.strategy in ("zero2", "zero3")),
        ("ACCELERATE_USE_MEGATRON_LM", strategy, False),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", strategy, False),
        ("ACCELERATE_DYNAMO_BACKEND", "a run file that compiles nothing", False),
    ):
        asked = os.environ.get(name, "")
        if asked.lower() not in _NOTHING and not agrees:
            raise ConfigError(
                f"{name}={asked} with {key}",
                reason="accelerate's launcher or its config file says it, and training would follow it without a word",
                remedy="say in the run file how it shall train, and start it by torchrun, by ixt-rl run FILE "
                "launch.ranks=N, or by an accelerate launch that says nothing of it",
            )
