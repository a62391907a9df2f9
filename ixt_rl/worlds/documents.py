"""A world's corpus as documents with its judge's feedback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ixt_rl.conditioning import PromptTemplate
from ixt_rl.conditioning.feedback import AnyFeedbackTemplate, TagTemplate
from ixt_rl.data.fields import as_turns
from ixt_rl.shares import share
from ixt_rl.types import Document, Feedback
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.passages import chance

_AT_HOME = 0.5


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

    With a template of tags every document has the tag of its site; who judges beside that is up to `fraction`.
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
    if isinstance(template, TagTemplate):
        tagged = [site(world, text) for text in texts]
        feedback = [replace(found or Feedback(), tag=tag) for found, tag in zip(feedback, tagged, strict=True)]
    if shuffle:
        chosen_places = np.flatnonzero([found is not None for found in feedback])
        moved = np.random.default_rng([seed, 1]).permutation(chosen_places)
        feedback = list(feedback)
        for place, source in zip(chosen_places, [feedback[i] for i in moved], strict=True):
            feedback[place] = source
    return [
        Document(text, feedback=found, key=f"{world.name} {index}", judged_tokens=cost)
        for index, (text, found, cost) in enumerate(zip(texts, feedback, costs, strict=True))
    ]


def reply_documents(world: Any, count: int, seed: int, template: PromptTemplate) -> list[Document]:
    """`count` replies of a world of text, behind the template's plain or told prompt.

    Args:
        world: one with `replies`.
        count, seed: of the replies.
        template: how prompts are shown, as the stages that sample show them.
    """
    documents = []
    for index, one in enumerate(world.replies(count, seed)):
        plain, told = template.render(one.question, one.told or "")
        shown = plain if one.told is None else told
        key = f"{world.name} {index}"
        if isinstance(shown, str):
            documents.append(Document(one.reply, shown, key=key))
        else:
            turns = as_turns(shown)
            documents.append(Document(one.reply, key=key, turns=turns, context=len(turns)))
    return documents


def site(world: Any, text: str) -> str:
    """Where a document was found, one of the world's five sites: cheap to know, and a noisy sign of quality.

    Half of the documents stand on the site of their level (the verifier's), the others on any, by a hash of the text.
    """
    drawn = chance("site", world.name, text)
    if drawn < _AT_HOME:
        return world.sites[world.judges["verifier"](text).level - 1]
    return world.sites[int((drawn - _AT_HOME) / (1 - _AT_HOME) * len(world.sites))]


def target_of(world: Any) -> Callable[[str, int], Feedback]:
    """What to wish for: what the verifier says of a document of a level, and the site where half of such stand."""
    return lambda question, level: replace(world.target(question, level), tag=world.sites[level - 1])


def judge_document(world: str, text: str) -> dict[str, Any]:
    """What the verifier of a world says of a document, as a `python:` judge answers: axes, `overall` and `critique`."""
    said = WORLDS[world].judges["verifier"](text)  # type: ignore[attr-defined]
    return {**said.scores, "overall": said.level, "critique": said.critique}
