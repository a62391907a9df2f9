"""The figures of a report.

Every figure is drawn once and saved twice: as PNG for use elsewhere, and as SVG for the page, where its
ink becomes the page's text colour, so that it reads on a light and on a dark ground.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from ixt_rl.files import replacing
from ixt_rl.methods.registry import find
from ixt_rl.methods.spec import MethodSpec
from ixt_rl.pages.drawing import INK, RC, Drawing, grid, inline_svg
from ixt_rl.pages.numbers import engineering
from ixt_rl.report.figures.series import (
    Value,
    _series,
    _xy,
    budget,
    evaluations,
    mean_series,
    plain,
    rolling_mean,
    window,
)
from ixt_rl.report.run_folder import RunRecord, StageRecord, cost, number, unique

# Okabe and Ito's palette and some darker ones, told apart with every common colour vision; markers and dashes say it
# again.
_PALETTE = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#999999", "#6B4C1E", "#332288")
_FIXED = {"GRPO": "#0072B2", "RAFT": "#D55E00"}
TITLE_CHARACTERS = 36
"""Of a line above a panel of the least width."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_PHASES = {
    "rollout": "#56B4E9",
    "posterior": "#009E73",
    "score": "#E69F00",
    "train": "#0072B2",
    "annotate": "#CC79A7",
}


@dataclass(frozen=True)
class Look:
    """How a label is drawn, in every figure of a page."""

    colour: str
    marker: str


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """One colour and marker a label; GRPO and RAFT always have the same."""
    spare = [label for label in labels if label not in _FIXED]
    colours = (*_PALETTE, *(colour for label, colour in _FIXED.items() if label not in labels))
    return {
        label: Look(_FIXED.get(label) or colours[spare.index(label) % len(colours)], _marker(i))
        for i, label in enumerate(labels)
    }


