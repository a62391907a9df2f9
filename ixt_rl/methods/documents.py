"""Next-token prediction on documents: what pretrain, ixt and sft share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import model_validator

from ixt_rl.blocks.best import BestBlock
from ixt_rl.blocks.cooldown import cooldown_updates
from ixt_rl.blocks.data import WORLDS_OF_TEXT, problem_files
from ixt_rl.blocks.documents import (
    PROBLEM_KEYS,
    TAG,
    DocumentBlock,
    FeedbackFormatBlock,
    FileCorpusBlock,
    WorldCorpusBlock,
)
from ixt_rl.blocks.model import LoraBlock
from ixt_rl.blocks.openrlhf import SftBackendBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.blocks.preferences import PairCorpusBlock
from ixt_rl.blocks.template import check_template_columns
from ixt_rl.blocks.wishes import check_wishes
from ixt_rl.errors import ConfigError
from ixt_rl.methods.measured import check_measurable
from ixt_rl.methods.openrlhf import check_openrlhf_documents
from ixt_rl.methods.stage import Stage, Unread


class DocumentStage(BestBlock, DocumentBlock, SftBackendBlock, Stage):
    """Next-token prediction on documents, plain or beside feedback; from scratch or from a checkpoint."""

    type: str
    optim: OptimBlock
    lora: LoraBlock | None = None

    replies: ClassVar[bool] = False
    """Whether replies to prompts are trained, which go through a template."""

    @property
    def is_chat(self) -> bool:
        """Whether documents are chats."""
        return False

    @property
    def renders_chats(self) -> bool:
        return self.is_chat

    @property
    def unread(self) -> list[Unread]:
        return [*self._unread_tags, *self._unread_of_evaluation]

    @property
    def shows_tags(self) -> bool:
        """Whether documents stand beside where they come from, in place of what a judge said."""
        return self.feedback.template == TAG

    @property
    def reads_feedback(self) -> bool:
        """Whether the feedback columns of files are of any use."""
        return (self.feedback.template is not None and not self.shows_tags) or bool(self.data.keep_levels)

    @property
    def _unread_tags(self) -> list[Unread]:
        sources = self.data.sources if isinstance(self.data, FileCorpusBlock) and not self.shows_tags else []
        why = f"feedback.template: {self.feedback.template or 'null'}"
        return [(one, "tag", f"data.sources.{place}.tag", why) for place, one in enumerate(sources) if one.tag]

    @property
    def _unread_of_evaluation(self) -> list[Unread]:
        if self.evaluation is None:
            return []
        why = dict.fromkeys(("every", "curve_problems"), f"backend: {self.backend}") if self.backend is not None else {}
        if not self.measures_problems:
            read = ("wishes",) if self.evaluation.pairs is not None else ()
            alone = f"evaluation.{self.evaluation.beside} without evaluation.data"
            why |= {key: alone for key in PROBLEM_KEYS if key not in read}
        return [(self.evaluation, key, f"evaluation.{key}", chooser) for key, chooser in why.items()]

    @property
    def trains_feedback(self) -> bool:
        """Whether feedback tokens are in the loss."""
        return not self.replies if self.feedback.train is None else self.feedback.train

    @property
    def measures_problems(self) -> bool:
        """Whether the evaluation has problems, beside documents held out or without."""
        return self.evaluation is not None and (
            self.evaluation.data is not None or isinstance(self.data, WorldCorpusBlock)
        )

    def check_kind(self) -> None:
        """Raises ConfigError where documents and feedback are not what the method is for."""

    @property
    def of_replies(self) -> bool:
        """Whether the documents are a world's replies to prompts."""
        return getattr(self.data, "world", None) in WORLDS_OF_TEXT

    @property
    def conversations(self) -> bool:
        """Whether some source holds conversations."""
        return isinstance(self.data, FileCorpusBlock) and any(source.messages for source in self.data.sources)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.check_kind()
        if self.of_replies and not self.replies:
            raise ConfigError(
                f"world: {getattr(self.data, 'world', '')} with type: {self.type}",
                reason="its documents are replies to prompts, which are not trained",
                remedy="set type: sft",
            )
        for_chats = ("template", "train_turns", "chat_template_kwargs")
        asked = [key for key in for_chats if getattr(self, key) != type(self).model_fields[key].default]
        if not self.replies and (self.conversations or asked):
            raise ConfigError(
                f"{'messages' if self.conversations else asked[0]} with type: {self.type}",
                reason="only replies to prompts go through a template",
                remedy="set type: sft, or leave it out",
            )
        cooldown_updates(
            self.feedback.cooldown,
            self.steps or -1,
            shows=self.feedback.template is not None,
            chat=self.is_chat,
            name="feedback.cooldown",
        )
        if isinstance(self.data, FileCorpusBlock) and self.feedback.shuffle:
            raise ConfigError(
                "feedback.shuffle on files",
                reason="the control needs the whole corpus at hand, which only a world's is",
                remedy="leave shuffle out",
            )
        self._check_chat()
        self._check_pairs()
        if self.batch_size % (self.micro_batch_size or 1):
            raise ConfigError(
                f"batch_size={self.batch_size} with micro_batch_size={self.micro_batch_size}",
                reason="an update's rows are computed in whole micro-batches",
                remedy=f"make batch_size a multiple of {self.micro_batch_size}",
            )
        evaluation = self.evaluation
        if evaluation is not None and evaluation.data is not None:
            check_measurable(evaluation.data, "evaluation.data")
            if problem_files(evaluation.data):
                self._check_wishes(evaluation.wishes)
                levels = [name for name, wish in evaluation.wishes.items() if self.shows_tags and isinstance(wish, int)]
                if levels:
                    raise ConfigError(
                        f"wishes.{levels[0]}={evaluation.wishes[levels[0]]} with feedback.template: {TAG}",
                        reason="documents of files stand beside where they come from, and that has no level",
                        remedy="write the tag that is wished for, as it stands in the files, or null for none",
                    )
        if (
            evaluation is not None
            and not isinstance(self.data, WorldCorpusBlock)
            and not (evaluation.data or evaluation.beside)
        ):
            raise ConfigError(
                "evaluation without evaluation.data",
                reason="files of documents hold no problems to evaluate on",
                remedy="give evaluation.data a file of problems, set some documents aside with evaluation.holdout, "
                "or set evaluation: null",
            )
        if evaluation is not None and evaluation.holdout and isinstance(self.data, PairCorpusBlock):
            raise ConfigError(
                f"evaluation.holdout={evaluation.holdout:g} with data.pairs",
                reason="it sets documents of sources aside, and one reply of a pair without the other says little",
                remedy="set data.pairs.holdout, and measure with evaluation.pairs: its perplexity is held out",
            )
        if evaluation is not None and evaluation.holdout and isinstance(self.data, WorldCorpusBlock):
            raise ConfigError(
                f"evaluation.holdout={evaluation.holdout:g} with world: {self.data.world}",
                reason="it sets documents of files aside, and a world's are written anew for every run",
                remedy="leave holdout out: a world's problems for evaluation are never among its documents",
            )
        if evaluation is not None:
            check_template_columns(evaluation.template, evaluation.data or self.data)
        if self.backend == "openrlhf":
            check_openrlhf_documents(self)
        return self

    def _check_wishes(self, wishes: Mapping[str, int | str | None]) -> None:
        template = self.feedback.template
        check_wishes(wishes, template.model_dump() if isinstance(template, FeedbackFormatBlock) else template)

    def _check_chat(self) -> None:
        """What a chat, whose feedback is its system message, has no place for."""
        if not self.is_chat:
            return
        if self.feedback.position == "after":
            raise ConfigError(
                "feedback.position: after in a chat",
                reason="its feedback is the system message, which comes first",
                remedy="leave position out, or give the stage a template of plain text",
            )
        if self.feedback.train:
            raise ConfigError(
                "feedback.train: true in a chat",
                reason="its feedback is the system message, and only replies are trained",
                remedy="leave train out, or give the stage a template of plain text",
            )

    def _check_pairs(self) -> None:
        """What `data.pairs` and `evaluation.pairs` ask of the rest of the stage."""
        trained = self.data.pairs if isinstance(self.data, PairCorpusBlock) else None
        measured = None if self.evaluation is None else self.evaluation.pairs
        if (trained or measured) and not self.replies:
            raise ConfigError(
                f"{'data' if trained else 'evaluation'}.pairs with type: {self.type}",
                reason="pairs are replies to prompts",
                remedy="set type: sft, or leave pairs out",
            )
        if trained is not None and trained.longest >= self.packing.capacity:
            raise ConfigError(
                f"packing.capacity={self.packing.capacity} with pairs of up to {trained.longest} tokens",
                reason="a reply that is cut off from its prompt would be trained without it",
                remedy="raise packing.capacity above max_prompt_tokens and max_reply_tokens together, with room for "
                "the feedback, or lower these",
            )
        if trained is not None and self.shows_tags:
            raise ConfigError(
                f"feedback.template: {TAG} with data.pairs",
                reason="what stands beside a reply of a pair is its level: pairs have no tags",
                remedy="set template: levels, or leave feedback out",
            )
        if measured is not None:
            assert self.evaluation is not None
            self._check_wishes(self.evaluation.wishes)
