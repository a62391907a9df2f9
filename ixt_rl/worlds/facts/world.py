"""Facts that many documents mention and few answer well: a world where knowledge is what is scarce.

Documents ask for a fact and answer it, well or badly (`facts_authors`). Of the *uncovered* facts no good document
tells; a model has to learn them from bad ones, and be asked for good ones to use them. Judges know the facts
(`facts_judge`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from ixt_rl.types import Feedback, Grade
from ixt_rl.worlds.facts.authors import FactsAuthors
from ixt_rl.worlds.facts.judge import matched, read_body, verdict, verifier
from ixt_rl.worlds.facts.text import (
    ATTRIBUTES,
    BASE,
    ENTITY_WORDS,
    FILLERS,
    JUNK,
    MARKS,
    VALUE_WORDS,
    question,
    read_question,
)
from ixt_rl.worlds.shared import SPECIAL, is_eval_text, numbered, word_tokenizer, words_of

View = Literal["uncovered", "covered"]
LEVELS = ("bad", "poor", "fair", "good", "excellent")
EOS = "<eos>"
VOCABULARY = (
    *MARKS,
    *ATTRIBUTES,
    *ENTITY_WORDS,
    *VALUE_WORDS,
    *FILLERS,
    *JUNK,
    *LEVELS,
    *("critique:", "stated-true", "stated-false", "stated-other", "stated-none"),
    *("answer-right", "answer-wrong", "answer-none", "brief", "wordy"),
    *SPECIAL,
)
ID = numbered(VOCABULARY)
_ASKED = 500
"""Questions are about the first entities only: those that a corpus of ordinary size mentions."""
_EVAL_SHARE = 2


class FactsWorld:
    """Questions, documents, judges and grades of the facts world.

    Args:
        view: which facts are asked for: those in no good document, or the others.
    """

    name = "facts"
    template = "plain"
    views: tuple[View, ...] = ("uncovered", "covered")
    judges: dict[str, Callable[[str], Feedback]] = {"verifier": verifier, "matched": matched}
    sites: tuple[str, ...] = JUNK[:5]
    feedback_templates: dict[str, dict[str, Any]] = {
        "levels": {"levels": LEVELS, "separator": "\n"},
        "critique": {"levels": LEVELS, "critique": True, "separator": "\n"},
    }

    def __init__(self, view: View = "uncovered"):
        self.view: View = view

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word-level tokenizer of all words of documents and feedback; encoding adds `<bos>`."""
        return word_tokenizer(ID)

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` questions of a split as rows with `question` and `answer`: all of them before any comes again.

        A question for evaluation is never one for training. Corpora do hold documents about its fact: good ones if it
        is covered, only bad ones if not.
        """
        facts = [
            (attribute, entity)
            for entity in ENTITY_WORDS[:_ASKED]
            for attribute in ATTRIBUTES
            if ((attribute, entity) in BASE.uncovered) == (self.view == "uncovered")
            and is_eval_text(question((attribute, entity)), _EVAL_SHARE) == (split == "eval")
        ]
        Random(f"facts/{split}/{seed}").shuffle(facts)
        asked = [facts[index % len(facts)] for index in range(count)]
        return [{"question": question(fact), "answer": BASE.truth[fact]} for fact in asked]

    def corpus(self, count: int, seed: int) -> list[str]:
        """`count` documents, without `<bos>` and `<eos>`."""
        authors = FactsAuthors(seed)
        return [authors.document()[1] for _ in range(count)]

    def target(self, question: str, level: int) -> Feedback:
        """What the verifier says of a typical document of that level; the same for every question."""
        return {
            5: verdict(5, "none", "right", True),
            4: verdict(4, "true", "right", False),
            3: verdict(3, "true", "wrong", False),
            2: verdict(2, "other", "wrong", False),
            1: verdict(1, "other", "none", False),
        }[level]

    def grade(self, question: str, completion_ids: Sequence[int]) -> Grade:
        """Checked and strict: the first answer is right, whatever else is said; `<eos>` is not needed."""
        fact = read_question(question.split())
        assert fact is not None, question
        words = words_of(VOCABULARY, completion_ids)
        reading = read_body(fact, words)
        right = reading.answer == BASE.truth[fact]
        fitting = {*fact, BASE.truth[fact], *MARKS[2:], *FILLERS}
        ended = [word == EOS and index == len(words) - 1 for index, word in enumerate(words)]
        return Grade(
            checked=right,
            strict=right,
            reasoned=reading.about == fact,
            token_right=tuple(word in fitting or end for word, end in zip(words, ended, strict=True)),
            extra={"answered": reading.answer is not None},
        )
