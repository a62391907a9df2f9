"""The scores of all models as LaTeX and as Markdown: a row a model, a column a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ixt_rl.report.evaluations.evaluated import EvaluatedModel, suites_of
from ixt_rl.report.evaluations.papers import PaperRow

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def markdown(models: Sequence[EvaluatedModel], papers: Sequence[PaperRow]) -> str:
    """A pipe table, percent with 95 % intervals, and a line that says so."""
    heads, rows = _cells(models, papers, lambda low, high: f" [{low}, {high}]")
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*shown, "", _note(models)]) + "\n"


def latex(models: Sequence[EvaluatedModel], papers: Sequence[PaperRow]) -> str:
    """A tabular with rules of the package booktabs."""
    heads, rows = _cells(models, papers, lambda low, high: f" [{low}, {high}]")
    body = ["{}" + " & ".join(map(_escaped, row)) + r" \\" for row in rows]  # \\ takes a [ behind it for a length
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            f"% {_note(models)}",
            f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            " & ".join(map(_escaped, heads)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _cells(models: Sequence[EvaluatedModel], papers: Sequence[PaperRow], interval) -> tuple[list[str], list[list[str]]]:
    suites = suites_of(models)
    averaged = len(suites) > 1
    heads = ["model", *(head(models, suite) for suite in suites), *(["average"] if averaged else [])]
    rows = []
    for one in models:
        figures: list[Mapping[str, Any] | None] = [
            one.first_metric(suite)[1]["left_out"] if suite in one.results["suites"] else None for suite in suites
        ]
        if averaged:
            figures.append(one.results["average"]["left_out"] if "average" in one.results else None)
        rows.append([one.label, *(_cell(figure, interval) for figure in figures)])
    printed: dict[str, dict[str, float]] = {}
    for paper in papers:
        printed.setdefault(f"{paper.row} ({paper.paper.partition(':')[0]})", {})[paper.column] = paper.printed
    for name, values in printed.items():
        shown = [
            f"{values[column]:.1f}" if column in values else "–" for column in [*suites, "average"][: len(heads) - 1]
        ]
        rows.append([name, *shown])
    return heads, rows


def head(models: Sequence[EvaluatedModel], suite: str) -> str:
    """The suite with its metric, `amc23 avg@32`; the metric is left out where models have different ones."""
    metrics = {one.first_metric(suite)[0] for one in models if suite in one.results["suites"]}
    return f"{suite} {metrics.pop()}" if len(metrics) == 1 else suite


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _cell(figure: Mapping[str, Any] | None, interval) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return percent(figure["value"])
    return percent(figure["value"]) + interval(percent(figure["low"]), percent(figure["high"]))


def _note(models: Sequence[EvaluatedModel]) -> str:
    presets = ", ".join(dict.fromkeys(str(one.settings["preset"]["name"]) for one in models))
    return f"Percent, 95 % intervals over questions; undecided answers left out; preset {presets}."


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text).replace("–", "--")
