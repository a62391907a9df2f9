"""contamination.html, contamination.json, overlap.jsonl: what was found, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ixt_rl.evaluation.contamination.counts import sentence
from ixt_rl.files import read_json, read_rows, write_json, write_rows, write_text
from ixt_rl.pages.templates import environment

FIGURES, ROWS, PAGE = "contamination.json", "overlap.jsonl", "contamination.html"

_SHOWN = 50  # questions of a suite on the page
_LONGEST = 1200  # characters of a text on the page


def write_findings(
    out: Path, overlap: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]], probe: Mapping[str, Any] | None
) -> Path:
    """Writes the files into `out`, which is made if missing; returns the page's path.

    What is None is kept as an earlier call has written it.

    Args:
        overlap: of `summary_of`, or None.
        rows: of `rows_of`.
        probe: of `probe_summary` with `model`, `graded` and `said` (engine, version, dtype), or None.
    """
    out.mkdir(parents=True, exist_ok=True)
    if overlap is not None:
        write_rows(out / ROWS, rows)
    before = read_json(out / FIGURES) or {}
    overlap, probe = overlap or before.get("overlap"), probe or before.get("probe")
    rows = rows or (read_rows(out / ROWS) if overlap is not None else [])
    figures = {name: found for name, found in (("overlap", overlap), ("probe", probe)) if found is not None}
    write_json(out / FIGURES, figures, indent=1)
    shown: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -row["share"]):
        of = shown.setdefault(row["suite"], [])
        if len(of) < _SHOWN:
            of.append(row)
    page = (
        environment(Path(__file__).parent, cut=_cut)
        .get_template("overlap_and_probe.html.j2")
        .render(
            title="Contamination",
            overlap=overlap,
            sentences=[sentence(name, found, overlap["n"]) for name, found in overlap["suites"].items()]
            if overlap
            else [],
            shown=shown,
            probe=probe,
        )
    )
    write_text(out / PAGE, page, errors="replace")
    return out / PAGE


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
