"""Jinja as every page of the library uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def environment(*folders: Path, **filters: Callable[..., Any]) -> Environment:
    """Templates of `folders` and of this one, with `filters` and the filter `svg` for drawings."""
    found = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["svg"] = lambda drawing: Markup(drawing.svg)  # made here, from escaped text
    found.filters.update(filters)
    return found
