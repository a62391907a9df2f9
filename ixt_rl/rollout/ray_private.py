"""A Ray that this process starts is for it alone: whoever reaches Ray's ports can run code as the user that started it.

Ray 2.55 listens on all interfaces, and takes 127.0.0.1 as a node's address for the machine's outer one, unless it is
told that there are no clusters. So told, all its processes listen on loopback. Of those who reach it there, other users
of the machine, it wants a token, which this process draws and its children inherit.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ixt_rl.redaction import keep_secret

LOOPBACK = "127.0.0.1"

_TOKEN = secrets.token_hex(32)


@contextmanager
def private_ray() -> Iterator[None]:
    """Settings under which `ray.init` starts a Ray that is as the head of this file says.

    A user's own `RAY_AUTH_MODE`, with `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`, is kept.
    """
    import ray

    keep_secret(_TOKEN)
    if "RAY_AUTH_MODE" not in os.environ:  # these stay: Ray reads the token again with later calls
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
    own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": LOOPBACK}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)  # for the processes that Ray starts
    # Ray reads both when it is imported, and importing vLLM or TRL imports it.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    ray._raylet.Config.initialize(json.dumps({"AUTH_MODE": os.environ["RAY_AUTH_MODE"]}))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
