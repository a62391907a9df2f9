"""The hub's token where a pool has joined a cluster: its engines have it, and no argument, setting or message does."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ixt_rl.redaction import redacted
from ixt_rl.rollout.pool import ray_pool, worker
from ixt_rl.rollout.pool.environment import actor_environment
from ixt_rl.rollout.pool.variables import value_of
from tests.unit.rollout.ray_standin import Ray

TOKEN = "hub-token-for-tests-alone-0123456789"


@pytest.fixture
def ray(monkeypatch) -> Ray:
    """Ray and a dispatcher that starts nothing; the hub's token is set."""
    found: Any = Ray()
    found.shutdown = lambda: None
    monkeypatch.setitem(sys.modules, "ray", found)
    info = SimpleNamespace(max_model_len=8, vocab_size=8)
    nothing = SimpleNamespace(wait_started=lambda: info, close=lambda: None)
    monkeypatch.setattr(ray_pool, "require", lambda name, used_for: None)
    monkeypatch.setattr(ray_pool, "_check_resources", lambda engines, **each: None)
    monkeypatch.setattr(ray_pool, "Dispatcher", lambda *given, **named: nothing)
    monkeypatch.setattr(ray_pool, "WEIGHT_TRANSFERS", {"object-store": lambda dispatcher: nothing})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return found


@pytest.mark.parametrize(
    ("started", "of_hub", "held"),
    [(False, True, True), (True, True, False), (False, False, False)],
    ids=["joined", "a Ray that is started here has this environment", "a folder asks no hub"],
)
def test_engines_on_other_nodes_ask_the_hub_as_this_process_does(started, of_hub, held, ray, tmp_path, monkeypatch):
    given: list[Any] = []
    found: list[Any] = []
    monkeypatch.setattr(ray_pool, "_join_or_start", lambda *asked: started)
    monkeypatch.setattr(ray_pool, "_actor_factory", lambda *told: given.extend(told))
    pool = ray_pool.RayPool("owner/model" if of_hub else str(tmp_path), eos_ids=(1,))

    def engine(**settings: Any) -> Any:
        found.append(os.environ.get("HF_TOKEN"))
        raise RuntimeError("far enough")

    monkeypatch.setattr(worker, "VLLMEngine", engine)
    monkeypatch.delenv("HF_TOKEN")
    on_another_node = worker.EngineWorker("engine 0", given[0], given[-1])
    with pytest.raises(RuntimeError, match="far enough"):
        on_another_node.start(None)
    pool.close()
    assert found == [TOKEN if held else None]
    assert len(ray.actors) == held
    assert TOKEN not in f"{given!r} {ray.options!r}"


def test_a_token_that_was_logged_in_with_is_the_hubs_too(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    assert value_of("HF_TOKEN") == TOKEN
    assert TOKEN not in redacted(f"no model for {TOKEN}")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert value_of("HF_TOKEN") is None


@pytest.mark.parametrize(("endpoint", "passed"), [("http://hub.example", True), ("http://me:word@hub.example", False)])
def test_the_hubs_address_reaches_actors_by_ray_if_it_holds_no_password(endpoint, passed, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert actor_environment(1)["HF_HUB_OFFLINE"] == "1", "files ask no hub, on any node"
    assert actor_environment(1).get("HF_ENDPOINT") == (endpoint if passed else None)
