"""Which of a run's own test questions stand in what it trained on: overlap.json of the run, for its report.

    what stages are measured on (`measured_texts`) --questions--> index
    files that led to the measured model --texts--> counts

Rows that are set aside of a training file (`data.eval_rows`) are other rows, and may still ask the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ixt_rl.blocks.checks import data_files, on_this_machine
from ixt_rl.blocks.data import problem_files
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.preferences import PairDataBlock
from ixt_rl.blocks.rows import with_folders
from ixt_rl.config.schema import RunConfig
from ixt_rl.contents import state_of
from ixt_rl.data.fields import question_text
from ixt_rl.data.questions import load_problems
from ixt_rl.evaluation.contamination.counts import summary_of
from ixt_rl.evaluation.contamination.overlap import QuestionIndex
from ixt_rl.evaluation.contamination.training_texts import TrainingText, training_texts
from ixt_rl.files import read_json, write_json
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.report.overlaps import said_of_lines
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.measured_texts import MeasuredTexts, measured_texts

OVERLAP = "overlap.json"
MOST_WORDS = 10_000_000
"""Words of training text that are looked at: some seconds. `ixt-rl contamination` reads any number."""


def note_overlap(config: RunConfig, folder: RunFolder) -> dict[str, Any] | None:
    """Writes overlap.json into the run's folder and returns it; None where nothing is measured on files or suites.

    Not done again where neither the run's data blocks nor their files have changed.

    Returns:
        `measured`: one entry for each set of test questions that a trained model is measured on, with the stages that
        train it (`trained`), the figures of `summary_of` (`overlap`), and what was not looked at (`left_out`).

    Raises:
        DataError: a file cannot be read.
    """
    stages = [with_folders(stage, folder.rows_of(config)) for stage in config.stages]
    named = {stage.name: stage for stage in stages}
    lines: dict[tuple[str, ...], dict[str, MeasuredTexts]] = {}
    for stage in stages:
        trained = tuple(one.name for one in reversed(config.made_by(config.named[stage.name])) if _trains(one))
        files = _files(named[name].data for name in trained)
        for questions in measured_texts(stage) if trained else ():
            if not questions.set_aside_of(files):
                lines.setdefault(trained, {})[questions.name] = questions
    if not lines:
        return None
    key = _key(lines, named)
    known = read_json(folder.path / OVERLAP)
    if known is not None and known.get("key") == key:
        return known
    measured = []
    counted: dict[str, dict[str, Any]] = {}  # rivals train on the same rows
    for trained, sets in lines.items():
        read = {_plain(named[name].data): named[name] for name in trained}
        same = json.dumps([[name, _plain(questions.block)] for name, questions in sets.items()] + [*read])
        if same not in counted:
            index = QuestionIndex({name: questions.rows() for name, questions in sets.items()})
            counted[same] = summary_of(index.find(chain.from_iterable(map(_texts, read.values())), MOST_WORDS))
        left_out = [f"{name}: {path}" for name in trained for path in _unread(named[name])]
        measured.append({"trained": list(trained), "overlap": counted[same], "left_out": left_out})
    result = {"key": key, "measured": measured}
    write_json(folder.path / OVERLAP, result)
    return result


def overlap_notes(result: dict[str, Any] | None) -> list[str]:
    """A line for each set of questions of which some stand whole in training texts, with all that trained on these."""
    found: dict[str, list[list[str]]] = {}
    for one in (result or {"measured": []})["measured"]:
        for name, counts in one["overlap"]["suites"].items():
            if counts["whole"]:
                said = f"{counts['whole']} of {counts['questions']} test questions of {name} stand whole in what"
                found.setdefault(said, []).append(one["trained"])
    return [f"{said} {said_of_lines(lines)} trained on: see the report" for said, lines in found.items()]


def _trains(stage: AnyStage) -> bool:
    data = getattr(stage, "data", None)
    return spec_of(stage).makes_model and bool(problem_files(data) or _document_paths(data))


def _document_paths(data: Any) -> list[str]:
    """Where documents and preference pairs come from; empty for what is neither."""
    if isinstance(data, PairDataBlock):
        return [data.pairs.path] if data.pairs.path is not None else []
    return [path for source in data.sources for path in source.paths] if isinstance(data, FileCorpusBlock) else []


def _texts(stage: AnyStage) -> Iterator[TrainingText]:
    """What a stage trains on: of problems, questions with their answers; of documents, all texts of the files."""
    for block in problem_files(stage.data):
        for number, row in enumerate(load_problems(block).train, 1):
            yield TrainingText(block.called, number, block.question, question_text(row["question"]))
            answers = [row["answer"]] if isinstance(row["answer"], str) else row["answer"]
            yield from (TrainingText(block.called, number, block.answer, answer) for answer in answers)
    for path in _document_paths(stage.data):
        if on_this_machine(path):
            yield from training_texts([path])


def _files(trained: Iterable[Any]) -> list[str]:
    """The files of blocks that are trained on."""
    found = []
    for data in trained:
        found += [path for block in problem_files(data) for path in block.files]
        found += [file for path in _document_paths(data) for file in data_files(path)]
    return found


def _unread(stage: AnyStage) -> list[str]:
    """Sources of documents that are datasets of the hub, which would be fetched a second time."""
    return [path for path in _document_paths(stage.data) if not on_this_machine(path)]


def _plain(block: Any) -> str:
    return json.dumps(block.model_dump(mode="json"), sort_keys=True)


def _key(lines: dict[tuple[str, ...], dict[str, MeasuredTexts]], named: dict[str, AnyStage]) -> str:
    """Changes with the blocks and with the files that they name."""
    sets = [questions for of_line in lines.values() for questions in of_line.values()]
    trained = [named[name].data for names in lines for name in names]
    paths = [*(path for questions in sets for path in questions.files), *_files(trained)]
    states = {path: state_of(Path(path).stat()) for path in paths if Path(path).is_file()}
    plain = [[questions.name, _plain(questions.block)] for questions in sets]
    plain += [["", _plain(data)] for data in trained]
    return json.dumps([MOST_WORDS, [list(names) for names in lines], plain, states], sort_keys=True)
