"""IXT, introspective training (arXiv 2605.20285): next-token prediction on documents with feedback beside them."""

from __future__ import annotations

from typing import Literal

from ixt_rl.errors import ConfigError
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.runners import DOCUMENTS
from ixt_rl.methods.spec import MethodReport, MethodSpec


class IxtStage(DocumentStage):
    """IXT: next-token prediction on documents with feedback (a level, or a critique) beside them."""

    type: Literal["ixt"]

    def check_kind(self) -> None:
        if self.feedback.template is None:
            raise ConfigError(
                "type: ixt without feedback.template",
                reason="it would be plain next-token prediction",
                remedy="set feedback.template: levels or critique, or type: pretrain",
            )


SPEC = MethodSpec(
    type="ixt",
    stage=IxtStage,
    runner=DOCUMENTS,
    trainer="ixt_rl.trainers.ixt:IXTTrainer",
    report=MethodReport(learns_from="documents"),
)
