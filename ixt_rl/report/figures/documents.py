"""The figures of a run on documents: scores against tokens and FLOPs, efficiency, temperature, training."""

from __future__ import annotations

import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from ixt_rl.evaluation.efficiency import Match
from ixt_rl.pages.drawing import INK, RC, Drawing, grid
from ixt_rl.report.arms import Table, Temperatures, score_name
from ixt_rl.report.figures.plotter import Plotter, legend, like, share_axis, x_axis
from ixt_rl.report.figures.series import plain
from ixt_rl.report.run_folder import StageRecord, number

_CURVES = (
    ("sampled/strict", "sampled, strict"),
    ("greedy/strict", "greedy, strict"),
    ("sampled@none/strict", "no prefix, sampled"),
    ("sampled@worst/strict", "worst prefix, sampled"),
)
_CHECKED = (("sampled/checked", "sampled, checked"), ("greedy/checked", "greedy, checked"))
_TRAINING = (
    ("loss", "loss (nats a token)"),
    ("mean_token_accuracy", "token accuracy"),
    ("grad_norm", "gradient norm"),
)
_PAIRS = (
    ("pairs/margin", "margin (nats)"),
    ("pairs/accuracy", "share with the chosen ahead"),
    ("pairs@none/margin", "no prefix, margin (nats)"),
    ("pairs@worst/margin", "worst prefix, margin (nats)"),
)
_SOURCE_LOSS = re.compile(r"heldout/([^/]+)/loss")
_SOURCES = 7  # panels of single sources
_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)


def curves(plotter: Plotter, view: str) -> Drawing | None:
    """Scores of every arm of a view, against trained tokens (first row) and FLOPs (second row)."""
    stages = plotter.document_stages(view)
    strict = any(plotter.has(stages, "eval", key) for key in ("sampled/strict", "greedy/strict"))
    panels = [panel for panel in (_CURVES if strict else _CHECKED) if _is_curve(plotter, stages, panel[0])]
    caption = "Held-out problems, with the best prefix where the title names no other; annotation is in the FLOPs."
    words = (f"documents-{view}", f"Scores{_of(view)}", caption)
    return plotter.accuracies(stages, panels, "tokens", words)


def efficiency(plotter: Plotter, tables: list[Table], view: str) -> Drawing | None:
    """Ratio of FLOPs at matched scores, a panel for each metric: filled with annotation, hollow without."""
    if not any(m.ratio for table in tables for _, found in table.rows for pair in found for m in pair):
        return None
    with matplotlib.rc_context(RC):
        most = max(len(table.arms) for table in tables)
        fig, axes = grid(1, len(tables), width=max(3.9, min(6.0, 0.8 * most)))
        for ax, table in zip(axes[0], tables, strict=True):
            rows = [row for row in table.rows if any(m.ratio for pair in row[1] for m in pair)]
            for index, arm in enumerate(table.arms):
                shift = (index - (len(table.arms) - 1) / 2) * min(0.12, 0.7 / len(table.arms))
                pairs = [(x + shift, found[index]) for x, (_, found) in enumerate(rows)]
                _ratios(plotter, ax, arm, [(x, pair[0]) for x, pair in pairs], filled=True)
                if table.annotated:
                    _ratios(plotter, ax, arm, [(x, pair[1]) for x, pair in pairs], filled=False)
            ax.axhline(1.0, color=INK, linewidth=0.9, linestyle=":", zorder=1)
            ax.set_title(score_name(table.metric))
            ax.set_xlabel("matched score")
            ax.set_xticks(range(len(rows)), [f"{score:g}" for score, _ in rows])
            ax.set_xlim(-0.5, max(len(rows), 1) - 0.5)
            _log_axis(ax)
        axes[0][0].set_ylabel(f"FLOPs of {tables[0].plain} / of the arm")
        handles = [plotter.handle(arm) for arm in dict.fromkeys(arm for table in tables for arm in table.arms)]
        if any(table.annotated for table in tables):
            look: dict[str, Any] = {"color": INK, "linestyle": "none", "marker": "o", "markersize": 5}
            handles += [
                Line2D([], [], **look, label="annotation included"),
                Line2D([], [], **look, markerfacecolor="none", label="without annotation"),
            ]
        legend(fig, handles)
        caption = (
            "Above 1 the arm needs less compute. Bars: the bands of the table; pale: fragile, not to be relied on."
        )
        return plotter.save(fig, f"efficiency-{view}", f"Compute-efficiency{_of(view)}", caption)


def temperature(plotter: Plotter, found: Temperatures, view: str) -> Drawing:
    """Strict share against the sampling temperature, a line for each arm."""
    with matplotlib.rc_context(RC):
        fig, axes = grid(1, 1, width=5.2)
        ax = axes[0][0]
        for name, points in found.rows:
            look = plotter.looks[name]
            at = sorted(points)
            errors = [points[t][1] or 0.0 for t in at]
            ax.errorbar(
                at, [points[t][0] for t in at], yerr=errors if any(errors) else None, color=look.colour,
                marker=look.marker, markersize=4, capsize=2, elinewidth=0.9,
            )  # fmt: skip
        ax.set_xticks(found.temperatures, ["greedy" if t == 0 else f"{t:g}" for t in found.temperatures])
        ax.set_xlabel("temperature")
        ax.set_ylabel("strict share of problems")
        legend(fig, [plotter.handle(name) for name, _ in found.rows])
        caption = "Final evaluations, best prefix. Bars: sample standard deviation over seeds."
        return plotter.save(fig, f"temperature-{view}", f"Temperature{_of(view)}", caption)


