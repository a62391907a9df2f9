"""The environment of OpenRLHF, if there is one: which Python, and which versions beside those that were tried."""

from __future__ import annotations

import sys

from rich.table import Table

from ixt_rl.errors import BackendMissing
from ixt_rl.integrations.openrlhf.environment import PINS, openrlhf_python, versions_of


def openrlhf_table() -> Table | None:
    """A row a package; None where there is no environment beside this one."""
    python = openrlhf_python()
    if python == sys.executable:
        return None
    grid = Table("OpenRLHF's environment", "version", "tried with", "as tried")
    try:
        found = versions_of(python)
    except BackendMissing as error:
        grid.add_row(python, "-", "-", f"[red]no[/]: {error.reason.splitlines()[0]}")
        return grid
    grid.add_row(python, "", "", "")
    for name, pin in PINS.items():
        version = found.get(name)
        same = (version or "").partition("+")[0] == pin
        grid.add_row(name, version or "-", pin, "[green]yes[/]" if same else "[yellow]no[/]")
    return grid
