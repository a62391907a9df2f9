"""The report of a run, and the comparison of several: one page each, with nothing outside it.

run folder -> read_run -> results, drawings, samples -> report.html.j2 -> report.html (and plots/*.png)
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.files import write_text
from ixt_rl.methods.registry import SPECS
from ixt_rl.pages.drawing import Drawing
from ixt_rl.report import arms
from ixt_rl.report import side_by_side as compare
from ixt_rl.report.figures import documents as arm_plots
from ixt_rl.report.figures import suffixes as sip_plots
from ixt_rl.report.figures.plotter import Plotter
from ixt_rl.report.glossary import glossary
from ixt_rl.report.overlaps import grouped
from ixt_rl.report.results import (
    ViewTable,
    claims,
    expectations,
    figure,
    missing_stages,
    results,
    shown_columns,
    status,
)
from ixt_rl.report.run_folder import RunRecord, finals, number, read_run, unique
from ixt_rl.report.samples import sample_pairs
from ixt_rl.report.sentences import arms as arm_words
from ixt_rl.report.sentences import describe, listed, uncertainty
from ixt_rl.report.templates import report_environment
from ixt_rl.report.told import posterior_tables, told_tables


def build_report(folder: Path) -> Path:
    """Writes plots/*.png and report.html into a run's folder; returns the page's path.

    Args:
        folder: a run folder; files may be missing or incomplete, and the page says so.

    Raises:
        DataError: there is no run in `folder`.
    """
    folder = Path(folder)
    run = read_run(folder)
    groups = results(run)
    plotter = Plotter(run, folder / "plots")
    views = run.views
    page = (
        report_environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            title=run.name,
            status=status(run),
            sentence=describe(run),
            arms=arm_words(run),
            expectations=expectations(run.summary),
            claims=claims(run.summary),
            groups=groups,
            columns=shown_columns(groups),
            spread_shown=any(c.spread is not None for g in groups for r in g.rows for c in r.cells.values()),
            seed_tables=_seed_tables(groups),
            same_start=bool(run.online_stages) and not run.document_stages and not run.suffix_stages,
            uncertainty=uncertainty(run),
            missing=missing_stages(run),
            notes=_notes(run),
            told=told_tables(run),
            posteriors=posterior_tables(run),
            overlaps=grouped(run.summary.get("overlap") or []),
            curves=_present(
                draw(view)
                for view in views
                for draw in (
                    partial(arm_plots.curves, plotter),
                    partial(arm_plots.heldout, plotter),
                    partial(arm_plots.pairs, plotter),
                    plotter.curves,
                    partial(sip_plots.continuations, plotter),
                    partial(sip_plots.said_again, plotter),
                    partial(sip_plots.heldout, plotter),
                    partial(sip_plots.comparisons, plotter),
                    partial(sip_plots.against_originals, plotter),
                )
            ),
            efficiency=[_efficiency(run, plotter, view) for view in views if _has_arms(run, view)],
            temperatures=[
                (found, arm_plots.temperature(plotter, found, view))
                for view in views
                if (found := arms.temperatures(run, view)) is not None
            ],
            choices=_present(
                draw(plotter, view)
                for view in views
                for draw in (sip_plots.choices, sip_plots.scores, sip_plots.changes)
            ),
            methods=_present(plotter.method(spec, view) for view in views for spec in SPECS if spec.report.panels),
            health=_present(
                draw(view) for view in views for draw in (partial(arm_plots.training, plotter), plotter.health)
            ),
            costs=_present([plotter.flops()]),
            pretraining=_present([plotter.pretraining()]),
            pretrained=_pretrained(run),
            made_rows=_made_rows(run),
            prompt_lengths=_prompt_lengths(run),
            prompt_plots=_present([plotter.prompt_lengths()]),
            samples=sample_pairs(run),
            glossary=glossary({key for row in run.rows for key in row}),
        )
    )
    return _write(folder / "report.html", page)


def build_comparison(folders: list[Path], out: Path) -> Path:
    """Writes one page that sets several runs of the same stages side by side; returns `out`.

    Args:
        folders: run folders, two or more.
        out: the HTML file to write.

    Raises:
        DataError: fewer than two folders, or one of them holds no run.
    """
    if len(folders) < 2:
        raise DataError(
            f"{len(folders)} run folder(s) to compare",
            reason="a comparison needs at least two",
            remedy="name two or more run folders, or use build_report for one",
        )
    runs = compare.named([read_run(Path(folder)) for folder in folders], [Path(folder) for folder in folders])
    groups = compare.side_by_side(runs)
    page = (
        report_environment()
        .get_template("comparison.html.j2")
        .render(
            title="Comparison of " + ", ".join(runs),
            runs=[
                (name, status(run), describe(run), _link(Path(folder) / "report.html", Path(out)))
                for (name, run), folder in zip(runs.items(), folders, strict=True)
            ],
            expectations=compare.expectation_rows(runs, expectations),
            claims=compare.expectation_rows(runs, claims),
            groups=groups,
            tables=compare.tables(groups),
            differences=compare.differences(runs),
            alone=compare.share_nothing(runs),
            unshared=compare.unshared_stages(runs),
            unreadable=[(name, text) for name, run in runs.items() for text in run.unreadable],
            curves=compare.curves(runs),
            glossary=glossary({key for run in runs.values() for row in run.rows for key in row}),
        )
    )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    return _write(Path(out), page)


_SEED_TABLES = (
    ("sampled/right", "sampled/win_rate"),
    ("sampled/strict", "sampled/checked"),
    ("sampled/strict", "greedy/strict"),
)
"""Pairs of metrics; the first whose second one was measured is shown by seed."""


def _has_arms(run: RunRecord, view: str) -> bool:
    return len([stage for stage in run.document_stages if stage.view == view]) > 1


def _efficiency(run: RunRecord, plotter: Plotter, view: str) -> dict[str, Any]:
    tables = arms.efficiency_tables(run, view)
    return {
        "view": view,
        "tables": tables,
        "plain": arms.plain_arm(run, view),
        "readings": arms.readings(tables),
        "bands": unique(m.band for t in tables for _, row in t.rows for pair in row for m in pair if m.band),
        "drawing": arm_plots.efficiency(plotter, tables, view) if tables else None,
    }


def _seed_tables(groups: list[ViewTable]) -> list[tuple[str, str, list[str], list[tuple[str, list[str]]]]]:
    """(view, the two metrics, seeds, rows of both) of the views with more than one seed."""
    tables = []
    for group in groups:
        rows = [row for row in group.rows if len(row.seeds) > 1]
        seeds = unique(str(seed) for row in rows for seed in row.seeds)
        values = [found or {} for row in rows for found in row.seeds.values()]
        keys = next(
            (pair for pair in _SEED_TABLES if any(number(found.get(pair[1])) is not None for found in values)),
            _SEED_TABLES[-1],
        )
        cells = [
            (row.label, [" / ".join(figure(k, number((row.seeds.get(s) or {}).get(k))) for k in keys) for s in seeds])
            for row in rows
        ]
        if rows:
            tables.append((group.view, " / ".join(keys), seeds, cells))
    return tables


def _notes(run: RunRecord) -> list[tuple[str, str]]:
    """(stages, what was noted of all of them)."""
    found: list[tuple[str, str]] = []
    for stage in run.stages:
        found += [(stage.name, str(note)) for note in stage.summary.get("notes") or []]
        if number(stage.summary.get("reward_errors")):
            found.append((stage.name, f"{stage.summary['reward_errors']} samples were excluded: the reward failed"))
        golds = stage.summary.get("golds") or {}
        if number(golds.get("dropped")):
            reasons = "; ".join(f"{count} x {reason}" for reason, count in golds.get("reasons", {}).items())
            found.append(
                (stage.name, f"{golds['dropped']} rows left out: their gold answers cannot be judged ({reasons})")
            )
    stages: dict[str, dict[str, None]] = {}
    for stage_name, note in found:
        stages.setdefault(note, {})[stage_name] = None
    return [(", ".join(names), note) for note, names in stages.items()]


def _pretrained(run: RunRecord) -> list[str]:
    lines = []
    for stage in run.stages:
        rows = run.stage_rows(stage, "train")
        if stage.role != "base" or stage.documents or not (rows or stage.summary):
            continue
        last = next(iter(rows.values()))[-1] if rows else finals(run, stage)[0]
        said = [
            f"{name} {value:.3f}"
            for name, key in (("loss", "loss"), ("token accuracy", "mean_token_accuracy"))
            if (value := number(last.get(key))) is not None
        ]
        lines.append(f"{stage.name}: " + ", ".join([f"{last.get('step', '?')} steps", *said]))
    return lines


def _made_rows(run: RunRecord) -> list[dict[str, Any]]:
    """What stages that make rows say of them, as far as it is whole: by whom, counts, costs, and their own page."""
    found = []
    for stage in run.stages:
        told = stage.summary.get("corpus") or {}
        figures = told.get("figures")
        rows = [row for row in figures if isinstance(row, list) and len(row) == 3] if isinstance(figures, list) else []
        if told:
            texts = {key: str(told.get(key, "")) for key in ("page", "by", "said")}
            found.append({"name": stage.name, "type": stage.type, "figures": rows, **texts})
    return found


def _prompt_lengths(run: RunRecord) -> list[tuple[str, dict[str, Any]]]:
    """Distinct prompt-length statistics, with the names of the stages that have them."""
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for stage in run.stages:
        lengths = stage.summary.get("prompt_lengths")
        if lengths:
            found.setdefault(repr(lengths), ([], lengths))[0].append(stage.name)
    return [(listed(names), lengths) for names, lengths in found.values()]


def _link(report: Path, page: Path) -> str | None:
    """Where `report` is, seen from `page`; None where there is none."""
    return os.path.relpath(report, page.parent) if report.is_file() else None


def _present(drawings) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]


def _write(path: Path, page: str) -> Path:
    write_text(path, page, errors="replace")  # a model may emit lone surrogates
    return path
