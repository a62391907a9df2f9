"""Shared fixtures: a tiny model of the addition world, made in milliseconds."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


@pytest.fixture(scope="session")
def world():
    from ixt_rl.worlds import AdditionWorld

    return AdditionWorld("parity")


@pytest.fixture(scope="session")
def tokenizer(world):
    return world.tokenizer()


@pytest.fixture
def tiny_model(tokenizer):
    """A fresh 2-layer model, spread out enough that wrong positions or masks show in its log-probs."""
    from ixt_rl.config.sections import NewModel
    from ixt_rl.data.models import new_model

    return new_model(NewModel(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2), tokenizer).eval()
