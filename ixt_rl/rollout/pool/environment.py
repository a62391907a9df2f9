"""The environment of an actor that computes: where the library is, and how many threads it has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import ixt_rl
from ixt_rl.redaction import redacted
from ixt_rl.threads import spin_settings


def passed_on(names: Iterable[str]) -> dict[str, str]:
    """Those of the variables that are set here and hold no password: Ray writes its `env_vars` into log files."""
    found = {name: os.environ[name] for name in names if name in os.environ}
    return {name: value for name, value in found.items() if redacted(value) == value}


def actor_environment(cpus: int) -> dict[str, str]:
    """For Ray's `env_vars`, which also reach actors on other machines of a cluster.

    Args:
        cpus: that Ray reserves for the actor; at least one thread computes.
    """
    source = str(Path(ixt_rl.__file__).resolve().parents[1])
    path = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "OMP_NUM_THREADS": str(max(1, cpus)),
        **spin_settings(),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines would all bind to the first cores
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        **passed_on(["HF_ENDPOINT", "HF_HUB_OFFLINE"]),  # huggingface_hub reads them when it is imported
    }
