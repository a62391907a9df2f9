"""What the pages of all jobs share: templates, the table of costs, and how numbers and texts are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ixt_rl.pages import templates
from ixt_rl.pages.numbers import engineering

_SHOWN = 1200  # characters of a text


def grouped(count: float) -> str:
    """12345 -> `12,345`."""
    return f"{count:,.0f}"


def cut(text: str) -> str:
    """As much of a text as a page shows."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."


def figures(summary: Mapping[str, Any], parameters: int | None) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of the table of costs; `parameters` of the model."""
    spent = summary["spent"]
    rows = [
        ("tokens spent", grouped(spent["tokens"]),
         f"read {grouped(spent['prompt_tokens'])}, written {grouped(spent['completion_tokens'])}"),
        ("tokens in the rows", grouped(summary["row_tokens"]),
         "of the replies that each row rests on; equal documents were asked once and count each time here"),
        ("requests", grouped(spent["requests"]),
         f"{grouped(spent['cached'])} more were answered by the cache; {grouped(spent['retries'])} further attempts"),
        ("failed, refused", f"{grouped(spent['failed'])}, {grouped(spent['refused'])}", "requests without an answer"),
        ("cost", f"{spent['cost']:.4g}", "in the currency of the prices given"),
    ]  # fmt: skip
    for name, meaning in (
        ("truncated", "replies that reached the most tokens of one: undecided, unless a second one was better"),
        ("looped", "replies that said the same again and again and were cut early: undecided likewise"),
    ):
        if spent[name]:
            rows.append((name, grouped(spent[name]), meaning))
    if spent["uncounted"]:
        rows.append(
            ("uncounted", grouped(spent["uncounted"]), "answers whose tokens the server did not count, or wrongly")
        )
    if spent["flops"] is not None:
        known = engineering(parameters or 0)
        rows.append(("FLOPs", engineering(spent["flops"]), f"2 x {known} parameters x tokens spent"))
    sessions = "one session" if spent["sessions"] == 1 else f"{spent['sessions']} sessions"
    rows.append(("time", f"{spent['wall_seconds']:.0f} s", f"in {sessions}; a killed one's last 5 s are not counted"))
    rows += [("note", "", note) for note in spent["notes"]]
    return rows


def environment(beside: str) -> Environment:
    """Templates that lie beside a file, of this folder, and of the reports of runs."""
    return templates.environment(
        Path(beside).parent,
        Path(__file__).parent,
        count=grouped,
        share=lambda value: "–" if value is None else f"{value:.1%}",
        figure=lambda value: "–" if value is None else f"{value:.2f}",
        said=_said,
    )


def _said(value: Any) -> str:
    """A setting as YAML has it on one line, `none` where there is none."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
