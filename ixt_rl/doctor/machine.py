"""What this machine has for a run: cores, threads and how they wait, units for matrix products. Loads no torch."""

from __future__ import annotations

import platform
from pathlib import Path

from rich.table import Table

import ixt_rl
from ixt_rl.threads import allowed_cores, cpu_quota, spin_settings, usable_threads

MATRIX_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_fp16", "asimd", "sve", "bf16", "svebf16")
"""Flags of x86 and of ARM, as Linux writes them; a product in bfloat16 gains where a flag with `bf16` is."""


def machine_table(root: Path = Path("/")) -> Table:
    """What was found, one row a fact."""
    grid = Table("machine", "found")
    for name, found in machine_facts(root):
        grid.add_row(name, found)
    return grid


def machine_facts(root: Path = Path("/")) -> list[tuple[str, str]]:
    """(what, found) of the file system at `root` and of this process."""
    cores, quota, threads = allowed_cores(), cpu_quota(root), usable_threads()
    model, flags = _processor(root / "proc/cpuinfo")
    units = [name for name in MATRIX_UNITS if name in flags]
    return [
        ("processor", f"{model or platform.processor() or platform.machine()}"),
        ("cores", f"{cores} that this process may use" + ("" if quota is None else f", a quota of {quota:g}")),
        ("threads", f"{threads}" + _why(threads, cores)),
        ("idle threads", _spinning()),
        ("matrix units", ", ".join(units) or "none that the system tells of"),
    ]


def _why(threads: int, cores: int) -> str:
    return "" if threads == cores else ", by the quota or OMP_NUM_THREADS"


def _spinning() -> str:
    said = ", ".join(f"{name}={value}" for name, value in spin_settings().items())
    return f"{said}; not of this process, in which torch came before ixt_rl" if ixt_rl.TORCH_CAME_FIRST else said


def _processor(file: Path) -> tuple[str, set[str]]:
    """Name and flags of the first processor that Linux lists; nothing on other systems."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", set()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    return facts.get("model name", ""), set((facts.get("flags") or facts.get("Features") or "").split())
