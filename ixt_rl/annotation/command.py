"""From the words of `ixt-rl annotate` to a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ixt_rl.annotation.annotate import RaySettings, annotate
from ixt_rl.annotation.console import Terminal, verdict
from ixt_rl.annotation.job import Job
from ixt_rl.annotation.judges import parse_judge
from ixt_rl.annotation.source import SourceSpec
from ixt_rl.errors import ConfigError
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.types import SamplingParams


def run(source: str, out: Path, words: Mapping[str, Any]) -> str:
    """Runs the command; `words` are its options by name. Returns the line to end with.

    Raises:
        ConfigError, DataError, BackendMissing: see `annotate`.
    """
    temperature = words["temperature"]
    options = {name: yaml.safe_load(value) for name, value in pairs(words["judge_option"], "--judge-option").items()}
    job = Job(
        rubric=load_rubric(words["rubric"]),
        fields=pairs(words["field"], "--field"),
        judge=parse_judge(words["judge"], options, words["base_url"], words["judge_parameters"]),
        sampling=SamplingParams(words["max_tokens"], temperature, seed=words["seed"] if temperature else None),
        repeats=words["repeats"],
        fraction=words["fraction"],
        prefix=words["prefix"],
        format=words["format"],
        shard_rows=words["shard_rows"],
        prices=words["prices"],
        cache=words["cache"],
    )
    ray = None
    if words["engine"] == "ray":
        ray = RaySettings(words["workers"], words["cpus_per_worker"], words["gpus_per_worker"], words["ray_address"])
    with Terminal() as terminal:
        summary = annotate(
            job,
            SourceSpec(source, words["name"], words["split"]),
            out,
            check_sample=words["check_sample"],
            retry_failed=words["retry_failed"],
            ray=ray,
            watch=terminal,
        )
    return f"{verdict(summary)}\nreport: {out / 'annotation.html'}"


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
