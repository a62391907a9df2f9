"""One page over evaluations, with its tables as LaTeX and Markdown and its figures as PDF beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ixt_rl.data.fields import question_text
from ixt_rl.errors import DataError
from ixt_rl.evaluation.contamination.page import FIGURES
from ixt_rl.evaluation.records.record import Record
from ixt_rl.files import read_json, write_text
from ixt_rl.report.evaluations.changes import changes
from ixt_rl.report.evaluations.checkpoints import costs_of
from ixt_rl.report.evaluations.evaluated import EvaluatedModel, differs, read_evaluations, settings_table, suites_of
from ixt_rl.report.evaluations.figures import EvaluationFigures
from ixt_rl.report.evaluations.pairs import MOST_PAIRED, ModelDifference, differences, pairs_of
from ixt_rl.report.evaluations.papers import paper_rows
from ixt_rl.report.evaluations.tables import head, latex, markdown, percent
from ixt_rl.report.templates import report_environment

_SHOWN = 10  # samples of a suite where one model is shown
_LONGEST = 1500  # characters of a text
_SMALLEST = 0.0001


def build_evaluation_page(folders: Sequence[Path], out: Path) -> Path:
    """Writes the page, and into the folder `<out without .html>-files` table.tex, table.md and figures as PDF.

    Args:
        folders: of `ixt-rl eval`, one or more; where they are checkpoints of one run, in the order of training.
        out: the HTML file.

    Returns:
        `out`.

    Raises:
        ConfigError, DataError: see `read_evaluations`.
    """
    models = read_evaluations(folders)
    beside = out.with_suffix("").with_name(f"{out.stem}-files")
    figures = EvaluationFigures(beside)
    papers = paper_rows(models)
    write_text(beside / "table.md", markdown(models, papers))
    write_text(beside / "table.tex", latex(models, papers))
    compared = differences(models)
    costs = costs_of(models)
    settings = settings_table(models)
    page = (
        report_environment(Path(__file__).parent, percent=percent, p=_p, cut=_cut, question=question_text, gold=_gold)
        .get_template("evaluations.html.j2")
        .render(
            title=models[0].label if len(models) == 1 else f"{len(models)} models on the same suites",
            models=models,
            incomplete=[
                f"{one.label}: {one.results['samples']['done']:,} of {one.results['samples']['asked']:,} samples"
                for one in models
                if not one.results["complete"]
            ],
            unlike=[name for name, values in settings if differs((name, values)) and name != "ixt_rl"],
            heads=_heads(models),
            scores=[(one.label, _scores(one, suites_of(models))) for one in models],
            papers=papers,
            drawn=figures.scores(models),
            metrics=_metrics(models),
            notes=[
                (one.label, suite, note)
                for one in models
                for suite, found in one.results["suites"].items()
                for note in found.get("notes", [])
            ]
            + _not_compared(models),
            harnesses=_harnesses(models),
            differences={pair: [one for one in compared if one.pair == pair] for pair in _pairs(compared)},
            tests=len(compared),
            first_only=len(models) > MOST_PAIRED,
            drawn_differences=figures.differences(compared),
            curves=figures.curves(models, costs) if costs else [],
            changed=[(f"{a.label} → {b.label}", changes(a, b)) for a, b in pairs_of(models)],
            samples=_samples(models[0]) if len(models) == 1 else [],
            contaminated=[(one.label, found) for one in models if (found := _contamination(one.path))],
            settings=settings,
            beside=beside.name,
        )
    )
    write_text(out, page, errors="replace")  # a model may emit lone surrogates
    return out


def _not_compared(models: Sequence[EvaluatedModel]) -> list[tuple[str, str, str]]:
    """(model, suite, note) where a suite's questions are others than those of the same ids in another model's."""
    return [
        (
            after.label,
            suite,
            f"{apart} of its questions have ids that are those of other questions in {before.label}'s: "
            "these are not compared.",
        )
        for before, after in pairs_of(models)
        for suite in after.tables
        if suite in before.tables and (apart := len(before.questions_apart(after, suite)))
    ]


def _heads(models: Sequence[EvaluatedModel]) -> list[tuple[str, str]]:
    """(suite, metric) of each column."""
    suites = suites_of(models)
    heads = [(suite, head(models, suite).removeprefix(suite).strip()) for suite in suites]
    return [*heads, *([("average", "")] if len(suites) > 1 else [])]


def _pairs(found: Sequence[ModelDifference]) -> list[str]:
    return list(dict.fromkeys(one.pair for one in found))


def _scores(one: EvaluatedModel, suites: Sequence[str]) -> list[Mapping[str, Any] | None]:
    found = [one.first_metric(suite)[1]["left_out"] if suite in one.results["suites"] else None for suite in suites]
    if len(suites) < 2:
        return found
    whole = all(suite in one.results["suites"] for suite in suites)  # an average over fewer is another one
    return [*found, one.results["average"]["left_out"] if whole and "average" in one.results else None]


def _metrics(models: Sequence[EvaluatedModel]) -> list[dict[str, Any]]:
    """A row a suite, model and metric; `first` is the leading one of its suite and model, `begins` of its suite."""
    return [
        {
            "suite": suite,
            "label": one.label,
            "metric": metric,
            "bounds": bounds,
            "found": one.results["suites"][suite],
            "first": number == 0,
            "begins": number == 0 and place == 0,
        }
        for suite in suites_of(models)
        for place, one in enumerate(one for one in models if suite in one.results["suites"])
        for number, (metric, bounds) in enumerate(one.results["suites"][suite]["metrics"].items())
    ]


def _harnesses(models: Sequence[EvaluatedModel]) -> list[dict[str, Any]]:
    """What `--as` found: a row a suite, model and harness."""
    return [
        {
            "suite": suite,
            "label": one.label,
            "harness": harness,
            "score": theirs["score"],
            "ours": one.first_metric(suite)[1]["left_out"],
            "of": theirs.get("of", ""),
            "quirks": theirs.get("quirks", []),
            "differs": theirs["differs"],
            "rows": [_differing(one, suite, row) for row in theirs["rows"]],
        }
        for one in models
        for suite, found in one.results["suites"].items()
        for harness, theirs in found.get("as", {}).items()
    ]


def _differing(one: EvaluatedModel, suite: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample that another harness judges otherwise, with what we made of it."""
    record = one.samples[suite][row["id"]][row["sample"]]
    ours = f"{row['ours']}: {record.extracted or 'no answer found'} ({record.why})"
    theirs = f"{row['theirs']}: {row['extracted'] or 'no answer found'} ({row['why']})"
    return {"id": row["id"], "sample": row["sample"], "gold": _gold(record.gold), "ours": ours, "theirs": theirs}


def _samples(one: EvaluatedModel) -> list[tuple[str, list[Record]]]:
    return [
        (suite, [samples[0] for samples in list(questions.values())[:_SHOWN]])
        for suite, questions in one.samples.items()
    ]


def _contamination(folder: Path) -> dict[str, Any] | None:
    """What `ixt-rl contamination --out FOLDER` wrote into the evaluation's folder."""
    try:
        found = read_json(folder / FIGURES)
    except DataError:  # a page of its own says more
        return None
    return {"overlap": None, "probe": None, **found} if found else None


def _p(value: float | None) -> str:
    return "–" if value is None else f"< {_SMALLEST:g}" if value < _SMALLEST else f"{value:.2g}"


def _cut(text: Any) -> str:
    text = "–" if text is None else str(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def _gold(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
