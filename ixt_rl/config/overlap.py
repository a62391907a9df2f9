"""Files and preference pairs that a stage measures, against those that its model was trained on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.checks import data_files
from ixt_rl.blocks.data import FileDataBlock, PrefixDataBlock, problem_files
from ixt_rl.blocks.documents import FileCorpusBlock, SourceBlock
from ixt_rl.blocks.preferences import PairDataBlock, PairsBlock
from ixt_rl.blocks.rows import WorldRowsBlock
from ixt_rl.config.problems import Refused, keys_of
from ixt_rl.errors import ConfigError

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def refused_by_unseen(stage: AnyStage, trained: Sequence[AnyStage], named: Mapping[str, AnyStage]) -> Iterator[Refused]:
    """What a stage measures as unseen and one of `trained` reads, by their keys: files of which all rows are measured
    (`eval_rows` is 0), and documents and preference pairs that are not held out.

    Args:
        stage: an evaluate stage, or one with `evaluation.data`, `.holdout` or `.pairs`; others pass.
        trained: the stages that made its model, itself included where it trains.
        named: the run's stages by name: rows of a stage are those of the files that it reads.
    """
    where, data = ("data", stage.data) if stage.type == "evaluate" else ("evaluation.data", _measured(stage, "data"))
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
    yield from _trained_documents(stage, others, named)
    pairs: PairsBlock | None = _measured(stage, "pairs")
    if pairs is not None:
        seen = (one for other in others for one in _trained_pairs(pairs, other, named))
        yield from ((keys_of("evaluation.pairs"), error) for error in islice(seen, 1))


def _trained_documents(stage: AnyStage, others: Sequence[AnyStage], named: Mapping[str, AnyStage]) -> Iterator[Refused]:
    """Refuses documents that are measured as unseen, by another stage's files or set aside of the stage's own."""
    for key, data, holdout in (
        ("evaluation.data", _measured(stage, "data"), None),
        ("evaluation.holdout", stage.data, _measured(stage, "holdout")),
    ):
        if not isinstance(data, FileCorpusBlock) or (data is stage.data and holdout is None):
            continue
        for other in others:
            if (data is stage.data and other is stage) or _aside(data, holdout, other):
                continue
            if any(_same_rows(one, source, named) for one in data.sources for source in _sources(other.data)):
                yield (
                    keys_of(key),
                    ConfigError(
                        f"stage {stage.name!r} measures documents of {data.sources[0].source_name} as unseen",
                        reason=f"stage {other.name!r} trains on them",
                        remedy="name other files"
                        if holdout is None
                        else f"set evaluation.holdout: {holdout:g} in both, or name other files",
                    ),
                )
                break  # one says it


def _aside(data: FileCorpusBlock, holdout: float | None, other: AnyStage) -> bool:
    """Whether another stage sets aside what `holdout` does of these files: a share by content, or first rows."""
    theirs = _measured(other, "holdout")
    if holdout is None or theirs is None or type(theirs) is not type(holdout) or theirs < holdout:
        return False
    read = [[(one.from_, one.paths) for one in getattr(of, "sources", [])] for of in (data, other.data)]
    return isinstance(holdout, float) or read[0] == read[1]


def _trained_pairs(measured: PairsBlock, other: AnyStage, named: Mapping[str, AnyStage]) -> Iterator[ConfigError]:
    """Refuses measured pairs that another stage, or the same, trains on."""
    for trained in _sources(other.data):
        if not _same_rows(measured, trained, named):
            continue
        own = isinstance(trained, PairsBlock)
        if own and trained.holdout is not None and measured.holdout is not None and measured.holdout <= trained.holdout:
            continue  # by one hash: what is held out of the smaller share is in the larger one
        holdout = f" (data.pairs.holdout={trained.holdout})" if own else ""
        yield ConfigError(
            f"evaluation.pairs.holdout={measured.holdout} of {measured.path or measured.source_name}",
            reason=f"stage {other.name!r} trains on those rows{holdout}: what is trained would be measured",
            remedy="set the same holdout in both, 0.2 say, or measure another file"
            if own
            else "train it with data.pairs, which leaves out what is held out, or measure another file",
        )


def _measured(stage: AnyStage, key: str) -> Any:
    return getattr(getattr(stage, "evaluation", None), key, None)


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


def _same_rows(measured: FileDataBlock | PairsBlock | SourceBlock, trained: Any, named: Mapping[str, AnyStage]) -> bool:
    """Whether two blocks read one file, or one split of a hub dataset, and no field of `where` tells them apart."""
    read = [_read(block, named) for block in (measured, trained)]
    if any(isinstance(block, WorldRowsBlock) for block in read):  # one world's rows, or those of a stage
        return read[0] == read[1]
    shared = _files(read[0].path) & _files(read[1].path)
    subset = [(getattr(block, "name", None), getattr(block, "split", "train")) for block in read]
    if not shared or (subset[0] != subset[1] and not any(Path(file).exists() for file in shared)):
        return False
    other = getattr(trained, "where", {})
    ours = getattr(measured, "where", {})
    return all(set(values) & set(other.get(field, values)) for field, values in ours.items())


def _files(path: str | list[str]) -> set[str]:
    """The files of a path, absolute; a hub id as it is."""
    found = (file for one in ([path] if isinstance(path, str) else path) for file in data_files(one))
    return {str(Path(file).resolve()) if Path(file).exists() else file for file in found}
