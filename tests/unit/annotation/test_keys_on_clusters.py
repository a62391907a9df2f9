"""A judge's key in a job on a Ray cluster that was joined: workers have it, and no file, argument or setting does."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ixt_rl.corpus import workers
from ixt_rl.corpus.progress import JobCounts
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.workers import RaySettings, Workers
from ixt_rl.judging.opening import parse_judge
from ixt_rl.rollout.pool import ray_data
from tests.unit.annotation.helpers import make_job
from tests.unit.rollout.ray_standin import Ray

KEY = "sk-for-tests-alone-0123456789"


@pytest.mark.parametrize(("address", "joined"), [("10.0.0.1:6379", True), (None, False)])
def test_workers_on_other_nodes_have_the_key_of_this_process(address, joined, tmp_path, monkeypatch):
    ray, shown, found = Ray(), [], []
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("MINE", KEY)
    monkeypatch.setattr(ray_data, "ray_session", lambda *given: nullcontext())
    monkeypatch.setattr(workers, "Worker", lambda *given: found.append(os.environ.get("MINE")))

    def on_another_node(build: Any, arguments: Any, items: Any, **options: Any) -> Any:
        shown.append(f"{arguments!r} {options!r} {ray.options!r}")
        with monkeypatch.context() as there:
            there.delenv("MINE")
            build(*arguments)
        for _ in items:
            yield {"counts": asdict(JobCounts())}

    monkeypatch.setattr(ray_data, "map_on_actors", on_another_node)
    options = {"api_key_env": "MINE", "base_url": "http://127.0.0.1:9/v1"}
    job = make_job(tmp_path, judge=parse_judge("openai:m", options))
    session: Any = SimpleNamespace(up=lambda: None, add=lambda counts: None)
    team = Workers(job, SourceSpec("corpus.jsonl"), Path(tmp_path), RaySettings(address=address), session)
    team.shards([0])
    team.shards([1])
    assert found == ([KEY] * 2 if joined else [None] * 2), "a Ray that is started here has this environment"
    assert len(ray.actors) == joined
    assert KEY not in json.dumps(shown)
