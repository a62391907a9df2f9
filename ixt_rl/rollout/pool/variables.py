"""Variables of the environment, keys among them, for processes on other nodes of a cluster that was joined.

    this process: hold_variables(names) -> an actor that has their values in its memory -> take_variables: any process

Not by Ray's `runtime_env`: each node writes that into its log files (`runtime_env_agent.log`), keys and all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from ixt_rl.redaction import keep_secret
from ixt_rl.rollout.pool.environment import actor_environment

HUB = ("HF_TOKEN",)
"""What loading a model of the hub may need; its address is no secret (`actor_environment`)."""


class VariableHolder:
    """The actor: what it was given is in no file."""

    def __init__(self, values: dict[str, str]):
        self._values = values

    def values(self) -> dict[str, str]:
        return self._values


def value_of(name: str) -> str | None:
    """A variable of this process; for HF_TOKEN, where it is not set, the token that `hf auth login` has left."""
    found = os.environ.get(name)
    if found or name != "HF_TOKEN":
        return found
    from huggingface_hub import get_token

    token = get_token()
    if token is not None:
        keep_secret(token)
    return token


def hold_variables(names: Iterable[str], called: str) -> Any:
    """Starts the actor with this process's values, in the Ray session that there is.

    Args:
        names: of variables (`value_of`); those that have no value here are left out.
        called: what no other actor of the session is called.

    Returns:
        Its handle, which has to be kept as long as anyone may ask; None where nothing is set.
    """
    values = {name: value for name in names if (value := value_of(name)) is not None}
    if not values:
        return None
    import ray

    environment = {"env_vars": actor_environment(1)}
    return ray.remote(VariableHolder).options(name=called, num_cpus=0, runtime_env=environment).remote(values)


def hold_under_a_new_name(names: Iterable[str]) -> tuple[Any, str]:
    """As `hold_variables`: the handle, and what the actor is called; (None, "") where nothing is set."""
    called = f"ixt-rl-variables-{uuid4().hex}"
    held = hold_variables(names, called)
    return held, "" if held is None else called


def take_variables(called: str) -> None:
    """Sets what the actor of that name holds in this process's environment."""
    import ray

    os.environ |= ray.get(ray.get_actor(called).values.remote())
