"""Where two plain values differ, and how a message shows it."""

from __future__ import annotations

import json
from typing import Any

_SHOWN = 80  # characters of a value


def differences(there: Any, here: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, Any]]:
    """(keys and indices on the way, value there, value here) wherever plain values differ; None where one has none."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = list(dict.fromkeys([*there, *here]))
        return [d for key in keys for d in differences(there.get(key), here.get(key), (*path, str(key)))]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return [d for at, pair in pairs for d in differences(*pair, (*path, str(at)))]
    return [] if there == here else [(path, there, here)]


def short(value: Any) -> str:
    """A value as JSON, cut to a readable length."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
