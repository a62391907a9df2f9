"""A Ray that is started here: on loopback, with a token, also where Ray was imported long before."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ixt_rl.backends import is_installed
from tests.listening import beyond_loopback

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import json, os, subprocess, sys
import ray  # as importing TRL does where vLLM is installed
from ixt_rl.rollout.pool.ray_pool import _join_or_start
from tests.listening import beyond_loopback

assert _join_or_start(None, 100_000_000, False)
assert ray.get(ray.remote(lambda: 7).remote()) == 7
launcher = ("RANK", "TORCHELASTIC_USE_AGENT_STORE")  # vLLM would wait for the store of the launcher of ranks
assert ray.get(ray.remote(lambda: [name for name in launcher if name in os.environ]).remote()) == []
assert all(name in os.environ for name in launcher)
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
    launched = {"RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment = {**os.environ, **launched, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1:] == ["[[], 1, true]"], done.stdout + done.stderr


def test_an_open_port_would_be_found():
    before = beyond_loopback()
    with socket.create_server(("0.0.0.0", 0)) as server, socket.create_server(("127.0.0.1", 0)):
        assert {found[1:] for found in beyond_loopback() - before} == {server.getsockname()}


JOINING = """
import json, os, time
from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.pool.ray_pool import _join_or_start

def join(port):
    began = time.monotonic()
    try:
        _join_or_start(f"127.0.0.1:{port}", None, False)
    except BackendFailed as error:
        return [error.what.split()[-1], error.reason.split()[-1], time.monotonic() - began < 20]
    import ray
    answer = ray.get(ray.remote(lambda: 7).remote(), timeout=60)
    ray.shutdown()
    return answer

found = [join(PORT)]
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 32}
found.append(join(PORT))
os.environ["RAY_AUTH_TOKEN"] = "a" * 32
found += [join(PORT), join(1)]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("ray"), reason="needs ray")
def test_a_cluster_is_joined_with_its_token_or_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder = tempfile.mkdtemp(dir="/tmp")  # short: Ray has sockets in it
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PYTHONPATH": str(ROOT)
    }
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    words = ["--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    words += ["--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={folder}", "--disable-usage-stats"]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
    head = subprocess.Popen(start, env=bare | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert head.stdout is not None
        assert any("Ray runtime started" in line for line in head.stdout)
        script = JOINING.replace("PORT", str(port))
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=bare)
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    refused = [["token", "none", True], ["token", "another", True]]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found[:3] == [*refused, 7], done.stdout + done.stderr
    assert found[3][0] == "'127.0.0.1:1'" and found[3][2]
