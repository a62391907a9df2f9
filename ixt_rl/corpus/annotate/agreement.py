"""Does the judge agree with itself? A sample asked once more, and of pairs, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any


def agreement(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares over a checked sample.

    Returns:
        documents: asked again.
        values: by name (`level` and the axes): both (decided twice), same (share of those with equal values), near
            (share at most 1 apart), difference (mean absolute), once (decided only once of two times).
        pairs, consistent: pairs decided in both orders, and the share with the same label in both.
    """
    values = {}
    for name in found[0]["first"] if found else ():
        pairs = [(row["first"][name], row["again"][name]) for row in found]
        gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        values[name] = {
            "both": len(gaps),
            "same": fmean(gap == 0 for gap in gaps) if gaps else None,
            "near": fmean(gap <= 1 for gap in gaps) if gaps else None,
            "difference": fmean(gaps) if gaps else None,
            "once": sum((a is None) != (b is None) for a, b in pairs),
        }
    orders = [row["consistent"] for row in found if row["consistent"] is not None]
    return {
        "documents": len(found),
        "values": values,
        "pairs": len(orders),
        "consistent": fmean(orders) if orders else None,
    }