def training(plotter: Plotter, view: str) -> Drawing | None:
    """What the training rows say, against trained tokens."""
    stages = plotter.document_stages(view)
    panels = [panel for panel in _TRAINING if plotter.has(stages, "train", panel[0])]
    if not panels or not plotter.has(stages, "train", "tokens"):
        return None
    with matplotlib.rc_context(RC):
        fig, axes = grid(1, len(panels), width=3.7)
        for ax, (key, title) in zip(axes[0], panels, strict=True):
            for stage in stages:
                if key != "loss" or not _draws_its_loss(stage):
                    plotter.line(ax, stage, "train", "tokens", plain(key))
            ax.set_title(title)
            x_axis(ax, "tokens")
        legend(fig, [plotter.handle(stage.label, marker=False) for stage in stages])
        caption = f"Losses are over what an arm trains on, so arms differ in them. {plotter.smoothing(stages)}".strip()
        return plotter.save(fig, f"training-{view}", f"Training on documents{_of(view)}", caption)


def heldout(plotter: Plotter, view: str) -> Drawing | None:
    """Loss on documents that are not trained, over all sources and of each, against trained tokens."""
    stages = plotter.document_stages(view)
    keys = {key for stage in stages for row in plotter.rows(stage, "eval") for key in row}
    sources = sorted(found[1] for key in keys if (found := _SOURCE_LOSS.fullmatch(key)))
    panels = [("heldout/loss", "all sources")] if len(sources) != 1 else []
    panels += [(f"heldout/{name}/loss", name) for name in sources[:_SOURCES]]
    if not sources or not plotter.has(stages, "eval", "tokens"):
        return None
    with matplotlib.rc_context(RC):
        rows = -(-len(panels) // 4)
        fig, axes = grid(rows, min(len(panels), 4), width=3.0)
        for ax, (key, title) in zip([ax for row in axes for ax in row], panels, strict=False):
            for stage in stages:
                plotter.line(ax, stage, "eval", "tokens", plain(key), markers=True)
            ax.set_title(title)
            x_axis(ax, "tokens")
        for row in axes:
            row[0].set_ylabel("nats a token")
        legend(fig, [plotter.handle(stage.label) for stage in stages])
        caption = "Documents set aside by evaluation.holdout, shown without feedback; every token weighs the same."
        if len(sources) > _SOURCES:
            caption += f" The first {_SOURCES} of {len(sources)} sources; the others are in metrics.jsonl."
        return plotter.save(fig, f"heldout-{view}", f"Held-out loss{_of(view)}", caption)


def pairs(plotter: Plotter, view: str) -> Drawing | None:
    """Margins of preference pairs that are not trained, against trained tokens, where they were measured on the way."""
    stages = plotter.document_stages(view)
    panels = [panel for panel in _PAIRS if _is_curve(plotter, stages, panel[0])]
    if not panels:
        return None
    with matplotlib.rc_context(RC):
        fig, axes = grid(1, len(panels), width=3.0)
        for ax, (key, title) in zip(axes[0], panels, strict=True):
            for stage in stages:
                plotter.line(ax, stage, "eval", "tokens", plain(key), markers=True)
            ax.set_title(title)
            x_axis(ax, "tokens")
            if "share" in title:
                share_axis(ax)
        legend(fig, [plotter.handle(stage.label) for stage in stages])
        caption = "Unseen pairs, under the wish of the arm's own where the title names no other."
        return plotter.save(fig, f"pairs-{view}", f"Preference pairs{_of(view)}", caption)


def _draws_its_loss(stage: StageRecord) -> bool:
    """Whether the loss is a method's own, and no mean over tokens: it stands among the method's panels."""
    spec = like(stage)
    return spec is not None and any(key == "loss" for panel in spec.report.panels for key, _, _ in panel.lines)


def _ratios(plotter: Plotter, ax: Axes, arm: str, points: list[tuple[float, Match]], filled: bool) -> None:
    """Ratios with their bands; pale where fragile."""
    look = plotter.looks[arm]
    for x, found in points:
        if found.ratio is None:
            continue
        alpha = 0.35 if found.fragile else 1.0
        if filled and found.low is not None and found.high is not None:
            ax.plot([x, x], [found.low, found.high], color=look.colour, linewidth=1.1, alpha=alpha)
        face = look.colour if filled else "none"
        ax.plot(
            [x], [found.ratio], color=look.colour, marker=look.marker, markersize=5, markerfacecolor=face, alpha=alpha
        )
    known = [(x, found.ratio) for x, found in points if found.ratio is not None]
    if len(known) > 1:
        dash = "-" if filled else "--"
        ax.plot(*zip(*known, strict=True), color=look.colour, linewidth=0.8, alpha=0.5, linestyle=dash, zorder=1)


def _log_axis(ax: Axes) -> None:
    """Ratios on a log axis, as 2 times and half as much are equally far from 1; never wider than 0.1 to 10."""
    low, high = ax.get_ylim()
    ax.set_yscale("log")
    ax.set_ylim(max(0.1, min(low, 0.8)), min(10.0, max(high, 1.25)))
    ax.set_yticks([tick for tick in _TICKS if ax.get_ylim()[0] <= tick <= ax.get_ylim()[1]])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _is_curve(plotter: Plotter, stages: list[StageRecord], key: str) -> bool:
    """Whether a metric was measured on the way too, not only at the end."""
    steps = {
        (r["stage"], r["step"])
        for r in (row for s in stages for row in plotter.rows(s, "eval"))
        if number(r.get(key)) is not None
    }
    return len(steps) > len({name for name, _ in steps})


def _of(view: str) -> str:
    return f", view {view}" if view else ""
