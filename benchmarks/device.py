"""The device that benchmarks run on, its clock and memory, and models for it.

Where this machine has an accelerator, benchmarks run on it: a clock is read once all that was launched is done, and
memory is what tensors took there at most, by its allocator. Elsewhere memory is a process's resident one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_rl import models
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.models import byte_tokenizer

ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
DEVICE = ACCELERATOR or torch.device("cpu")


def accelerator() -> dict[str, str]:
    """`{"accelerator": what it is}`; nothing where there is none."""
    if ACCELERATOR is None:
        return {}
    if ACCELERATOR.type != "cuda":
        return {"accelerator": ACCELERATOR.type}
    of, built = torch.cuda.get_device_properties(ACCELERATOR), torch.version.cuda or torch.version.hip
    size = f"{of.total_memory / 2**30:.0f} GiB, {of.multi_processor_count} multiprocessors"
    return {"accelerator": f"{of.name}, {size}, CUDA {built}"}


def now() -> float:
    """Seconds, once the device has done all that it was given."""
    if ACCELERATOR is not None:
        torch.accelerator.synchronize()
    return time.perf_counter()


class DevicePeak:
    """Most memory of the accelerator that tensors took since this was made, beyond what they took then."""

    def __init__(self) -> None:
        torch.accelerator.synchronize()
        torch.accelerator.reset_peak_memory_stats()
        self._before = torch.accelerator.memory_allocated()

    def mib(self) -> float:
        torch.accelerator.synchronize()
        return (torch.accelerator.max_memory_allocated() - self._before) / 2**20


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The causal language model of a folder, on the device; with random weights where the folder has a config alone:
    what a step costs does not depend on them."""
    if any(folder.glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(DEVICE)
    torch.manual_seed(0)
    with DEVICE:
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder; where it has none, one of bytes."""
    if not (folder / "tokenizer.json").exists():
        return byte_tokenizer()
    return models.load_tokenizer(str(folder), ModelBlock(path=str(folder)))
