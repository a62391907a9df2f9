"""Seconds: closed forms of passes and of sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ixt_rl.ledger import ModelSize
from ixt_rl.planning.devices import GPUS
from ixt_rl.planning.seconds import Sampler, pass_seconds, sampling_seconds, step_seconds, tokens_per_second
from ixt_rl.planning.shapes import shape_named

GPU, SHAPE = GPUS["H100"], shape_named("Qwen2.5-1.5B")
SAMPLER = Sampler(SHAPE, GPU, rows=64)


def test_passes_are_the_ledgers_flops_over_what_is_reached():
    found = pass_seconds({"train": 1000, "posterior": 500}, ModelSize(10**9, 10**9), GPU, 2, 2, again=False)
    assert found["train"] == pytest.approx(6e9 * 1000 / (2 * 989e12 * 0.4))
    assert found["posterior"] == pytest.approx(2e9 * 500 / (2 * 989e12 * 0.5))


def test_checkpointing_costs_a_forward_pass_and_lora_spares_weight_gradients():
    size = ModelSize(10**9, 10**9)
    plain, again = (pass_seconds({"train": 1000}, size, GPU, 1, 2, again)["train"] for again in (False, True))
    assert again == pytest.approx(plain * 8 / 6)
    assert pass_seconds({"train": 1000}, ModelSize(10**9, 0), GPU, 1, 2, False)["train"] == pytest.approx(plain * 4 / 6)


def test_a_step_reads_weights_and_caches():
    read = 2 * SHAPE.parameters + 64 * 500 * SHAPE.kv_bytes(2)
    assert step_seconds(SAMPLER, 64, 500) == pytest.approx(read / (3350e9 * 0.6))
    assert SHAPE.kv_bytes(2) == 2 * 28 * 2 * 128 * 2


def test_many_rows_are_bound_by_products():
    rows = 10**5
    assert step_seconds(SAMPLER, rows, 0) == pytest.approx(2 * SHAPE.parameters * rows / (989e12 * 0.5))


def test_python_between_kernels_bounds_a_step():
    assert step_seconds(replace(SAMPLER, compiled=False), 1, 1) == pytest.approx(28 * 7e-4)


def test_rows_come_in_waves_over_engines():
    two = replace(SAMPLER, engines=2)
    assert sampling_seconds(two, 256, 100, 50) == pytest.approx(2 * 50 * step_seconds(SAMPLER, 64, 125))
    assert tokens_per_second(two, 100, 50) == pytest.approx(2 * 64 / step_seconds(SAMPLER, 64, 125))
