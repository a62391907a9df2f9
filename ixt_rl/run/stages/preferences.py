"""Preference pairs of a stage: those that fit, what is trained and what is held out, and how they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from ixt_rl.blocks.preferences import PairCorpusBlock, PairsBlock
from ixt_rl.conditioning import Conditioner, Conditioning, PromptTemplate, load_feedback_template
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.preferences import PreferencePair, as_documents, pairs_and_notes, set_aside
from ixt_rl.errors import DataError
from ixt_rl.evaluation.margins import PairMargins
from ixt_rl.evaluation.posterior_pass import SequenceScorer
from ixt_rl.files import write_rows
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.place import follows
from ixt_rl.rollout.trl_adapter import whole_model
from ixt_rl.run.answered import keep_answered
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.wishes import wished_feedback_of
from ixt_rl.run.strategy import is_sharded
from ixt_rl.trainers.head import plain_model
from ixt_rl.types import Document, Segment

PAIRS = "pairs.jsonl"
"""In a stage's folder: the log-probs of each measured pair, at the last evaluation."""


@dataclass(frozen=True)
class FittingPairs:
    """Pairs of two different replies whose prompt is not too long.

    Args:
        trained, held: see `set_aside`.
        read: how many there were, whatever they are.
        longest: tokens that a prompt may have.
        equal: how many had the same reply twice.
        notes: what is to be said of rows that are no pair.
    """

    trained: list[PreferencePair]
    held: list[PreferencePair]
    read: int
    longest: int
    equal: int
    notes: list[str]

    @property
    def left_out(self) -> list[str]:
        """What a stage notes of pairs with longer prompts or equal replies; nothing where there are none."""
        fitting = len({id(pair) for pair in (*self.trained, *self.held)})
        reasons = {
            f"a prompt of more than {self.longest} tokens": self.read - self.equal - fitting,
            "two equal replies": self.equal,
        }
        said = [f"{count} of {self.read} pairs have {why} and are left out" for why, count in reasons.items() if count]
        return [*self.notes, *said]


def fitting_pairs(block: PairsBlock, conditioner: Conditioner, template: PromptTemplate | None) -> FittingPairs:
    """The pairs of a block that fit.

    Args:
        conditioner: shows their prompts.
        template: how prompts are shown; None: as they are.

    Raises:
        DataError: see `read_pairs`; or a part of them is empty.
    """
    pairs, notes = pairs_and_notes(block, template)
    differ = [pair for pair in pairs if pair.differs]
    fits = [pair for pair in differ if len(_prompt(pair, conditioner)) <= block.max_prompt_tokens]
    trained, held = set_aside(fits, block.holdout)
    if not trained or not held:
        raise DataError(
            f"{block.path}: {len(trained)} pairs to train on, {len(held)} held out",
            reason=f"of {len(pairs)} pairs {len(fits)} have a prompt of at most {block.max_prompt_tokens} tokens and "
            "two different replies",
            remedy="change pairs.holdout, raise pairs.max_prompt_tokens, or give more pairs",
        )
    return FittingPairs(trained, held, len(pairs), block.max_prompt_tokens, len(pairs) - len(differ), notes)


def _prompt(pair: PreferencePair, conditioner: Conditioner) -> Sequence[int]:
    asked = pair.chosen
    messages = [{"role": role, "content": content} for role, content in asked.turns]
    return conditioner.prompt(messages or asked.prompt, None)


class PairDocuments(MemoryCorpus):
    """Replies of the pairs that a stage trains on, as documents.

    Args:
        stage: with `data.pairs`.
        tokenizer: of the model.
        seed: of the run.
        template: how prompts are shown; None: as they are.
        feedback: what stands beside replies, as `load_feedback_template` takes it; None: nothing.

    Raises:
        DataError: see `fitting_pairs`; or a reply does not fit into a row behind its feedback and prompt.
    """

    def __init__(
        self,
        stage: DocumentStage,
        tokenizer: Any,
        seed: int,
        template: PromptTemplate | None,
        feedback: dict[str, Any] | str | None,
    ):
        assert isinstance(stage.data, PairCorpusBlock)
        own = {} if template is None else template.chat_template_kwargs
        wanted = Conditioning(
            None if feedback is None else load_feedback_template(feedback),
            stage.feedback.position,
            chat=stage.is_chat,
            train_turns=stage.train_turns,
            chat_template_kwargs={**own, **stage.chat_template_kwargs},
            max_reply_tokens=stage.data.pairs.max_reply_tokens,
            train_feedback=stage.trains_feedback,
        )
        shown = Conditioner(tokenizer, wanted)
        found = fitting_pairs(stage.data.pairs, shown, template)
        documents = as_documents(found.trained, seed, stage.feedback.shuffle)
        _check_room(shown, documents, stage.packing.capacity)
        super().__init__(documents, seed, stage.epochs)
        self.notes = [*found.left_out, f"{len(found.trained)} preference pairs to train on"]


