"""Shared fixtures: a tiny model of the addition world, made in milliseconds."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell that starts the tests in the background has them ignore Ctrl-C, and what the tests start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest


def pytest_collection_modifyitems(config, items):
    """With several workers: engines one at a time, and a file's tests on one worker, so that fixtures are made once."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            group = "engines" if item.get_closest_marker("engines") else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))


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
