"""Which packages are usable here: each is really imported, in a child process, under a deadline."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.markup import escape
from rich.table import Table

from ixt_rl.backends import BACKENDS, Backend, is_installed

if TYPE_CHECKING:
    from ixt_rl.doctor.pool import Step

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


# Results go to the pipe that was stdout; what the packages print goes to stderr, so they cannot mix.
_CHILD = """
import json, os, sys
report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name, probe in json.loads(sys.argv[1]):
    print("started", json.dumps(name), file=report, flush=True)
    reason = ""
    try:
        exec(probe, {})
    except BaseException as error:
        while error.__cause__ is not None:
            error = error.__cause__
        reason = f"import fails: {type(error).__name__}: {error}".splitlines()[0]
    print("ended", json.dumps([name, reason]), file=report, flush=True)
"""


def examine(timeout_s: float) -> list[Finding]:
    """Imports every backend: the core in one process, as a run does, each optional package in its own.

    Args:
        timeout_s: seconds after which a process is given up.
    """
    groups = [[backend for backend in BACKENDS.values() if backend.core]]
    groups += [[backend] for backend in BACKENDS.values() if not backend.core]
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = pool.map(lambda group: examine_group(group, timeout_s), groups)
        return [_python(), *(finding for group in found for finding in group)]


def examine_group(group: list[Backend], timeout_s: float) -> list[Finding]:
    """Looks backends up, compares their versions, and imports one after the other in a child process."""
    reasons = {backend.name: _visibly_wrong(backend) for backend in group}
    waiting = [backend for backend in group if not reasons[backend.name]]
    while waiting:  # a crash or a hang ends the child: it is put down to one package, the others go on in a new one
        done = _import_in_child(waiting, timeout_s)
        reasons |= done
        waiting = [backend for backend in waiting if backend.name not in done]
    return [
        Finding(
            backend.name,
            backend.core,
            not reasons[backend.name],
            backend.version(),
            backend.versions,
            reasons[backend.name],
            backend.install_command if reasons[backend.name] else "",
        )
        for backend in group
    ]


def _visibly_wrong(backend: Backend) -> str:
    """Why a backend cannot be usable, as far as that shows without importing it; else ""."""
    if not is_installed(backend.name):
        return "not installed" + (f"; {backend.note}" if backend.note else "")
    version = backend.version()
    if version is not None and not SpecifierSet(backend.versions).contains(version, prereleases=True):
        return f"version {version} is outside {backend.versions}"
    if backend.beside:
        other = Requirement(backend.beside)
        try:
            found = metadata.version(other.name)
        except metadata.PackageNotFoundError:
            return f"{other.name} beside it is not installed"
        if not other.specifier.contains(found, prereleases=True):
            return f"{other.name} {found} beside it is outside {other.specifier}"
    return ""


def _import_in_child(backends: list[Backend], timeout_s: float) -> dict[str, str]:
    """Why each backend that was tried cannot be imported ("" if it can); at least one was tried."""
    probes = [(backend.name, backend.probe or f"import {backend.module}") for backend in backends]
    command = [sys.executable, "-c", _CHILD, json.dumps(probes)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output, _ = child.communicate(timeout=timeout_s)
        end = f"the import ends the process with status {child.returncode}"
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        end = f"the import took more than {timeout_s:g} s"
    current, reasons = backends[0].name, {}
    for line in output.splitlines():
        event, _, value = line.partition(" ")
        if event == "started":
            current = json.loads(value)
        elif event == "ended":
            name, reason = json.loads(value)
            reasons[name] = reason
    if len(reasons) < len(backends):
        reasons[current] = end
    return reasons


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


def pool_table(steps: list[Step]) -> Table:
    """What the check of the pool found, one row a step."""
    marks = {True: "[green]yes[/]", False: "[red]no[/]", None: "not tried"}
    grid = Table("step", "works", "seconds", "what was found")
    for step in steps:
        grid.add_row(step.name, marks[step.ok], "-" if step.ok is None else f"{step.seconds:.1f}", escape(step.detail))
    return grid
