"""A world's corpus as documents with its judge's feedback."""

from __future__ import annotations

from typing import Any

import numpy as np

from ixt_rl.conditioning.feedback import AnyFeedbackTemplate
from ixt_rl.conditioning.shares import share
from ixt_rl.types import Document
from ixt_rl.worlds import WORLDS


def world_documents(
    world: Any,
    count: int,
    seed: int,
    *,
    judge: str = "verifier",
    template: AnyFeedbackTemplate | None = None,
    fraction: float = 1.0,
    shuffle: bool = False,
) -> list[Document]:
    """`count` documents of a world, each with what its judge said and how many tokens that took.

    Judging costs the document's tokens and those of what is written: the template's text, or one token of a verdict.
    Words are tokens in these worlds.

    Args:
        world: one with `corpus` and `judges`.
        count, seed: of the corpus.
        judge: which of the world's judges.
        template: what of the judge's answer is used.
        fraction: share that is judged, the one that `Conditioning.fraction` takes.
        shuffle: every document gets the feedback of another one.
    """
    texts = world.corpus(count, seed)
    judged = [share("annotated", "", text) < fraction for text in texts]
    feedback = [world.judges[judge](text) if chosen else None for text, chosen in zip(texts, judged, strict=True)]
    written = [
        0 if found is None else 1 if template is None else len(template.render(found).split()) for found in feedback
    ]
    costs = [
        len(text.split()) + words if chosen else 0 for text, words, chosen in zip(texts, written, judged, strict=True)
    ]
    if shuffle:
        chosen_places = np.flatnonzero(judged)
        moved = np.random.default_rng([seed, 1]).permutation(chosen_places)
        feedback = list(feedback)
        for place, source in zip(chosen_places, [feedback[i] for i in moved], strict=True):
            feedback[place] = source
    return [
        Document(text, feedback=found, key=f"{world.name} {index}", judged_tokens=cost)
        for index, (text, found, cost) in enumerate(zip(texts, feedback, costs, strict=True))
    ]


def judge_document(world: str, text: str) -> dict[str, Any]:
    """What the verifier of a world says of a document, as a `python:` judge answers: axes, `overall` and `critique`."""
    said = WORLDS[world].judges["verifier"](text)  # type: ignore[attr-defined]
    return {**said.scores, "overall": said.level, "critique": said.critique}
