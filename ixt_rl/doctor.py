"""Which packages are usable here: each is really imported, in a process of its own, under a deadline."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from rich.table import Table

from ixt_rl.backends import BACKENDS, Backend, is_installed

PYTHON_VERSIONS = ">=3.11"


@dataclass(frozen=True)
class Finding:
    """What was found out about one package.

    Args:
        name: the package.
        core: whether nothing works without it.
        usable: imported, and within the supported versions.
        version: installed version, None if it is not installed.
        supported: supported range.
        reason: why it is not usable, "" if it is.
        repair: the command that repairs it, "" if nothing is to repair.
    """

    name: str
    core: bool
    usable: bool
    version: str | None
    supported: str
    reason: str = ""
    repair: str = ""


def examine(timeout_s: float) -> list[Finding]:
    """Imports every backend, a few at a time.

    Args:
        timeout_s: seconds after which an import is given up.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda backend: examine_backend(backend, timeout_s), BACKENDS.values()))
    return [_python(), *found]


def examine_backend(backend: Backend, timeout_s: float) -> Finding:
    """Looks a backend up, imports it in a child process, and compares its version."""
    version = backend.version()
    reason = _why_not(backend, version, timeout_s)
    return Finding(
        backend.name,
        backend.core,
        not reason,
        version,
        backend.versions,
        reason,
        backend.install_command if reason else "",
    )


def _why_not(backend: Backend, version: str | None, timeout_s: float) -> str:
    """Why a backend is not usable, or ""."""
    if not is_installed(backend.name):
        return "not installed" + (f"; {backend.note}" if backend.note else "")
    if version is not None and not SpecifierSet(backend.versions).contains(version, prereleases=True):
        return f"version {version} is outside {backend.versions}"
    command = [sys.executable, "-c", backend.probe or f"import {backend.module}"]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"the import took more than {timeout_s:g} s"
    if child.returncode == 0:
        return ""
    lines = child.stderr.strip().splitlines()
    return f"import fails: {lines[-1]}" if lines else f"import ends with status {child.returncode}"


def _python() -> Finding:
    version = platform.python_version()
    usable = SpecifierSet(PYTHON_VERSIONS).contains(version)
    reason = "" if usable else "too old"
    repair = "" if usable else "install Python 3.11 or later, then: make PYTHON=python3.11 test"
    return Finding("python", True, usable, version, PYTHON_VERSIONS, reason, repair)


def table(findings: list[Finding]) -> Table:
    """The findings, one row a package."""
    grid = Table("package", "usable", "version", "supported", "why not")
    for finding in findings:
        name = finding.name if finding.core else f"{finding.name} (optional)"
        mark = "[green]yes[/]" if finding.usable else ("[red]no[/]" if finding.core else "[yellow]no[/]")
        grid.add_row(name, mark, finding.version or "-", finding.supported, finding.reason)
    return grid