def _check_room(conditioner: Conditioner, replies: Sequence[Document], capacity: int) -> None:
    """Refuses rows into which not every reply fits behind its feedback and prompt."""
    longest = max(map(_up_to_trained, conditioner.segments(replies, first=0)))
    if longest > capacity:
        raise DataError(
            f"packing.capacity={capacity} with a reply that ends {longest} tokens after its prompt begins",
            reason="a reply that is cut off from its prompt would be trained without it",
            remedy=f"set packing.capacity to {longest} or more, or lower pairs.max_reply_tokens or max_prompt_tokens",
        )


def _up_to_trained(segments: Sequence[Segment]) -> int:
    """Tokens up to the last one that is trained."""
    last = max(place for place, segment in enumerate(segments) if segment.trained)
    return sum(len(segment.ids or ()) for segment in segments[: last + 1])


class MeasuredPairs:
    """The held-out pairs of a stage, measured on a trainer's model.

    Args:
        evaluation: of the stage, with `pairs` and the `wishes` under which they are measured.
        trainer: whose model is measured.
        conditioner: the trainer's.
        folder: the stage's, for the pairs' log-probs; None where the last evaluation need not be the one that counts.
        template: how prompts are shown; None: as they are.
    """

    def __init__(
        self,
        evaluation: Any,
        trainer: Any,
        conditioner: Conditioner,
        folder: StageFolder | None,
        template: PromptTemplate | None,
    ):
        block: PairsBlock = evaluation.pairs
        alone: Any = {
            "dropout": 0.0,
            "fraction": 1.0,
            "train_turns": "last",
            "max_reply_tokens": block.max_reply_tokens,
        }
        shown = Conditioner(conditioner.tokenizer, replace(conditioner.conditioning, **alone), ends=conditioner.ends)
        found = fitting_pairs(block, shown, template)
        asked = {name: wished_feedback_of(shown, wish) for name, wish in evaluation.wishes.items()}
        self.trainer, self.folder = trainer, folder
        self.margins = PairMargins(found.held, shown, asked)
        alike = self.margins.alike
        said = f"{alike} of {len(found.held)} pairs have replies that are alike as far as they are compared"
        self.notes = [*found.left_out, *([f"{said}, and are not measured"] if alike else [])]
        self.notes.append(f"measured on {len(self.margins.names)} preference pairs")
        # before training, which puts mixed precision around the forward pass as it is then
        self._scorer = SequenceScorer(plain_model(trainer), 1.0, trainer.processing_class.pad_token_id)

    @classmethod
    def of_stage(
        cls, stage: Any, trainer: Any, folder: StageFolder, template: PromptTemplate | None
    ) -> MeasuredPairs | None:
        """Those of a stage's evaluation; None where it has none."""
        if stage.evaluation is None or stage.evaluation.pairs is None:
            return None
        kept = None if stage.keep_best else folder
        return cls(stage.evaluation, trainer, trainer.conditioner, kept, template)

    def __call__(self) -> dict[str, float]:
        """See `PairMargins`; the model is in evaluation mode, with the weights that are measured."""
        with self.trainer.accelerator.autocast():
            found = self.margins(self._scorer)
        if self.folder is not None and not follows():
            write_rows(self.folder.path / PAIRS, self.margins.rows)
            names, pairs = self.margins.names, self.margins
            keep_answered(self.folder.path, names, pairs.of_pairs, names, pairs.nats, pairs.tokens.tolist())
        return found

    def evaluated(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """An evaluation that measures nothing else; no samples."""
        trainer = self.trainer
        with whole_model(trainer, trainer.model_wrapped) if is_sharded(trainer) else nullcontext():
            return self(), []
