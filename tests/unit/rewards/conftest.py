"""Where the public benchmark files are, for the tests that use them when they are at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def benchmark() -> Callable[[str], list[dict[str, Any]]]:
    """Rows of a JSON-lines file in $IXT_RL_DATA or ../shared/data beside the repository; skips without it."""
    folder = Path(os.environ.get("IXT_RL_DATA", ROOT.parent / "shared" / "data"))

    def rows(name: str) -> list[dict[str, Any]]:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {path}; set IXT_RL_DATA to the folder with the benchmark files")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return rows
