"""What the commands of all jobs share between their words and a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ixt_rl.corpus.workers import RaySettings
from ixt_rl.errors import ConfigError
from ixt_rl.judging.opening import JudgeSpec, parse_judge
from ixt_rl.types import SamplingParams


def asked(words: Mapping[str, Any], role: str) -> JudgeSpec:
    """Who is asked, by the options `--judge`, `--judge-option` and `--judge-parameters`, or those of a `role`."""
    options = {
        name: yaml.safe_load(value) for name, value in pairs(words[f"{role}_option"], f"--{role}-option").items()
    }
    return parse_judge(words[role], options, words["base_url"], words[f"{role}_parameters"], role)


def sampling(words: Mapping[str, Any]) -> SamplingParams:
    """How answers are sampled; a greedy one has no seed."""
    temperature = words["temperature"]
    return SamplingParams(words["max_tokens"], temperature, seed=words["seed"] if temperature else None)


def output(words: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that every `BatchJob` has."""
    return {name: words[name] for name in ("format", "shard_rows", "prices", "cache")}


def ray(words: Mapping[str, Any]) -> RaySettings | None:
    """Where the backend runs with `--engine ray`."""
    if words["engine"] != "ray":
        return None
    return RaySettings(words["workers"], words["cpus_per_worker"], words["gpus_per_worker"], words["ray_address"])


def pairs(entries: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` entries as a mapping.

    Raises:
        ConfigError: an entry without `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name or not value or name in found:
            raise ConfigError(
                f"{option} {entry}",
                reason=f"{name!r} is given twice" if name in found else "it is not NAME=VALUE",
                remedy=f"write {option} NAME=VALUE, once a name",
            )
        found[name] = value
    return found