def _marker(index: int) -> str:
    """Shifted by one in every round, so that colour and marker together tell more than eight labels apart."""
    return _MARKERS[(index + index // len(_MARKERS)) % len(_MARKERS)]


class Plotter:
    """Draws a run's figures into `folder`, which is made if missing."""

    def __init__(self, run: RunRecord, folder: Path):
        self.run, self.folder = run, folder
        self.looks = looks(run.labels)
        folder.mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------------------------ figures

    def curves(self, view: str) -> Drawing | None:
        """Accuracies of every stage of a view, against rollouts (first row) and FLOPs (second row)."""
        stages = self.stages(view)
        strict = self.has(stages, "eval", "sampled/strict")
        panels = (
            [("sampled/strict", "sampled, strict"), ("sampled/checked", "sampled, checked")]
            + [("greedy/strict", "greedy, strict"), ("told/strict", "told the answer, strict")]
            if strict
            else [("sampled/checked", "sampled, checked"), ("greedy/checked", "greedy, checked")]
            + [("told/checked", "told the answer, checked")]
        )
        caption = "Held-out problems; step 0 is the model that the stage started from."
        return self.accuracies(stages, panels, "rollouts", (f"curves-{view}", f"Accuracy, view {view}", caption))

    def accuracies(
        self, stages: list[StageRecord], panels: list[tuple[str, str]], first_x: str, words: tuple[str, str, str],
        ylabel: str = "share of problems",
    ) -> Drawing | None:  # fmt: skip
        """Evaluation metrics (key, title) against `first_x` (first row) and FLOPs; words: file, title, caption."""
        panels = [panel for panel in panels if self.has(stages, "eval", panel[0])]
        axes_x = [x for x in (first_x, "flops") if any(number(r.get(x)) for s in stages for r in self.rows(s, "eval"))]
        if not panels or not axes_x:
            return None
        name, title, caption = words
        with matplotlib.rc_context(RC):
            fig, axes = grid(len(axes_x), len(panels), sharey=True)
            for i, x in enumerate(axes_x):
                for j, (key, panel_title) in enumerate(panels):
                    ax = axes[i][j]
                    for stage in stages:
                        self.line(ax, stage, "eval", x, plain(key), markers=True)
                    ax.set_title(panel_title if i == 0 else "")
                    x_axis(ax, x)
                bounded = shares(axes[i])
                if bounded:
                    low, high = axes[i][0].get_ylim()
                    axes[i][0].set_ylim(max(low, -0.02), min(high, 1.02))
                axes[i][0].set_ylabel(ylabel if bounded else ylabel.replace("share of", "mean over"))
            legend(fig, [self.handle(stage.label) for stage in stages])
            if len(self.seeds(stages)) > 1:
                caption += " Bold: mean over seeds; thin: each seed."
            return self.save(fig, name, title, caption)

    def method(self, spec: MethodSpec, view: str) -> Drawing | None:
        """The panels of a method's own; None where no stage of the view has any of their metrics."""
        stages = [s for s in (*self.stages(view), *self.document_stages(view)) if like(s) is spec]
        panels = [p for p in spec.report.panels if any(self.has(stages, "train", key) for key, _, _ in p.lines)]
        if not panels:
            return None
        x = budget(stages[0])
        with matplotlib.rc_context(RC):
            fig, axes = grid(1, len(panels))
            for ax, panel in zip(axes[0], panels, strict=True):
                for stage in stages:
                    for key, dash, _ in panel.lines:
                        self.line(ax, stage, "train", x, plain(key), dash=dash)
                ax.set_title(fill(panel.title, TITLE_CHARACTERS))
                x_axis(ax, x)
                if "share" in panel.title:
                    share_axis(ax)
                if panel.reference is not None:
                    ax.axhline(panel.reference, color=INK, linewidth=0.9, linestyle=":", zorder=1)
                drawn = [line for line in panel.lines if line[2] and self.has(stages, "train", line[0])]
                if len(drawn) > 1:
                    named = [_sample(dash, name) for _, dash, name in drawn]
                    low, high = ax.get_ylim()
                    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
                    ax.set_ylim(low, high + 0.28 * (high - low))  # room for the legend, and no share above 1 beside it
                    ax.legend(handles=named, fontsize=8, loc="upper right", ncols=len(named))
            legend(fig, [self.handle(stage.label, marker=False) for stage in stages])
            caption = f"{spec.report.caption} {self.smoothing(stages)}".strip()
            title = spec.report.title + (f", view {view}" if view else "")
            return self.save(fig, f"{spec.type}-{view}", title, caption)

    def health(self, view: str) -> Drawing | None:
        """What the training rollouts looked like."""
        stages = self.stages(view)

        def unreasoned(row: dict) -> float | None:
            reasoned = number(row.get("rollout/reasoned"))
            return None if reasoned is None else 1 - reasoned

        panels: list[tuple[str, str, Value]] = [
            ("mean reward", "reward", plain("reward")),
            ("share of groups of equal rewards", "frac_reward_zero_std", plain("frac_reward_zero_std")),
            ("kept share of rollouts", "rollout/kept", plain("rollout/kept")),
            ("lucky share of the right ones", "rollout/lucky_of_kept", plain("rollout/lucky_of_kept")),
            ("share without reasoning", "rollout/reasoned", unreasoned),
            ("completion length (tokens)", "completions/mean_length", plain("completions/mean_length")),
            ("entropy (nats a token)", "entropy", plain("entropy")),
            ("gradient norm", "grad_norm", plain("grad_norm")),
        ]
        panels = [panel for panel in panels if self.has(stages, "train", panel[1])]
        if not panels:
            return None
        columns = min(3, len(panels))
        with matplotlib.rc_context(RC):
            fig, axes = grid(-(-len(panels) // columns), columns, width=3.7)
            flat = [ax for row in axes for ax in row]
            for ax, (title, _, value) in zip(flat, panels, strict=False):
                for stage in stages:
                    self.line(ax, stage, "train", "rollouts", value)
                ax.set_title(title)
                if "share" in title:
                    share_axis(ax)
                x_axis(ax, "rollouts")
            for ax in flat[len(panels) :]:
                ax.remove()
            legend(fig, [self.handle(stage.label, marker=False) for stage in stages])
            return self.save(fig, f"health-{view}", f"Training health, view {view}", self.smoothing(stages))

    def pretraining(self) -> Drawing | None:
        """Loss and token accuracy of the pretraining stages."""
        stages = [stage for stage in self.run.stages if stage.role == "base" and not stage.documents]
        panels = [("loss (nats a token)", "loss"), ("token accuracy", "mean_token_accuracy")]
        panels = [panel for panel in panels if self.has(stages, "train", panel[1])]
        if not panels:
            return None
        colours = looks([stage.name for stage in stages])
        with matplotlib.rc_context(RC):
            fig, axes = grid(1, len(panels), width=4.5)
            for ax, (title, key) in zip(axes[0], panels, strict=True):
                for stage in stages:
                    points = [
                        (r["step"], v) for r in self.rows(stage, "train") if (v := number(r.get(key))) is not None
                    ]
                    if points:
                        ax.plot(*zip(*points, strict=True), color=colours[stage.name].colour)
                ax.set_title(title)
                ax.set_xlabel("step")
            if len(stages) > 1:
                legend(fig, [Line2D([], [], color=colours[s.name].colour, label=s.name) for s in stages])
            return self.save(fig, "pretraining", "Pretraining", "Next-token prediction on the world's documents.")

    def flops(self) -> Drawing | None:
        """FLOPs of each trained stage by phase."""
        stages = [stage for stage in self.run.trained_stages if cost(self.run, stage, "flops")]
        totals = {p: [cost(self.run, stage, f"flops/{p}") or 0.0 for stage in stages] for p in _PHASES}
        phases = [phase for phase, found in totals.items() if any(found)]
        if not phases:
            return None
        with matplotlib.rc_context(RC):
            fig = Figure(figsize=(9.5, 0.8 + 0.34 * len(stages)), layout="constrained")
            ax = fig.add_subplot()
            several = len(self.run.views) > 1
            names = [f"{stage.label}, {stage.view}" if several else stage.label for stage in stages]
            left = [0.0] * len(stages)
            for phase in phases:
                widths = totals[phase]
                ax.barh(range(len(stages)), widths, left=left, label=phase, color=_PHASES[phase], height=0.7)
                left = [a + b for a, b in zip(left, widths, strict=True)]
            ax.set_yticks(range(len(stages)), names)
            ax.invert_yaxis()
            ax.grid(axis="y", visible=False)
            ax.xaxis.set_major_formatter(EngFormatter())
            ax.set_xlabel("FLOPs of one seed")
            legend(fig, None)
            return self.save(fig, "flops", "FLOPs by phase", self._flops_caption())

    def prompt_lengths(self) -> Drawing | None:
        """Histograms of prompt lengths, one for each distinct data set."""
        found: dict[str, tuple[str, list]] = {}
        for stage in self.run.stages:
            bars = _histogram(stage)
            if len(bars) > 1:
                found.setdefault(repr(bars), (stage.view or stage.name, bars))
        if not found:
            return None
        with matplotlib.rc_context(RC):
            fig, axes = grid(1, len(found), width=4.5)
            for ax, (view, bars) in zip(axes[0], found.values(), strict=True):
                edges = [edge for edge, _ in bars]
                steps = [b - a for a, b in pairwise(edges)]
                widths = [*steps, steps[-1]]
                ax.bar(edges, [count for _, count in bars], width=widths, align="edge", color="#0072B2", alpha=0.85)
                ax.set_title(view)
                ax.set_xlabel("prompt length (tokens)")
                ax.set_ylabel("prompts")
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_major_locator(MaxNLocator(integer=True))
            return self.save(fig, "prompt-lengths", "Prompt lengths", "Before any are dropped or cut.")

    # ------------------------------------------------------------------------------ parts

    def stages(self, view: str) -> list[StageRecord]:
        """Online stages of a view that left rows."""
        return [stage for stage in self.run.online_stages if stage.view == view and self.rows(stage)]

    def document_stages(self, view: str) -> list[StageRecord]:
        """Stages on documents of a view that left rows."""
        return [stage for stage in self.run.document_stages if stage.view == view and self.rows(stage)]

    def suffix_stages(self, view: str) -> list[StageRecord]:
        """SIP's stages of a view that left rows."""
        return [stage for stage in self.run.suffix_stages if stage.view == view and self.rows(stage)]

    def rows(self, stage: StageRecord, phase: str | None = None) -> list[dict]:
        phases = [phase] if phase else ["train", "eval"]
        return [row for p in phases for rows in self.run.stage_rows(stage, p).values() for row in rows]

    def seeds(self, stages: list[StageRecord]) -> list[str]:
        return unique(str(row.get("seed")) for stage in stages for row in self.rows(stage))

    def has(self, stages: list[StageRecord], phase: str, key: str) -> bool:
        return any(number(row.get(key)) is not None for stage in stages for row in self.rows(stage, phase))

    def handle(self, label: str, marker: bool = True) -> Line2D:
        look = self.looks[label]
        return Line2D([], [], color=look.colour, marker=look.marker if marker else None, markersize=5, label=label)

    def line(
        self, ax: Axes, stage: StageRecord, phase: str, x: str, value: Value, dash: Any = "-", markers: bool = False
    ) -> None:
        """Each seed thin, the mean over seeds bold (training rows smoothed)."""
        rows = evaluations(self.run, stage) if phase == "eval" else self.run.stage_rows(stage, phase)
        seeds = [series for one in rows.values() if (series := _series(one, x, value))]
        look = self.looks[stage.label]
        smooth = phase == "train"
        if smooth or len(seeds) > 1:
            for series in seeds:
                ax.plot(*_xy(series), color=look.colour, linewidth=0.7, alpha=0.35, linestyle=dash)
        mean = mean_series(seeds)
        if not mean:
            return
        xs, ys = _xy(mean)
        shown = rolling_mean(ys, window(len(ys))) if smooth else ys
        marker = look.marker if markers or len(xs) == 1 else None  # one point draws no line
        ax.plot(xs, shown, color=look.colour, linestyle=dash, marker=marker, markersize=4)

    def smoothing(self, stages: list[StageRecord]) -> str:
        longest = max((len(r) for s in stages for r in self.run.stage_rows(s, "train").values()), default=0)
        of = "the mean over seeds" if len(self.seeds(stages)) > 1 else "the seed"
        if window(longest) == 1:
            return "Thin: each seed; bold: their mean." if len(self.seeds(stages)) > 1 else ""
        return f"Thin: as logged; bold: rolling mean of {of} over {window(longest)} logged steps."

    def _flops_caption(self) -> str:
        totals = [
            cost(self.run, stage, "flops") for stage in self.run.stages if stage.role == "base" and not stage.documents
        ]
        known = [total for total in totals if total]
        said = "Up to the last logged step of training."
        if self.run.document_stages or self.run.suffix_stages:
            said += " A stage on documents or suffixes includes those it goes on from."
        return f"{said} Pretraining, not shown: {engineering(sum(known))} FLOPs." if known else said

    def save(self, fig: Figure, name: str, title: str, caption: str) -> Drawing:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
        with replacing(self.folder / f"{name}.png") as file:
            fig.savefig(file, format="png", dpi=130, facecolor="white")
        fig.set_layout_engine("none")  # the layout is done: the SVG takes it as it is
        return Drawing(name, title, caption, inline_svg(fig, name))


def run_looks(names: Sequence[str]) -> dict[str, Look]:
    """One colour and marker a run."""
    colours = ("#0072B2", "#D55E00", *_PALETTE)
    return {name: Look(colours[i % len(colours)], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(names)}


def x_axis(ax: Axes, x: str) -> None:
    """Labels the x axis, `rollouts`, `step`, `tokens` or `flops`."""
    ax.set_xlabel({"rollouts": "rollouts", "step": "updates", "tokens": "trained tokens", "flops": "FLOPs"}[x])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    if x in ("tokens", "flops"):
        ax.xaxis.set_major_formatter(EngFormatter())


def shares(row: Iterable[Axes]) -> bool:
    """Whether all that is drawn is a share, and not the mean of a reward of one's own."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for ax in row for line in ax.lines] or [np.zeros(0)])
    return not ((values < 0) | (values > 1)).any()


def share_axis(ax: Axes) -> None:
    """A share starts at 0, and a constant one is no reason to zoom into nothing."""
    top = min(1.02, max(ax.get_ylim()[1], 0.05))
    ax.set_ylim(-0.02 * top, top)


def legend(fig: Figure, handles: list[Line2D] | None) -> None:
    """One legend above all axes; None takes what the axes are labelled with."""
    given = {} if handles is None else {"handles": handles}
    labels = [str(handle.get_label()) for handle in handles or fig.axes[0].get_legend_handles_labels()[0]]
    inches = 0.75 + 0.075 * max(map(len, labels), default=0)  # of the widest entry
    columns = max(1, min(6, int(fig.get_figwidth() / inches)))
    fig.legend(loc="outside upper left", ncols=columns, fontsize=9, **given)


def _histogram(stage: StageRecord) -> list[tuple[float, float]]:
    lengths = stage.summary.get("prompt_lengths") or {}
    pairs = [(number(edge), number(count)) for edge, count in lengths.get("histogram") or []]
    return [(edge, count) for edge, count in pairs if edge is not None and count is not None]


def like(stage: StageRecord) -> MethodSpec | None:
    """The method of a stage; of a trainer of a user's own, the one that it is like."""
    spec = find(stage.type, stage.config.get)
    return spec and (spec.like or spec)


def _sample(dash: Any, name: str) -> Line2D:
    """A line of a legend."""
    return Line2D([], [], color=INK, linestyle=dash, label=name)
