"""The command line: `ixt-rl`."""

from __future__ import annotations

from ixt_rl.cli.main import main

__all__ = ["main"]
