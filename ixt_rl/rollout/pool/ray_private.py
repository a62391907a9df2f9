"""A Ray that this process starts is for it alone: whoever reaches Ray's ports can run code as the user that started it.

Ray 2.55 listens on all interfaces, and takes 127.0.0.1 as a node's address for the machine's outer one, unless it is
told that there are no clusters. So told, all its processes listen on loopback. Of those who reach it there, other users
of the machine, it wants a token, which this process draws and its children inherit.

A cluster that others started is joined with its token, or without one: where the two sides do not agree on that, Ray's
processes ask each other again for ever, and so it is looked at before.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ixt_rl.errors import BackendFailed
from ixt_rl.place import launched
from ixt_rl.redaction import keep_secret
from ixt_rl.rollout.weights.broadcast import LOOPBACK

_TOKEN = secrets.token_hex(32)
_MODE, _KEY = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


@contextmanager
def private_ray() -> Iterator[None]:
    """Settings under which `ray.init` starts a Ray that is as the head of this file says.

    A user's own `RAY_AUTH_MODE`, with `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`, is kept.
    """
    import ray

    keep_secret(_TOKEN)
    if _MODE not in os.environ:  # these stay: Ray reads the token again with later calls
        os.environ |= {_MODE: "token", _KEY: _TOKEN}
    own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": LOOPBACK}
    before = {name: os.environ.get(name) for name in {*own, *launched()}}
    for name in launched():  # of the rank that this process is: engines are none, and vLLM would look for the others
        del os.environ[name]
    os.environ.update(own)  # for the processes that Ray starts
    # Ray reads both when it is imported, and importing vLLM or TRL imports it.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    _authenticate(os.environ[_MODE])
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def meet(address: str) -> None:
    """Sets this process as the cluster at `address` has it: with its token, without one, on loopback alone.

    Raises:
        ConnectionError: nobody answers there.
        BackendFailed: it wants another token, or it wants none and `RAY_AUTH_MODE` says that there is one.
    """
    if address.startswith("ray://"):  # Ray's client, which starts nothing here
        return
    from ray._private import ray_constants, services

    if _on_loopback_alone(address):
        ray_constants.ENABLE_RAY_CLUSTER = False
    found = services.canonicalize_bootstrap_address_or_die(address)
    host, _, port = found.rpartition(":")
    if not _open(host.strip("[]"), int(port)):  # Ray's client would wait, and may end the process
        raise ConnectionError(f"nobody listens at {found}")
    own = os.environ.get(_KEY) == _TOKEN
    wanted = not _answers(found, "disabled")
    if own and not wanted:
        del os.environ[_MODE], os.environ[_KEY]
    mode = os.environ.get(_MODE, "disabled")
    if wanted == (mode == "token") and (not wanted or _answers(found, mode)):
        _authenticate(mode)
        return
    if not wanted:
        raise BackendFailed(
            f"the Ray cluster at {address} has no token",
            reason=f"${_MODE} is {mode} here: its processes could not answer this one",
            remedy=f"unset {_MODE}, or start the cluster with it",
        )
    raise BackendFailed(
        f"the Ray cluster at {address} takes nobody without its token",
        reason=f"this process has {'another' if mode == 'token' else 'none'}",
        remedy=f"export {_MODE}=token and {_KEY}=..., or {_KEY}_PATH=FILE, as where the cluster was started",
    )


def _authenticate(mode: str) -> None:
    """Ray's mode of authentication from now on; the token is read again."""
    import ray

    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]
    ray._raylet.Config.initialize(json.dumps({"AUTH_MODE": mode}))  # type: ignore[attr-defined]


def _answers(address: str, mode: str) -> bool:
    """Whether a cluster takes this process in that mode.

    Raises:
        ConnectionError: it does not answer at all.
    """
    import ray

    _authenticate(mode)
    try:
        ray._raylet.GcsClient(address=address)  # type: ignore[attr-defined]
    except ray.exceptions.AuthenticationError:
        return False
    except ray.exceptions.RpcError as error:
        raise ConnectionError(str(error)) from error
    return True


def _on_loopback_alone(address: str) -> bool:
    """Whether an address names this machine, and its port is open on loopback and not beyond."""
    from ray._private import services

    host, _, port = address.rpartition(":")
    if host not in (LOOPBACK, "localhost") or not port.isdigit():
        return False
    return _open(LOOPBACK, int(port)) and not _open(services.get_node_ip_address(), int(port))


def _open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False
