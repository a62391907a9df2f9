"""Tiles and threads of the kernel tests."""

from __future__ import annotations

import pytest
import torch
from torch import set_num_threads  # by name: vLLM on a CPU, in the same process, replaces it

from ixt_rl.kernels import chunks


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch):
    """Many vocabulary tiles, and a ragged last one, at test sizes."""
    monkeypatch.setattr(chunks, "CPU_TILE", 64)


@pytest.fixture(autouse=True)
def two_threads():
    """The tiles on two threads, whatever the environment gives torch."""
    before = torch.get_num_threads()
    set_num_threads(2)
    yield
    set_num_threads(before)
