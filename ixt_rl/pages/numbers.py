"""Numbers as pages show them."""

from __future__ import annotations


def engineering(value: float) -> str:
    """1.23e12 -> `1.23 T`."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"
