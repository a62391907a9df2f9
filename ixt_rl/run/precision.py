"""`model.dtype: auto`: float32 or bfloat16, whichever a short probe finds faster for the model at hand; kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ixt_rl.config.schema import RunConfig
from ixt_rl.files import read_json, write_json
from ixt_rl.run.folder import RunFolder

if TYPE_CHECKING:  # a dry run, which asks what is kept, loads no torch
    from torch import Tensor

KEPT = "precision.json"
"""In the run's folder: what was chosen and measured."""

TOKENS = 512
GAIN = 1.2
"""How many times faster bfloat16 has to be."""
PROBE_SECONDS = 1.0


def with_kept_dtype(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The run with the dtype that its folder keeps in place of `auto`; the run itself where there is none of either."""
    kept = read_json(folder.path / KEPT) if config.model.dtype == "auto" else None
    return config if kept is None else with_dtype(config, kept["dtype"])


def with_measured_dtype(config: RunConfig, folder: RunFolder, say: Callable[[str], None]) -> RunConfig:
    """The run with `float32` or `bfloat16` in place of `auto`: what its folder keeps, else what the probe finds.

    Args:
        folder: gets `precision.json`, so that the run goes on in the dtype that it began with, on whatever machine.
        say: is told what was found.
    """
    if config.model.dtype != "auto":
        return config
    kept = with_kept_dtype(config, folder)
    if kept is not config:
        return kept
    found = probe(*_widths(config))
    write_json(folder.path / KEPT, found, indent=1)
    say(
        f"dtype: auto: {found['dtype']}; a layer's products, forward and backward, took {found['float32_ms']:.1f} ms "
        f"in float32 and {found['bfloat16_ms']:.1f} ms in bfloat16 on {found['device']}"
    )
    return with_dtype(config, found["dtype"])


def with_dtype(config: RunConfig, dtype: str) -> RunConfig:
    """The same run in another dtype."""
    return config.model_copy(update={"model": config.model.model_copy(update={"dtype": dtype})})


def probe(hidden: int, intermediate: int) -> dict[str, Any]:
    """Times a layer's products in both dtypes, in turn, for about `PROBE_SECONDS`; draws no random numbers.

    Args:
        hidden, intermediate: of the model. Products are `[TOKENS, hidden] x [hidden, intermediate]` and back, forward
            and backward, with float32 weights, in bfloat16 by autocast, casts included.
    """
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = device or torch.device("cpu")
    x, up, down = (
        torch.linspace(-1, 1, rows * columns, device=device).view(rows, columns).requires_grad_()
        for rows, columns in ((TOKENS, hidden), (intermediate, hidden), (hidden, intermediate))
    )
    times: dict[bool, list[float]] = {False: [], True: []}
    for bfloat16 in (False, True):  # what is set up once
        _seconds(bfloat16, x, up, down)
    until = time.perf_counter() + PROBE_SECONDS
    while not times[True] or time.perf_counter() < until:
        for bfloat16 in (False, True):
            times[bfloat16].append(_seconds(bfloat16, x, up, down))
    wide, narrow = (1000 * statistics.median(times[bfloat16]) for bfloat16 in (False, True))
    chosen = "bfloat16" if wide > GAIN * narrow else "float32"
    return {"dtype": chosen, "float32_ms": wide, "bfloat16_ms": narrow, "device": str(device),
            "shapes": [TOKENS, hidden, intermediate]}  # fmt: skip


def _seconds(bfloat16: bool, x: Tensor, up: Tensor, down: Tensor) -> float:
    import torch
    from torch.nn.functional import linear

    if x.device.type != "cpu":
        torch.accelerator.synchronize()
    begun = time.perf_counter()
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        y = linear(linear(x, up), down)
    torch.autograd.grad(y, (x, up, down), torch.ones_like(y))
    if x.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begun


def _widths(config: RunConfig) -> tuple[int, int]:
    """Hidden and intermediate size of the run's model."""
    from transformers import AutoConfig

    from ixt_rl.models import reading

    new = config.model.new
    if new is not None:
        return new.hidden_size, new.intermediate_size
    assert config.model.path is not None  # a model is new, or has a path
    with reading(config.model.path):
        loaded = AutoConfig.from_pretrained(config.model.path, trust_remote_code=config.model.trust_remote_code)
    text = loaded.get_text_config()
    return text.hidden_size, getattr(text, "intermediate_size", None) or 4 * text.hidden_size
