"""How every figure of the library looks, and how it is saved: as PNG, and as SVG for a page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1b1f24"
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "lines.linewidth": 1.8,
}
_PIXELS_PER_POINT = 1.45  # of a figure on the page, so that four panels fill its width


@dataclass(frozen=True)
class Drawing:
    """A saved figure: its name, title, one sentence of caption, and inline SVG."""

    name: str
    title: str
    caption: str
    svg: str


def inline_svg(fig: Figure, name: str) -> str:
    """The figure as an SVG element whose ink follows the page's text colour."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids that nothing refers to, and every figure repeats
    width = round(fig.get_figwidth() * 72 * _PIXELS_PER_POINT)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf'<svg \1style="max-width: {width}px"', svg, count=1)
    svg = re.sub(r"(\d+px) [^;\"]*?sans-serif", r"\1 system-ui, sans-serif", svg)
    return svg.replace(INK, "currentColor")


def grid(rows: int, columns: int, width: float = 2.85, sharey: bool = False) -> tuple[Figure, list[list[Axes]]]:
    """A figure and its axes as [row][column]; `width` is inches a column."""
    fig = Figure(figsize=(max(width * columns, 4.5), 2.35 * rows + 0.45), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, sharey=sharey).tolist()
