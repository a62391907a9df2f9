"""A stage's files, looked at before anything loads: their first rows, and whether there are enough of them. Imports no
torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import PrefixDataBlock, problem_files
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.preferences import PairDataBlock, PairsBlock
from ixt_rl.blocks.rows import FileRowsBlock
from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.methods.corpus import CorpusStage

if TYPE_CHECKING:
    from ixt_rl.data.document_source import DocumentSource
    from ixt_rl.methods.registry import AnyStage

_SMALL = 8 * 2**20
"""Bytes of a file that is read whole here: a tenth of a second."""


def check_first_rows(stage: AnyStage, info: ValidationInfo) -> None:
    """Refuses names of fields that the files of a stage do not have, and more rows to be set aside than there are; asks
    nothing of the hub.

    Raises:
        ConfigError: the first row of a file of problems, or the first thousand of a file of documents, pairs or rows of
            a job, lack a field that the stage names, or cannot be read; nothing is left to train on, or to measure.
    """
    evaluation = getattr(stage, "evaluation", None)
    for where, block in (
        ("data", getattr(stage, "data", None)),
        ("evaluation.data", getattr(evaluation, "data", None)),
        ("evaluation.pairs", getattr(evaluation, "pairs", None)),
    ):
        try:
            trained = where == "data" and stage.type != "evaluate"
            _check_problems(stage, block, trained=trained)
            for source in _document_sources(stage, block):
                from ixt_rl.data.document_source import SourceReader

                SourceReader(source).check(begins_only=True)
            _check_aside(stage, block, trained=trained)
            if isinstance(stage, CorpusStage) and isinstance(block, FileRowsBlock):
                _check_job(stage, block, info)
        except DataError as error:
            raise ConfigError(f"{where}: {error.what}", reason=error.reason, remedy=error.remedy) from None


def _check_problems(stage: AnyStage, data: Any, *, trained: bool) -> None:
    difficulty = getattr(stage, "difficulty", None) if trained else None
    rate = [difficulty.field] if difficulty is not None and difficulty.field is not None else []
    for block in problem_files(data):
        if block.path is not None and checks.on_this_machine(block.path):
            # numpy, which most run files do not need here
            from ixt_rl.data.questions import check_enough_rows, check_first_row

            check_first_row(block, rate)
            check_enough_rows(block, measured_only=not trained)


def _check_aside(stage: AnyStage, block: Any, *, trained: bool) -> None:
    """Documents and pairs that are set aside, where that reads little: a number of rows, or small files."""
    amount = getattr(getattr(stage, "evaluation", None), "holdout", None) if trained else None
    if amount is not None and isinstance(block, FileCorpusBlock):
        from ixt_rl.data.holdout import Holdout

        sources = [*_document_sources(stage, block)]
        small = isinstance(amount, int) or all(_is_small(file) for source in sources for file in source.files)
        if small and len(sources) == len(block.sources):
            Holdout(sources, amount)
    pairs = block.pairs if isinstance(block, PairDataBlock) else block
    if isinstance(pairs, PairsBlock) and pairs.path is not None and all(map(_is_small, checks.data_files(pairs.path))):
        from ixt_rl.data.preferences import check_sides

        check_sides(pairs)


def _is_small(file: str) -> bool:
    path = Path(file).expanduser()
    return path.is_file() and path.stat().st_size <= _SMALL


def _document_sources(stage: AnyStage, block: Any) -> Iterator[DocumentSource]:
    """Those whose files are here, each with one file at least."""
    if isinstance(block, PairDataBlock):
        block = block.pairs
    if not isinstance(block, FileCorpusBlock | PairsBlock | PrefixDataBlock):
        return
    from ixt_rl.data.block_sources import corpus_sources, pair_sources, prefix_source

    if isinstance(block, FileCorpusBlock):
        here = [one for one in block.sources if one.paths and all(map(checks.on_this_machine, one.paths))]
        feedback, tags = getattr(stage, "reads_feedback", False), getattr(stage, "shows_tags", False)
        yield from corpus_sources(block.model_copy(update={"sources": here}), read_feedback=feedback, tags=tags)
    elif block.path is not None and checks.on_this_machine(block.path):
        yield from pair_sources(block) if isinstance(block, PairsBlock) else [prefix_source(block)]


def _check_job(stage: CorpusStage, block: FileRowsBlock, info: ValidationInfo) -> None:
    """Columns of the fields that a job asks about, which the job itself looks for in all rows."""
    if block.path is None or not checks.on_this_machine(block.path):
        return
    from ixt_rl.data.fields import MISSING, columns_for, find, names_of
    from ixt_rl.data.readers import FIRST_ROWS, READERS, Cursor, check_file, columns_of, kind_of

    files = checks.data_files(block.path)
    packed = next((file for file in files if file.endswith(".gz")), None)
    if packed is not None:
        raise DataError(
            packed, reason="a job finds rows by their place in a file", remedy=f"unpack it: gunzip --keep {packed}"
        )
    file = files[0]
    check_file(file)
    fields = {name: name for name in stage.needed_fields(info)} | stage.fields
    rows = [*islice(READERS[kind_of(file)](file, Cursor(), columns_for(fields.values())), FIRST_ROWS)]
    for name, column in fields.items():
        if rows and all(find(row, column) is MISSING for row in rows):
            known = columns_of(file) or names_of(rows[:1])
            raise DataError(
                f"{file}: no column {column!r} for the field `{name}`",
                reason=f"its columns are {', '.join(known)}",
                remedy=f"{did_you_mean(column, known)}name it with `fields`: {{{name}: COLUMN}}",
            )
