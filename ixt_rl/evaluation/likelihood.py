"""A frozen model as a yardstick of continuations: how likely it finds them once it has read the true text.

    context = prefix, original suffix, blank line, prefix        likelihood = 1/n sum_t log p(text_t | context, text_<t)

Whoever says what the document says, or what goes with it, is likelier than whoever invents; nothing is trained by it.
The mean is over the n tokens of the text, so that length as such counts neither way. A text that the model finds easy
because it says little is likely, too: read it beside measures of what is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ixt_rl.conditioning import encode_prompt
from ixt_rl.conditioning.control import text_ids
from ixt_rl.evaluation.posterior_pass import SequenceScorer
from ixt_rl.judging.rubric import whole_characters
from ixt_rl.worlds.passages import Passage

LIKELIHOOD = "likelihood"

Read = tuple[str, str, str]
"""Prefix, original and a text: what a frozen model has read."""


class LikelihoodExaminer:
    """An `Examiner` that measures `likelihood`, in nats a token, and compares by it: the likelier text is better.

    An empty text is undecided. Equal texts tie. With the originals it compares nothing: it has read them.

    Args:
        scorer: of the frozen model.
        tokenizer: of that model; the policy's may be another one.
        known: values of texts that were measured before.
    """

    reads_originals = True

    def __init__(self, scorer: SequenceScorer, tokenizer: Any, known: Mapping[Read, float] | None = None):
        self.scorer, self.tokenizer = scorer, tokenizer
        self.known: dict[Read, float] = dict(known or {})

    def measure(self, passages: Sequence[Passage], texts: Sequence[str]) -> list[Mapping[str, float | None]]:
        """`likelihood` of each text, at most 0; None of an empty one."""
        read = [(passage.prefix, passage.suffix, text) for passage, text in zip(passages, texts, strict=True)]
        both = zip(read, passages, strict=True)
        new = {one: passage for one, passage in both if one[-1] and one not in self.known}
        if new:
            contexts = [encode_prompt(self.tokenizer, true_text(passage)) for passage in new.values()]
            completions = [text_ids(self.tokenizer, text) for *_, text in new]
            sums = self.scorer(contexts, completions)
            lengths = np.array([len(ids) for ids in completions])
            self.known |= dict(zip(new, (sums / lengths).tolist(), strict=True))
        return [{LIKELIHOOD: self.known.get(one)} for one in read]

    def compare(self, passages: Sequence[Passage], ours: Sequence[str], theirs: Sequence[str]) -> list[float | None]:
        mine, others = ([one[LIKELIHOOD] for one in self.measure(passages, texts)] for texts in (ours, theirs))
        return [
            None if a is None or b is None else 1.0 if a > b else 0.0 if a < b else 0.5
            for a, b in zip(mine, others, strict=True)
        ]


def true_text(passage: Passage) -> str:
    """What is read before a continuation: the passage as its author wrote it, and its prefix once more."""
    prefix, original = whole_characters(passage.prefix), whole_characters(passage.suffix)
    return f"{prefix}{original}\n\n{prefix}"
