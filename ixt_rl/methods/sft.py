"""Supervised fine-tuning: replies to prompts, with feedback (if any) in the system message."""

from __future__ import annotations

from typing import ClassVar, Literal

from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.preferences import PairCorpusBlock
from ixt_rl.blocks.template import check_template_of_replies, renders_chats
from ixt_rl.errors import ConfigError
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.runners import DOCUMENTS
from ixt_rl.methods.spec import MethodReport, MethodSpec


class SftStage(DocumentStage):
    """Supervised fine-tuning: next-token prediction on replies to prompts, feedback (if any) in the system message."""

    type: Literal["sft"]
    replies: ClassVar[bool] = True

    @property
    def is_chat(self) -> bool:
        """Whether documents are chats: yes, but for a template that is plain text."""
        return renders_chats(self.template) or (self.template is None and not self.of_replies)

    def check_kind(self) -> None:
        sources = self.data.sources if isinstance(self.data, FileCorpusBlock) else []
        given = self.of_replies or isinstance(self.data, PairCorpusBlock)
        if not given and not (sources and all(source.prompt or source.messages for source in sources)):
            raise ConfigError(
                "type: sft on documents without prompts",
                reason="it trains replies, and there is nothing they reply to",
                remedy="give every source a `prompt` field, or one of `messages`, or set type: pretrain or ixt",
            )
        if not self.is_chat and (self.conversations or self.chat_template_kwargs):
            raise ConfigError(
                f"template without chat on {'conversations' if self.conversations else 'chat_template_kwargs'}",
                reason="plain prompts do not go through the tokenizer's chat template",
                remedy="leave template out, or set chat: true in it",
            )
        check_template_of_replies(self.template, told=self.of_replies)


SPEC = MethodSpec(
    type="sft",
    stage=SftStage,
    runner=DOCUMENTS,
    trainer="ixt_rl.trainers.ixt:IXTTrainer",
    report=MethodReport(learns_from="documents"),
)
