"""Next-token prediction on documents: what pretrain, ixt and sft share."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import FileData
from ixt_rl.blocks.documents import DocumentFields, FeedbackFormat, FileCorpus, WorldCorpus
from ixt_rl.blocks.model import Lora
from ixt_rl.blocks.optim import Optim
from ixt_rl.blocks.template import check_template_columns
from ixt_rl.blocks.wishes import check_wishes
from ixt_rl.errors import ConfigError
from ixt_rl.methods.measured import check_measurable
from ixt_rl.methods.stage import Stage


class DocumentStage(DocumentFields, Stage):
    """Next-token prediction on documents, plain or beside feedback (IXT); from scratch or from a checkpoint.

    `pretrain` is plain, `ixt` has feedback, `sft` trains replies to prompts, with feedback (if any) in the system
    message.
    """

    type: Literal["pretrain", "ixt", "sft"]
    optim: Optim
    lora: Lora | None = None

    @property
    def is_chat(self) -> bool:
        """Whether documents are chats: sft, but for a template that is plain text."""
        if self.type != "sft" or self.template is None:
            return self.type == "sft"
        if isinstance(self.template, str):
            return checks.is_chat_template(self.template)
        return self.template.chat

    @property
    def measures_problems(self) -> bool:
        """Whether the evaluation has problems, beside documents held out or without."""
        return self.evaluation is not None and (self.evaluation.data is not None or isinstance(self.data, WorldCorpus))

    @model_validator(mode="after")
    def _fits_type(self) -> DocumentStage:
        if self.type == "pretrain" and self.feedback.template is not None:
            raise ConfigError(
                "feedback.template with type: pretrain",
                reason="plain pretraining shows no feedback",
                remedy="set type: ixt, or leave feedback out",
            )
        if self.type == "ixt" and self.feedback.template is None:
            raise ConfigError(
                "type: ixt without feedback.template",
                reason="it would be plain next-token prediction",
                remedy="set feedback.template: levels or critique, or type: pretrain",
            )
        sources = [] if isinstance(self.data, WorldCorpus) else self.data.sources
        if self.type == "sft" and not (sources and all(s.prompt or s.messages for s in sources)):
            raise ConfigError(
                "type: sft on documents without prompts",
                reason="it trains replies, and there is nothing they reply to",
                remedy="give every source a `prompt` field, or one of `messages`, or set type: pretrain or ixt",
            )
        conversations = any(s.messages for s in sources)
        defaults = DocumentStage.model_fields
        for_chats = ("template", "train_turns", "chat_template_kwargs")
        asked = [key for key in for_chats if getattr(self, key) != defaults[key].default]
        if self.type != "sft" and (conversations or asked):
            raise ConfigError(
                f"{'messages' if conversations else asked[0]} with type: {self.type}",
                reason="only replies to prompts go through a template",
                remedy="set type: sft, or leave it out",
            )
        if self.type == "sft" and not self.is_chat and (conversations or self.chat_template_kwargs):
            raise ConfigError(
                f"template without chat on {'conversations' if conversations else 'chat_template_kwargs'}",
                reason="plain prompts do not go through the tokenizer's chat template",
                remedy="leave template out, or set chat: true in it",
            )
        if isinstance(self.data, FileCorpus) and self.feedback.shuffle:
            raise ConfigError(
                "feedback.shuffle on files",
                reason="the control needs the whole corpus at hand, which only a world's is",
                remedy="leave shuffle out",
            )
        if self.batch_size % (self.micro_batch_size or 1):
            raise ConfigError(
                f"batch_size={self.batch_size} with micro_batch_size={self.micro_batch_size}",
                reason="an update's rows are computed in whole micro-batches",
                remedy=f"make batch_size a multiple of {self.micro_batch_size}",
            )
        evaluation = self.evaluation
        if evaluation is not None and evaluation.data is not None:
            check_measurable(evaluation.data, "evaluation.data")
            if isinstance(evaluation.data, FileData):
                template = self.feedback.template
                fields = template.model_dump() if isinstance(template, FeedbackFormat) else template
                check_wishes(evaluation.wishes, fields)
        if evaluation is not None and isinstance(self.data, FileCorpus) and not (evaluation.data or evaluation.holdout):
            raise ConfigError(
                "evaluation without evaluation.data",
                reason="files of documents hold no problems to evaluate on",
                remedy="give evaluation.data a file of problems, set some documents aside with evaluation.holdout, "
                "or set evaluation: null",
            )
        if evaluation is not None and evaluation.holdout and isinstance(self.data, WorldCorpus):
            raise ConfigError(
                f"evaluation.holdout={evaluation.holdout:g} with world: {self.data.world}",
                reason="it sets documents of files aside, and a world's are written anew for every run",
                remedy="leave holdout out: a world's problems for evaluation are never among its documents",
            )
        if evaluation is not None:
            check_template_columns(evaluation.template, evaluation.data or self.data)
        return self
