"""The part of summary.json on test questions in the training data, as far as it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COUNTS = ("questions", "exact", "whole", "half", "any")


def overlaps_of(value: Any, left_out: list[str]) -> list[dict[str, Any]]:
    """The entries that a page can show; "overlap" goes to `left_out` where one cannot be.

    Args:
        value: of the key `overlap`, as `ixt_rl.run.overlap.note_overlap` measures it.
        left_out: names of damaged keys.
    """
    entries = value if isinstance(value, list) else [value]
    whole = [entry for entry in entries if _is_whole(entry)]
    if len(whole) < len(entries):
        left_out.append("overlap")
    return whole


def grouped(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of one table as one: what of their training texts was found and read is the same.

    Args:
        entries: as `overlaps_of` gives them.

    Returns:
        `overlap` as it is, `trained` in words, `left_out` of all, in the order of the first of each.
    """
    tables: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for entry in entries:
        same = next((members for overlap, members in tables if overlap == entry["overlap"]), None)
        if same is None:
            tables.append((entry["overlap"], [entry]))
        else:
            same.append(entry)
    return [
        {
            "overlap": overlap,
            "trained": said_of_lines([entry["trained"] for entry in members]),
            "left_out": list(dict.fromkeys(path for entry in members for path in entry["left_out"])),
        }
        for overlap, members in tables
    ]


def said_of_lines(lines: Sequence[Sequence[str]]) -> str:
    """Stages that led to one model each, in words: [a, b], [a, c] -> "a, then b or c"."""
    common = 0
    while len(lines) > 1 and all(len(line) > common + 1 and line[common] == lines[0][common] for line in lines):
        common += 1
    if not common or len(lines) == 1:
        return ("; or " if any(len(line) > 1 for line in lines) else " or ").join(", ".join(line) for line in lines)
    return f"{', '.join(lines[0][:common])}, then " + " or ".join(", ".join(line[common:]) for line in lines)


def _is_whole(entry: Any) -> bool:
    found = entry.get("overlap") if isinstance(entry, dict) else None
    if not isinstance(found, dict) or not all(isinstance(entry.get(name), list) for name in ("trained", "left_out")):
        return False
    suites, read = found.get("suites"), found.get("read")
    return (
        isinstance(suites, dict)
        and isinstance(read, dict)
        and all(isinstance(counts, dict) and isinstance(counts.get("words"), int) for counts in read.values())
        and isinstance(found.get("n"), int)
        and isinstance(found.get("normalisation"), str)
        and isinstance(found.get("whole"), bool)
        and all(_is_counts(counts) for counts in suites.values())
    )


def _is_counts(counts: Any) -> bool:
    return (
        isinstance(counts, dict)
        and all(isinstance(counts.get(name), int) for name in _COUNTS)
        and "mean_share" in counts
        and isinstance(counts["mean_share"], float | int | None)
    )
