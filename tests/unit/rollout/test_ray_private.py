"""A Ray that is started here: on loopback, with a token, also where Ray was imported long before."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_rl.backends import is_installed
from tests.listening import beyond_loopback

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import json, os, subprocess, sys
import ray  # as importing TRL does where vLLM is installed
from ixt_rl.rollout.ray_pool import _join_or_start
from tests.listening import beyond_loopback

assert _join_or_start(None, 100_000_000, False)
assert ray.get(ray.remote(lambda: 7).remote()) == 7
found = [sorted(beyond_loopback())]
ask = f"from ray._raylet import GcsClient; GcsClient(address='{ray.get_runtime_context().gcs_address}')"
clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": "/nowhere"}
done = subprocess.run([sys.executable, "-c", ask], env=clean, capture_output=True, text=True)
found += [done.returncode, "AuthenticationError" in done.stderr]
ray.shutdown()
assert _join_or_start(None, 100_000_000, False)  # once more in one process
assert ray.get(ray.remote(lambda: 8).remote()) == 8
ray.shutdown()
found += [name for name in os.environ if name.startswith(("RAY_ENABLE", "VLLM_HOST", "GLOO"))]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("ray"), reason="needs ray")
def test_ray_listens_on_loopback_and_takes_nobody_without_its_token():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1:] == ["[[], 1, true]"], done.stdout + done.stderr


def test_an_open_port_would_be_found():
    before = beyond_loopback()
    with socket.create_server(("0.0.0.0", 0)) as server, socket.create_server(("127.0.0.1", 0)):
        assert {found[1:] for found in beyond_loopback() - before} == {server.getsockname()}
