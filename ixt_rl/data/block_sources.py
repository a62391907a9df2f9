"""Sources of documents that run files name: mixtures, preference pairs, prefixes. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ixt_rl.blocks.checks import data_files
from ixt_rl.data.document_source import DocumentSource

if TYPE_CHECKING:
    from ixt_rl.blocks.data import PrefixDataBlock
    from ixt_rl.blocks.documents import FileCorpusBlock, SourceBlock
    from ixt_rl.blocks.preferences import PairsBlock
    from ixt_rl.conditioning.prompts import PromptTemplate


def corpus_sources(
    data: FileCorpusBlock, *, read_feedback: bool, template: PromptTemplate | None = None, tags: bool = False
) -> list[DocumentSource]:
    """The sources of a mixture; `read_feedback`, `tags`: whether their feedback columns and tags are of any use."""
    return [_source(source, read_feedback, template, tags) for source in data.sources]


def pair_sources(block: PairsBlock, template: PromptTemplate | None = None) -> tuple[DocumentSource, DocumentSource]:
    """What was chosen and what was rejected, of the same rows."""
    assert block.path is not None, "a run knows the folder of a stage's rows"
    files = tuple(data_files(block.path))
    chosen, rejected = (
        DocumentSource(
            files, column, block.prompt or column, None, name=block.name, split=block.split, template=template
        )
        for column in (block.chosen, block.rejected)
    )
    return chosen, rejected


def prefix_source(spec: PrefixDataBlock) -> DocumentSource:
    """The documents that are cut into prefix and suffix."""
    return DocumentSource(tuple(spec.files), spec.text, feedback=None)


def _source(source: SourceBlock, feedback: bool, template: PromptTemplate | None, tags: bool) -> DocumentSource:
    return DocumentSource(
        tuple(file for path in source.paths for file in data_files(path)),
        source.text,
        source.prompt,
        source.feedback if feedback else None,
        source.weight,
        source.name,
        source.split,
        source.messages,
        template,
        source.control_tokens,
        source.tag if tags else None,
        source.source_name if tags else "",
    )
