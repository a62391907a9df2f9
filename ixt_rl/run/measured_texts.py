"""What a stage is measured on, as texts to look for in what was trained: problems, suites, pairs, documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ixt_rl.blocks.checks import data_files, on_this_machine
from ixt_rl.blocks.data import FileDataBlock, problem_files
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.preferences import PairsBlock
from ixt_rl.blocks.suites import SuitesBlock
from ixt_rl.data.block_sources import corpus_sources
from ixt_rl.data.document_source import SourceReader
from ixt_rl.data.preferences import read_pairs, set_aside
from ixt_rl.data.questions import load_problems
from ixt_rl.evaluation.suites import find_rows
from ixt_rl.evaluation.suites.files import suite_files
from ixt_rl.methods.registry import AnyStage
from ixt_rl.suites import load_suite

MOST_DOCUMENTS = 10_000
"""Measured documents of a source that are looked for, its first ones: an index of them is in memory."""


@dataclass(frozen=True)
class MeasuredTexts:
    """A set of texts that a stage is measured on.

    Args:
        name: what to call it.
        block: that names it.
        suite: which of the block's suites; None for what is no suite.
    """

    name: str
    block: FileDataBlock | SuitesBlock | PairsBlock | FileCorpusBlock
    suite: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """With `question`: a problem's question, the better reply of a pair, a document's text."""
        if isinstance(self.block, FileDataBlock):
            return load_problems(self.block, measured_only=True).held_out
        if isinstance(self.block, SuitesBlock):
            assert self.suite is not None
            return find_rows(load_suite(self.suite), self.block.data, self.block.limit).rows
        if isinstance(self.block, PairsBlock):
            _, held = set_aside(read_pairs(self.block), self.block.holdout)
            return [{"question": pair.chosen.text} for pair in held]
        readers = map(SourceReader, corpus_sources(self.block, read_feedback=False))
        read = (document for reader in readers for document in islice(iter(reader.next, None), MOST_DOCUMENTS))
        return [{"question": document.text} for document in read]

    @property
    def files(self) -> list[str]:
        """Where they lie."""
        if isinstance(self.block, FileDataBlock):
            return self.block.files
        if isinstance(self.block, SuitesBlock):
            assert self.suite is not None
            data = None if self.block.data is None else Path(self.block.data)
            return [str(file) for file in suite_files(load_suite(self.suite), data)]
        if isinstance(self.block, PairsBlock):
            return [] if self.block.path is None else data_files(self.block.path)
        return [file for source in self.block.sources for path in source.paths for file in data_files(path)]

    def set_aside_of(self, trained: Iterable[str]) -> bool:
        """Whether they are pairs that `holdout` sets aside of files that are trained: all of them stand there."""
        if not isinstance(self.block, PairsBlock) or self.block.holdout is None:
            return False
        return not {Path(file).resolve() for file in self.files}.isdisjoint(Path(file).resolve() for file in trained)


def measured_texts(stage: AnyStage) -> Iterator[MeasuredTexts]:
    """What a stage is measured on that lies in files, or is a suite.

    Pairs and documents of the hub, which would be fetched a second time, are left out.
    """
    evaluation = getattr(stage, "evaluation", None)
    own = problem_files(getattr(stage, "data", None))
    if stage.type == "evaluate":
        yield from (MeasuredTexts(block.called, block) for block in own)
    elif evaluation is not None:
        data = getattr(evaluation, "data", None)
        yield from (MeasuredTexts(block.called, block) for block in problem_files(data))
        yield from (MeasuredTexts(f"{block.called}, set aside", block) for block in own if block.eval_rows)
        if isinstance(data, FileCorpusBlock):
            paths = [path for source in data.sources for path in source.paths]
            if all(map(on_this_machine, paths)):
                yield MeasuredTexts(f"{', '.join(paths)}, documents", data)
        pairs: PairsBlock | None = getattr(evaluation, "pairs", None)
        if pairs is not None and pairs.path is not None and on_this_machine(pairs.path):
            yield MeasuredTexts(f"{pairs.path}, better replies", pairs)
        suites: SuitesBlock | None = getattr(evaluation, "suites", None)
        if suites is not None:
            for name in suites.names:
                yield MeasuredTexts(f"suite {load_suite(name).name}", suites, name)
