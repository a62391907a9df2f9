"""The figures of the page: on it as SVG, beside it as PDF. Each is narrow, so that it reads on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from ixt_rl.files import replacing
from ixt_rl.pages.drawing import INK, RC, Drawing, inline_svg
from ixt_rl.report.evaluations.evaluated import EvaluatedModel, suites_of
from ixt_rl.report.evaluations.pairs import ModelDifference
from ixt_rl.report.figures.plotter import legend, run_looks

_WIDTH = 4.6  # inches
_BLUE, _GREY = "#0072B2", "#777777"
_AXES = {
    "tokens": "trained tokens", "flops": "FLOPs", "seconds": "seconds", "rollouts": "rollouts", "step": "updates",
}  # fmt: skip


class EvaluationFigures:
    """Draws into `folder`, which is made if missing."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def scores(self, models: Sequence[EvaluatedModel]) -> Drawing:
        """A dot with its interval for each model, suite below suite."""
        suites, looks = suites_of(models), run_looks([one.label for one in models])
        with matplotlib.rc_context(RC):
            fig = self._new(0.9 + len(suites) * (0.24 + 0.13 * len(models)))
            ax = fig.add_subplot()
            for place, suite in enumerate(suites):
                for number, one in enumerate(models):
                    if suite not in one.results["suites"]:
                        continue
                    found = one.first_metric(suite)[1]["left_out"]
                    if found["value"] is None:
                        continue
                    at = place + (number - (len(models) - 1) / 2) * 0.7 / max(len(models), 2)
                    look = looks[one.label]
                    if found["low"] is not None:
                        ax.plot([100 * found["low"], 100 * found["high"]], [at, at], color=look.colour, linewidth=1.4)
                    ax.plot([100 * found["value"]], [at], color=look.colour, marker=look.marker, markersize=4.5)
            ax.set_yticks(range(len(suites)), suites)
            ax.set_ylim(len(suites) - 0.4, -0.6)
            ax.grid(axis="y", visible=False)
            ax.set_xlabel("% right, 95 % interval")
            ax.xaxis.set_major_locator(MaxNLocator(6))
            if len(models) > 1:
                legend(fig, [_handle(label, looks[label].colour, looks[label].marker) for label in looks])
            return self._save(fig, "scores", "Scores with their intervals", "Undecided answers left out.")

    def differences(self, found: Sequence[ModelDifference]) -> Drawing | None:
        """Each difference with its interval, a panel a pair; None where there is none."""
        shown = [one for one in found if one.found.low is not None and one.found.high is not None]
        if not shown:
            return None
        pairs = {pair: [one for one in shown if one.pair == pair] for pair in dict.fromkeys(one.pair for one in shown)}
        with matplotlib.rc_context(RC):
            fig = self._new(0.5 + 0.35 * len(pairs) + 0.21 * len(shown))
            heights = [1.5 + len(rows) for rows in pairs.values()]
            axes = fig.subplots(len(pairs), 1, squeeze=False, sharex=True, height_ratios=heights)
            for (pair, rows), ax in zip(pairs.items(), axes[:, 0], strict=True):
                for place, one in enumerate(rows):
                    colour = _BLUE if one.shown else _GREY
                    ax.plot([100 * (one.found.low or 0), 100 * (one.found.high or 0)], [place, place], color=colour)
                    ax.plot([100 * one.found.difference], [place], color=colour, marker="o", markersize=4.5)
                ax.set_yticks(range(len(rows)), [one.suite for one in rows])
                ax.set_ylim(len(rows) - 0.5, -0.5)
                ax.axvline(0, color=INK, linewidth=0.9, linestyle=":")
                ax.grid(axis="y", visible=False)
                ax.set_title(_short(pair, 56), loc="left", fontsize=8.5)
            axes[-1, 0].set_xlabel("difference in points, 95 % interval")
            said = "On the same questions. Blue: told apart from 0 after Holm's correction."
            return self._save(fig, "differences", "Paired differences", said)

    def curves(self, models: Sequence[EvaluatedModel], costs: Sequence[Mapping[str, float]]) -> list[Drawing]:
        """Scores against each of the costs, a line a suite."""
        suites = suites_of(models)
        looks = run_looks(suites)
        drawings = []
        for cost in costs[0]:
            order = sorted(range(len(models)), key=lambda at: costs[at][cost])  # used at once
            with matplotlib.rc_context(RC):
                fig = self._new(2.9)
                ax = fig.add_subplot()
                for suite in suites:
                    at = [i for i in order if suite in models[i].results["suites"]]
                    points = [(costs[i][cost], models[i].first_metric(suite)[1]["left_out"]) for i in at]
                    points = [point for point in points if point[1]["value"] is not None]
                    if not points:
                        continue
                    xs, ys = [x for x, _ in points], [100 * found["value"] for _, found in points]
                    ends = [
                        [
                            y - 100 * f["low"] if f["low"] is not None else 0
                            for y, (_, f) in zip(ys, points, strict=True)
                        ],
                        [
                            100 * f["high"] - y if f["high"] is not None else 0
                            for y, (_, f) in zip(ys, points, strict=True)
                        ],
                    ]
                    look = looks[suite]
                    ax.errorbar(
                        xs,
                        ys,
                        yerr=ends,
                        color=look.colour,
                        marker=look.marker,
                        markersize=4,
                        elinewidth=0.8,
                        capsize=2,
                    )
                ax.set_xlabel(_AXES[cost])
                ax.set_ylabel("% right")
                ax.xaxis.set_major_locator(MaxNLocator(5))
                if cost in ("tokens", "flops"):
                    ax.xaxis.set_major_formatter(EngFormatter())
                legend(fig, [_handle(suite, looks[suite].colour, looks[suite].marker) for suite in suites])
                drawings.append(self._save(fig, f"{cost}", f"Scores against {_AXES[cost]}", ""))
        return drawings

    def _new(self, height: float) -> Figure:
        return Figure(figsize=(_WIDTH, min(height, 40.0)), layout="constrained")

    def _save(self, fig: Figure, name: str, title: str, caption: str) -> Drawing:
        with replacing(self.folder / f"{name}.pdf") as file, matplotlib.rc_context({"pdf.fonttype": 42}):
            fig.savefig(file, format="pdf", facecolor="white", metadata={"CreationDate": None})
        fig.set_layout_engine("none")  # the layout is done: the SVG takes it as it is
        return Drawing(name, title, caption, inline_svg(fig, name))


def _handle(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=5, label=_short(label))


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
