"""Preference pairs: rows with a prompt, a better and a worse reply to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ixt_rl.blocks.rows import FileRowsBlock
from ixt_rl.blocks.strict import Strict, Tokens


class PairsBlock(FileRowsBlock):
    """Rows with a prompt and two replies, of which one was preferred."""

    prompt: str | None = Field(
        "prompt",
        description="field of the prompt, as text or as messages; null: chosen and rejected are whole conversations",
    )
    chosen: str = Field("chosen", description="field of the better reply")
    rejected: str = Field("rejected", description="field of the worse one")
    max_prompt_tokens: Tokens = Field(960, description="pairs with a longer prompt are left out, and counted")
    max_reply_tokens: Tokens = Field(1024, description="longer replies are cut, and then not trained to end")
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="share of the conversations, by a hash of how they begin, that no training on these pairs sees and "
        "that `evaluation.pairs` measures; null: all are trained, or measured",
    )

    @property
    def longest(self) -> int:
        """Tokens of a prompt and its reply, at most."""
        return self.max_prompt_tokens + self.max_reply_tokens


class PairDataBlock(Strict):
    """Preference pairs to train on."""

    pairs: PairsBlock


class PairCorpusBlock(PairDataBlock):
    """Both replies of preference pairs as documents: of the best level what was chosen, of the worst the other."""

    keep_levels: list[Literal[1, 5]] = Field([], description="[5]: train what was chosen alone; empty: both")
