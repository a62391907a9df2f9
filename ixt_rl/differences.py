"""Where two plain values differ, and how a message shows it."""

from __future__ import annotations

import json
from typing import Any

_SHOWN = 80  # characters of a value
_NAMED = 3  # differences


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


def told(there: Any, here: Any) -> str:
    """Where two plain values differ, in words, the first few; "" where they do not: `a.b: 1 there, 2 now; ...`."""
    named = [f"{'.'.join(path)}: {short(a)} there, {short(b)} now" for path, a, b in differences(there, here)]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return "; ".join(named[:_NAMED]) + more
