"""The documents of a stage: what files and worlds give, with the feedback beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ixt_rl.blocks.documents import FeedbackFormatBlock, FileCorpusBlock, WorldCorpusBlock
from ixt_rl.blocks.preferences import PairCorpusBlock
from ixt_rl.conditioning import (
    PromptTemplate,
    load_feedback_template,
    load_template,
)
from ixt_rl.data.block_sources import corpus_sources
from ixt_rl.data.holdout import Holdout
from ixt_rl.data.in_memory import LevelFilter, MemoryCorpus
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.token_rows import Documents
from ixt_rl.files import read_json
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.run.folder import ROWS_FOLDER
from ixt_rl.run.stages.preferences import PairDocuments
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.documents import reply_documents, world_documents

ANNOTATION = "annotation.json"
"""What `ixt-rl annotate` writes beside its rows."""


def passed_over(documents: Documents) -> list[str]:
    """How often a row of files held nothing to train on, in every pass anew, in words; nothing if none did. Of pairs,
    how many there are."""
    stream = documents.documents if isinstance(documents, LevelFilter) else documents
    if isinstance(stream, PairDocuments):
        return stream.notes
    empty = stream.empty if isinstance(stream, DocumentStream) else 0
    return [f"{empty} times a row without text, or without a prompt, was passed over"] if empty else []


def feedback_template(stage: DocumentStage) -> dict[str, Any] | str | None:
    """The stage's template, as `load_feedback_template` takes it; a world's own goes before the shipped ones."""
    spec = stage.feedback.template
    if isinstance(spec, FeedbackFormatBlock):
        return spec.model_dump()
    if spec is not None and isinstance(stage.data, WorldCorpusBlock):
        world: Any = WORLDS[stage.data.world]
        return world.feedback_templates.get(spec, spec)
    return spec


def holdout(stage: DocumentStage) -> Holdout | None:
    """What a stage's evaluation sets aside of its files."""
    if stage.evaluation is None or stage.evaluation.holdout is None:
        return None
    assert isinstance(stage.data, FileCorpusBlock)
    return Holdout(
        corpus_sources(stage.data, read_feedback=False, template=prompt_template(stage)), stage.evaluation.holdout
    )


def corpus(
    stage: DocumentStage, seed: int, template: dict[str, Any] | str | None, tokenizer: Any, held: Holdout | None = None
) -> Documents:
    """The stage's documents but those held out, with what judging them cost."""
    levels = stage.data.keep_levels
    documents: Documents
    if stage.of_replies:
        shown = prompt_template(stage)
        assert isinstance(stage.data, WorldCorpusBlock) and shown is not None
        made = reply_documents(WORLDS[stage.data.world](), stage.data.documents, seed, shown)
        documents = MemoryCorpus(made, seed, stage.epochs)
    elif isinstance(stage.data, WorldCorpusBlock):
        if (template is None or stage.shows_tags) and not levels:  # nobody reads them
            fraction = 0.0
        else:
            fraction = stage.feedback.fraction
        made = world_documents(
            WORLDS[stage.data.world](),
            stage.data.documents,
            seed,
            judge=stage.data.judge,
            template=None if template is None else load_feedback_template(template),
            fraction=fraction,
            shuffle=stage.feedback.shuffle,
        )
        documents = MemoryCorpus(made, seed, stage.epochs)
    elif isinstance(stage.data, PairCorpusBlock):
        documents = PairDocuments(stage, tokenizer, seed, prompt_template(stage), template)
    else:
        found = corpus_sources(
            stage.data, read_feedback=stage.reads_feedback, template=prompt_template(stage), tags=stage.shows_tags
        )
        documents = DocumentStream(found, seed, stage.epochs, held)
    return LevelFilter(documents, levels) if levels else documents


def prompt_template(stage: DocumentStage) -> PromptTemplate | None:
    """How the stage's prompts are shown; None: as they are."""
    if stage.template is None and not stage.of_replies:
        return None
    world: Any = WORLDS[stage.data.world] if isinstance(stage.data, WorldCorpusBlock) else None
    found = load_template(stage.template, world.template if world else "plain")
    assert isinstance(found, PromptTemplate)  # the block takes no other
    return found


def annotators(stage: DocumentStage) -> int | None:
    """N_judge: as the stage says, else as `annotate` wrote beside its documents (of several, the largest).

    An endpoint whose size `annotate` was not told counts 0: its FLOPs are uncounted, and none are made up. Where no
    annotation.json is, or a world's own judge judged, None: the judge counts as large as the model.
    """
    if stage.judge_parameters is not None or not isinstance(stage.data, FileCorpusBlock):
        return stage.judge_parameters
    found = []
    for source in stage.data.sources:
        for path in map(Path, source.paths):
            judge = _judge_of(path if path.is_dir() else path.parent, source.feedback)
            if judge is not None:
                found.append(judge.get("parameters") or 0)
    return max(found, default=None)


def _judge_of(folder: Path, prefix: str | None) -> dict[str, Any] | None:
    """Who wrote the feedback of a prefix in a folder's rows; of a stage's rows maybe that of the stage that it read."""
    summary = read_json(folder / ANNOTATION) or {}
    judge = summary["judge"] if isinstance(summary.get("judge"), dict) else None
    wrote = (summary.get("settings") or {}).get("prefix", prefix)
    if judge is not None and (prefix is None or f"{prefix}_".startswith(f"{wrote}_")):  # of pairs: feedback, feedback_b
        return judge
    before = _rows_before(folder)
    return judge if before is None else _judge_of(before, prefix)


def _rows_before(folder: Path) -> Path | None:
    """The rows that a stage read to make those in `folder`; None where they are no earlier stage's."""
    if folder.name != ROWS_FOLDER:
        return None
    started = read_json(folder.parent / "started.json") or {}
    data = ((started.get("ingredients") or {}).get("settings") or {}).get("data") or {}
    return folder.parent.parent / data["from"] / ROWS_FOLDER if data.get("from") else None
