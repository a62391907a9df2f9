"""The table of methods."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.pretrain import PretrainStage
from ixt_rl.methods.sip import SipStage


def _stage_tag(value: Any) -> Any:
    """Which class a stage is. `pretrain` is two: on the addition world's pairs, and on documents."""
    read = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    kind: Any = read("type")
    data = read("data")
    if kind == "pretrain":
        world = data.get("world") if isinstance(data, dict) else getattr(data, "world", None)
        return "pretrain" if world == "addition" else "documents"
    return {"ixt": "documents", "sft": "documents", "intro": "online", "grpo": "online", "raft": "online"}.get(
        kind, kind
    )


AnyStage = Annotated[
    Annotated[PretrainStage, Tag("pretrain")]
    | Annotated[DocumentStage, Tag("documents")]
    | Annotated[EvaluateStage, Tag("evaluate")]
    | Annotated[OnlineStage, Tag("online")]
    | Annotated[SipStage, Tag("sip")],
    Discriminator(_stage_tag),
]
