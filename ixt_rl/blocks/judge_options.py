"""Options of judges and rewriters, by their kind: which there are, of what type, in what range. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.redaction import HIDDEN, without_secrets


class Option(NamedTuple):
    """What a value may be: its type, its least and largest one, and whether null is one."""

    type: type
    least: float = -math.inf
    most: float = math.inf
    null: bool = False


_COUNT = Option(int, 1)
KEY_NAME = re.compile(
    r"token|(?:.*[-_])?(?:api[-_]?key|(?:access|auth|api|secret|bearer|hf)[-_]?(?:key|token)|secret|passw(?:or)?d|bearer"
    r"|authorization|credentials?)",
    re.I,
)
"""A name that a key or a password would have."""

_ABOVE_0 = 5e-324  # the least number above 0

OPTIONS: dict[str, dict[str, Option]] = {
    "openai": {
        "base_url": Option(str, null=True),
        "concurrency": _COUNT,
        "requests_per_minute": Option(float, _ABOVE_0, null=True),
        "deadline": Option(float, _ABOVE_0),
        "retries": Option(int, 0),
        "max_reply_bytes": Option(int, 1024),
        "constrain": Option(bool),
        "extra_body": Option(dict, null=True),
        "api_key_env": Option(str),
    },
    "hf": {
        "dtype": Option(str),
        "batch_size": _COUNT,
        "chat_template_kwargs": Option(dict),
        "cut_loops": Option(bool),
    },
    "vllm": {
        "constrain": Option(bool),
        "dtype": Option(str),
        "max_model_len": _COUNT,
        "batch_size": _COUNT,
        "max_num_seqs": _COUNT,
        "tensor_parallel_size": _COUNT,
        "gpu_memory_utilization": Option(float, _ABOVE_0, 1),
        "kv_cache_gib": Option(float, _ABOVE_0),
        "enforce_eager": Option(bool),
        "chat_template_kwargs": Option(dict),
        "cut_loops": Option(bool),
    },
    "python": {},
    "world": {},
    "random": {},
    "stored": {},
}
"""By kind; those of `openai` are the fields of `Endpoint`."""


CALLED_WITH: dict[str, tuple[tuple[str, ...], ...]] = {
    "judge": (("fields",),),
    "spoiler": (("fields",),),
    "rewriter": (("prefix", "suffix"), ("fields",)),
}
"""What a `python:` function is given, without names, by the role of who is asked: the first of these that it takes."""


def check_options(kind: str, options: Mapping[str, Any], role: str = "judge") -> None:
    """Refuses what whoever is asked does not have, or cannot be.

    Args:
        kind: a key of `OPTIONS`: what stands before the colon in `openai:MODEL`, `world` or `random`.
        options: as a run file's `options` or the command line's `--judge-option` give them.
        role: how messages call who is asked.

    Raises:
        ConfigError: an option that there is not, of another type, or out of its range; a password or a key in one.
    """
    known = OPTIONS[kind]
    for name, value in options.items():
        if name not in known:
            raise ConfigError(
                f"{role} option {name!r}",
                reason=f"a {role} `{kind if kind == 'world' else kind + ':...'}` does not have it",
                remedy=f"{did_you_mean(name, list(known))}its options: {', '.join(known) or 'none'}",
            )
        wanted, given = known[name], type(value)
        if value is None and wanted.null:
            continue
        if given is not wanted.type and (wanted.type, given) != (float, int):
            raise ConfigError(
                f"{role} option {name}={value!r}",
                reason=f"it is {given.__name__}, not {wanted.type.__name__}",
                remedy=f"give a value like {wanted.type()!r}",
            )
        if isinstance(value, int | float) and not (wanted.least <= value <= wanted.most and abs(value) != math.inf):
            low = "above 0" if wanted.least == _ABOVE_0 else f"{wanted.least:g} or more"
            raise ConfigError(
                f"{role} option {name}={value}",
                reason=f"it is {low}" + (f" and at most {wanted.most:g}" if wanted.most < math.inf else ""),
                remedy="give a number in that range",
            )
    if kind == "openai":
        key_variable = options.get("api_key_env", "OPENAI_API_KEY")
        check_variable(key_variable)
        check_address(options.get("base_url"), key_variable)
        check_no_key(options.get("extra_body"), key_variable)


def check_address(base_url: str | None, key_variable: str) -> None:
    """Refuses an address that is none, or that holds a password.

    Raises:
        ConfigError: see above.
    """
    if base_url is None:
        return
    held = base_url.rpartition("@")[0].partition("://")
    address = base_url.replace(held[2] or held[0], HIDDEN, 1) if "@" in base_url else base_url
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:  # of a port
        known = False
    if known and ("@" in parts.netloc or parts.query or parts.fragment):
        what = "a user or a password" if "@" in parts.netloc else "more than an address"
        raise ConfigError(
            f"base_url={address.partition('?')[0].partition('#')[0]!r}",
            reason=f"it holds {what}, which would stand in messages, configurations and pages",
            remedy=f"leave it out, and export {key_variable}=...: the key is sent as a bearer token",
        )
    if not known:
        raise ConfigError(
            f"base_url={address!r}", reason="it is no address", remedy="write http://HOST:PORT/v1, or https://..."
        )


def check_variable(name: str) -> None:
    """Refuses what cannot name an environment variable, without showing it: it is a key by mistake.

    Raises:
        ConfigError: see above.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or without_secrets(name) != name:
        raise ConfigError(
            "api_key_env",
            reason="it is no name of an environment variable; a key would stand in the files of every run",
            remedy="export the key in a variable, and give that variable's name",
        )


def check_no_key(extra_body: Any, key_variable: str, name: str = "extra_body") -> None:
    """Refuses fields of a request that are named like a key, at any depth, and values that are one of this process's.

    Raises:
        ConfigError: there is one.
    """
    fields: list[tuple[str, Any]] = []
    if isinstance(extra_body, Mapping):
        fields = [(str(key), value) for key, value in extra_body.items()]
    elif isinstance(extra_body, list | tuple):
        fields = [(str(place), value) for place, value in enumerate(extra_body)]
    for key, value in fields:
        is_key = isinstance(value, str) and (bool(KEY_NAME.fullmatch(key)) or without_secrets(value) != value)
        if is_key:
            raise ConfigError(
                f"{name}.{key}",
                reason="a key in a configuration would stand in the files of every run",
                remedy=f"leave it out, and export {key_variable}=... (`api_key_env` names another variable)",
            )
        check_no_key(value, key_variable, f"{name}.{key}")
