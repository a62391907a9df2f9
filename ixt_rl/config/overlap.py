"""Files that a stage measures whole, against those that its model was trained on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.checks import data_files
from ixt_rl.blocks.data import FileDataBlock, PrefixDataBlock, problem_files
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.preferences import PairDataBlock
from ixt_rl.blocks.rows import WorldRowsBlock
from ixt_rl.config.problems import Refused, keys_of
from ixt_rl.errors import ConfigError

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def refused_by_unseen(stage: AnyStage, trained: Sequence[AnyStage], named: Mapping[str, AnyStage]) -> Iterator[Refused]:
    """Files of which all rows are measured (`eval_rows` is 0) and one of `trained` reads the same, by their keys.

    Args:
        stage: an evaluate stage, or one with `evaluation.data`; others pass.
        trained: the stages that made its model, itself included where it trains.
        named: the run's stages by name: rows of a stage are those of the files that it reads.
    """
    where, data = ("data", stage.data) if stage.type == "evaluate" else ("evaluation.data", _measured(stage))
    others = [other for other in trained if other.type != "evaluate"]
    for measured in (block for block in problem_files(data) if not block.eval_rows):
        for other in others:
            if any(_same_rows(measured, source, named) for source in _sources(other.data)):
                yield (
                    keys_of(where),
                    ConfigError(
                        f"stage {stage.name!r} measures all rows of {measured.called} ({where}.eval_rows=0)",
                        reason=f"stage {other.name!r} trains on rows of that file",
                        remedy="name another file"
                        + (", or set the same data.eval_rows in both" if problem_files(other.data) else ""),
                    ),
                )
                break  # one says it


def _measured(stage: AnyStage) -> Any:
    return getattr(getattr(stage, "evaluation", None), "data", None)


def _sources(data: Any) -> Sequence[Any]:
    if isinstance(data, FileCorpusBlock):
        return data.sources
    if isinstance(data, PairDataBlock):
        return [data.pairs]
    return [data] if isinstance(data, PrefixDataBlock) else problem_files(data)


def _read(source: Any, named: Mapping[str, AnyStage]) -> Any:
    """The files that a source reads in the end, or the world that wrote the rows."""
    maker = getattr(source, "from_", None)
    return source if maker is None else _read(named[maker].data, named)


def _same_rows(measured: FileDataBlock, trained: Any, named: Mapping[str, AnyStage]) -> bool:
    """Whether two blocks read one file, or one split of a hub dataset, and no field of `where` tells them apart."""
    read = [_read(block, named) for block in (measured, trained)]
    if any(isinstance(block, WorldRowsBlock) for block in read):  # one world's rows, or those of a stage
        return read[0] == read[1]
    shared = _files(read[0].path) & _files(read[1].path)
    subset = [(getattr(block, "name", None), getattr(block, "split", "train")) for block in read]
    if not shared or (subset[0] != subset[1] and not any(Path(file).exists() for file in shared)):
        return False
    other = getattr(trained, "where", {})
    return all(set(values) & set(other.get(field, values)) for field, values in measured.where.items())


def _files(path: str | list[str]) -> set[str]:
    """The files of a path, absolute; a hub id as it is."""
    found = (file for one in ([path] if isinstance(path, str) else path) for file in data_files(one))
    return {str(Path(file).resolve()) if Path(file).exists() else file for file in found}
