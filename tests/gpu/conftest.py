"""The device of these tests: this machine's accelerator, or a CPU where `IXT_RL_TEST_DEVICE=cpu` asks for it.

python -m pytest tests/gpu                            # skipped where there is no accelerator
IXT_RL_TEST_DEVICE=cpu python -m pytest tests/gpu     # to work on the tests themselves
"""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    asked = os.environ.get("IXT_RL_TEST_DEVICE")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if asked is None and found is None:
        pytest.skip("no accelerator here; IXT_RL_TEST_DEVICE=cpu runs these tests on the CPU")
    return torch.device(asked or found)


@pytest.fixture(autouse=True)
def exact_float32(device):
    """Products of float32 are float32's: TF32 has 10 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def memory(device):
    """() -> bytes of tensors on the accelerator, and the peak since the last call; skipped on a CPU."""
    if device.type == "cpu":
        pytest.skip("a CPU's allocator does not count")

    def measured() -> tuple[int, int]:
        torch.accelerator.synchronize()
        found = torch.accelerator.memory_allocated(), torch.accelerator.max_memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        return found

    return measured
