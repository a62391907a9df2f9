"""Preference pairs of files: a better and a worse reply to one prompt, and which of them no training sees.

    rows --a DocumentSource for each reply--> pairs --begin(prompt) hashed--> trained | held out

Conversations are told apart by how they begin, up to the first message of the user: those that begin alike stay on one
side, whatever a run sets otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ixt_rl.blocks.preferences import PairsBlock
from ixt_rl.data.block_sources import pair_sources
from ixt_rl.data.document_source import SourceReader
from ixt_rl.errors import DataError
from ixt_rl.shares import share
from ixt_rl.types import Document, Feedback

if TYPE_CHECKING:
    from ixt_rl.conditioning.prompts import PromptTemplate

BEST, WORST = 5, 1
"""Levels of what was chosen and of what was rejected."""


@dataclass(frozen=True)
class PreferencePair:
    """Two replies to one prompt.

    Args:
        chosen: the better one; its prompt is that of `rejected`.
        rejected: the worse one.
    """

    chosen: Document
    rejected: Document

    @property
    def begins(self) -> tuple[str, ...]:
        """What the conversation begins with in its file, to tell it from others: all up to the first message of the
        user, without what a template adds."""
        read = self.chosen.as_read or self.chosen
        turns = read.turns
        first = next((place for place, (role, _) in enumerate(turns) if role == "user"), len(turns) - 1)
        return tuple(content for _, content in turns[: first + 1]) or (read.prompt,)

    @property
    def of_one_prompt(self) -> bool:
        """Whether both reply to the same."""
        return (self.chosen.prompt, self.chosen.turns) == (self.rejected.prompt, self.rejected.turns)

    @property
    def differs(self) -> bool:
        """Whether the replies are two: of equal ones neither is the better."""
        return self.chosen.text != self.rejected.text


def read_pairs(block: PairsBlock, template: PromptTemplate | None = None) -> list[PreferencePair]:
    """The pairs of `pairs_and_notes`."""
    return pairs_and_notes(block, template)[0]


def pairs_and_notes(
    block: PairsBlock, template: PromptTemplate | None = None
) -> tuple[list[PreferencePair], list[str]]:
    """All pairs of a block's files, and what is to be said of rows that are none.

    Such are those that lack a prompt or a reply, and whole conversations that part before their last message.

    Args:
        template: how prompts are shown; None: as they are.

    Raises:
        DataError: a file or a row that cannot be used, or no pair.
    """
    sides, rows = [], 0
    for source in pair_sources(block, template):
        reader = SourceReader(source)
        reader.check()
        found: dict[str, Document] = {}
        while (document := reader.next()) is not None:
            found[document.key] = document
        sides.append(found)
        rows = len(found) + reader.empty
    both = [PreferencePair(one, sides[1][key]) for key, one in sides[0].items() if key in sides[1]]
    pairs = [pair for pair in both if pair.of_one_prompt]
    if not pairs:
        asked = f"a {block.prompt}, " if block.prompt else ""
        raise DataError(
            f"{block.path}: no pair",
            reason=f"no row has {asked}a {block.chosen} and a {block.rejected}"
            + (" that part at their last message" if both else ""),
            remedy="name other fields with prompt, chosen and rejected",
        )
    counts = {
        "no prompt or no reply": rows - len(both),
        "conversations that part before their last message": len(both) - len(pairs),
    }
    return pairs, [f"{count} of {rows} rows have {what} and are no pair" for what, count in counts.items() if count]


def set_aside(pairs: Sequence[PreferencePair], part: float | None) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(pairs to train on, pairs that are held out); without a share all are both."""
    if part is None:
        return [*pairs], [*pairs]
    held = [share("pairs", *pair.begins) < part for pair in pairs]
    trained = [pair for pair, out in zip(pairs, held, strict=True) if not out]
    return trained, [pair for pair, out in zip(pairs, held, strict=True) if out]


def check_sides(block: PairsBlock) -> None:
    """Reads all pairs.

    Raises:
        DataError: see `read_pairs`; or all replies are equal, or no pair is trained, or none held out.
    """
    pairs = read_pairs(block)
    trained, held = set_aside([pair for pair in pairs if pair.differs], block.holdout)
    if not trained or not held:
        raise DataError(
            f"{block.path}: {len(trained)} pairs to train on, {len(held)} held out",
            reason=f"it has {len(pairs)} pairs, {len(trained) + len(held) if block.holdout else len(trained)} of them "
            "with two different replies; those whose conversations begin alike stay on one side",
            remedy="change pairs.holdout, or give more pairs",
        )


def as_documents(pairs: Sequence[PreferencePair], seed: int, shuffle: bool = False) -> list[Document]:
    """Both replies of every pair, with the level that the preference gives them.

    Args:
        seed: of the shuffling.
        shuffle: every reply gets the level of another one, as a control.
    """
    sides = [(reply, level) for pair in pairs for reply, level in ((pair.chosen, BEST), (pair.rejected, WORST))]
    order = np.random.default_rng([seed, 1]).permutation(len(sides)) if shuffle else range(len(sides))
    return [replace(reply, feedback=Feedback(sides[place][1])) for (reply, _), place in zip(sides, order, strict=True)]
