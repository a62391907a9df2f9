"""The folder of an evaluation as the page reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ixt_rl.data.fields import question_text
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.records.folder import RESULTS, SETTINGS, EvaluationFolder
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.records.results import results_of, verdict_table
from ixt_rl.evaluation.statistics import VerdictTable
from ixt_rl.files import read_json


@dataclass(frozen=True)
class EvaluatedModel:
    """One folder.

    Args:
        label: what the page calls it: the model, or model and folder where two folders have one model.
        path: the folder.
        settings: evaluation.json.
        results: results.json, or what follows from the records where it was not written yet.
        tables: verdicts by suite.
        samples: records by suite and question, in the order of samples; their ids of tokens are left out.
    """

    label: str
    path: Path
    settings: Mapping[str, Any]
    results: Mapping[str, Any]
    tables: Mapping[str, VerdictTable]
    samples: Mapping[str, Mapping[str, Sequence[Record]]]

    @property
    def model(self) -> str:
        """Where the model lies, or its hub id."""
        return str(self.settings["model"].get("path") or self.settings["model"]["name"])

    def questions_apart(self, other: EvaluatedModel, suite: str) -> list[str]:
        """Ids that both have on a suite, of questions with different texts: rows of two files may have one number."""
        ours, theirs = self.samples[suite], other.samples[suite]
        return [name for name in ours if name in theirs and _asks(ours[name]) != _asks(theirs[name])]

    def table_beside(self, other: EvaluatedModel, suite: str) -> VerdictTable:
        """The suite's table, to be compared with the other's by ids: `questions_apart` have ids of their own."""
        table, apart = self.tables[suite], {*self.questions_apart(other, suite)}
        return replace(table, ids=[f"{name} of {self.label}" if name in apart else name for name in table.ids])

    def first_metric(self, suite: str) -> tuple[str, Mapping[str, Any]]:
        """The suite's leading metric, avg@k or pass@1: its name and both bounds."""
        return next(iter(self.results["suites"][suite]["metrics"].items()))


def only_evaluations(folders: Sequence[Path]) -> bool:
    """Whether `ixt-rl eval` wrote the folders; false where it wrote none of them.

    Raises:
        ConfigError: it wrote some of them.
    """
    theirs = [folder for folder in folders if (folder / SETTINGS).is_file()]
    if theirs and len(theirs) < len(folders):
        other = next(folder for folder in folders if folder not in theirs)
        raise ConfigError(
            f"{theirs[0]} and {other}",
            reason="the first is an evaluation's folder, the other one is not",
            remedy="give evaluations alone, or runs alone",
        )
    return bool(theirs)


def read_evaluations(folders: Sequence[Path]) -> list[EvaluatedModel]:
    """The evaluations in `folders`, in their order.

    Raises:
        ConfigError: a folder is no evaluation's.
        DataError: one of its files is damaged, or it has no record yet.
    """
    found = [_read(Path(folder)) for folder in folders]
    names = Counter(one.label for one in found)
    return [
        EvaluatedModel(f"{one.label} ({one.path.name})", *_rest(one)) if names[one.label] > 1 else one for one in found
    ]


def _asks(samples: Sequence[Record]) -> str:
    return " ".join(question_text(samples[0].question).split())


def _rest(one: EvaluatedModel) -> tuple[Any, ...]:
    return one.path, one.settings, one.results, one.tables, one.samples


def _read(path: Path) -> EvaluatedModel:
    folder = EvaluationFolder(path)
    settings = folder.settings()
    records = list(folder.records(with_ids=False))
    if not records:
        raise DataError(
            f"folder {path}: no record yet",
            reason="nothing was sampled, so that there is nothing to show",
            remedy="let `ixt-rl eval` go on",
        )
    samples: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        samples.setdefault(record.suite, {}).setdefault(record.id, []).append(record)
    results = read_json(path / RESULTS) or results_of(folder)
    return EvaluatedModel(settings["model"]["name"], path, settings, results, verdict_table(records), samples)


def suites_of(models: Sequence[EvaluatedModel]) -> list[str]:
    """All suites with a result, in the order in which they come up."""
    return list(dict.fromkeys(suite for one in models for suite in one.results["suites"]))


_TOLD = ("preset", "engine", "dtype", "temperature", "top_p", "longest answer", "seed", "ixt_rl")


def settings_table(models: Sequence[EvaluatedModel]) -> list[tuple[str, list[str]]]:
    """(what, one value a model) of all that a score depends on; first what differs."""
    rows = [(name, [_setting(one, name) for one in models]) for name in _TOLD]
    for suite in suites_of(models):
        rows.append((f"{suite}: questions x samples", [_asked(one, suite) for one in models]))
        rows.append((f"{suite}: prompts", [_prompts(one, suite) for one in models]))
    return sorted(rows, key=lambda row: len(set(row[1])) < 2)


def differs(row: tuple[str, list[str]]) -> bool:
    """Whether a row of `settings_table` is not the same for all models."""
    return len(set(row[1])) > 1


def _setting(one: EvaluatedModel, name: str) -> str:
    settings = one.settings
    sampling = [suite.get("sampling") or {} for suite in settings["suites"].values()]
    if name == "preset":
        return str(settings["preset"]["name"])
    if name == "engine":
        return _listed(f"{r.engine} {r.engine_version}" for r in _firsts(one))
    if name == "dtype":
        return _listed(record.dtype for record in _firsts(one))
    key = {"longest answer": "max_new_tokens"}.get(name, name)
    if key in ("seed", "ixt_rl"):
        return str(settings.get(key, "–"))
    return _listed(f"{found[key]:g}" for found in sampling if isinstance(found.get(key), int | float)) or "–"


def _firsts(one: EvaluatedModel) -> list[Record]:
    return [samples[0] for questions in one.samples.values() for samples in questions.values()]


def _asked(one: EvaluatedModel, suite: str) -> str:
    found = one.results["suites"].get(suite)
    return "–" if found is None else f"{found['questions']} x {found['samples']}"


def _prompts(one: EvaluatedModel, suite: str) -> str:
    """A digest that is the same where all questions were asked in the same tokens."""
    from ixt_rl.evaluation.records.record import prompt_hash

    hashes = [samples[0].prompt_hash for samples in one.samples.get(suite, {}).values()]
    return prompt_hash([int(hash, 16) for hash in hashes])[:8] if hashes else "–"


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(values))
