"""Wished feedback against what training shows, before anything loads. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import ixt_rl
from ixt_rl.errors import ConfigError


@cache
def _shipped() -> dict[str, Any]:
    """conditioning/feedback.yaml, read as a file: importing that package would import torch."""
    file = Path(ixt_rl.__file__).parent / "conditioning" / "feedback.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def check_wishes(wishes: Mapping[str, int | str | None], template: str | Mapping[str, Any] | None) -> None:
    """Refuses wishes on files that say less than the template writes: nobody there knows the rest.

    Args:
        wishes: name: a level, words, or None.
        template: name of a shipped feedback template, or its fields; None: no feedback is shown.

    Raises:
        ConfigError: a wish without a domain, and a template with scores or critiques.
    """
    fields = _shipped()["templates"].get(template, {}) if isinstance(template, str) else template or {}
    missing = [name for name in ("scores", "critique") if fields.get(name)]
    for name, wish in wishes.items():
        if missing and wish is not None and not _names_domain(wish):
            raise incomplete_wish(f"wishes.{name}={wish!r}", missing)


def incomplete_wish(shown: str, missing: Sequence[str]) -> ConfigError:
    """The error of a wish that has no `missing`."""
    domains = ", ".join(_shipped()["domains"])
    return ConfigError(
        f"{shown} with a feedback template that writes {' and '.join(missing)}",
        reason="a level alone is a prefix that no training has seen, and only a world knows what its judge would write "
        "beside it",
        remedy=f"name the domain that was judged ({domains}), as in `math, best`; or train with template: levels",
    )


def _names_domain(wish: int | str) -> bool:
    items = wish.split(",") if isinstance(wish, str) else []
    return any(" ".join(item.split()).lower() in _shipped()["domains"] for item in items)
