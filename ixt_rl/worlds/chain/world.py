"""Worked arithmetic mod 7 of mixed quality: a corpus whose majority teaches a wrong rule.

Problems are chains of two to four operations, solved step by step (`chain_text`); authors of all qualities write
about them (`chain_authors`); judges read what they wrote (`chain_judge`). Plain training learns what most authors
do, which is wrong on most problems; training with feedback can be asked for the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from ixt_rl.types import Feedback, Grade
from ixt_rl.worlds.chain import suffixes as chain_suffixes
from ixt_rl.worlds.chain.authors import ChainAuthors
from ixt_rl.worlds.chain.judge import (
    ANSWER_WRONG,
    BRIEF,
    OFF_TOPIC,
    STEP_WRONG,
    WORDY,
    matched,
    read_solution,
    scores,
    verifier,
)
from ixt_rl.worlds.chain.text import DIGITS, FILLERS, JUNK, LABELS, OPERATIONS, ChainProblem
from ixt_rl.worlds.passages import JudgeFunction, Passage, Split, Teacher
from ixt_rl.worlds.shared import SPECIAL, is_eval_text, numbered, word_tokenizer, words_of

LEVELS = ("bad", "poor", "fair", "good", "excellent")
EOS = "<eos>"
VOCABULARY = (
    *DIGITS,
    *OPERATIONS,
    *LABELS,
    *("Q", "?", "=", "A"),
    *FILLERS,
    *JUNK,
    *LEVELS,
    *("critique:", "correctness:", "soundness:", "efficiency:", "difficulty:"),
    *("all", "right", "brief", "wordy", "answer", "step", "wrong", "incomplete", "off", "topic"),
    *SPECIAL,
)
ID = numbered(VOCABULARY)


class ChainWorld:
    """Problems, documents, judges and grades of the chain world.

    Args:
        view: what of a solution is checked: "full", its final answer.
    """

    name = "chain"
    template = "plain"
    views: tuple[str, ...] = ("full",)
    judges: dict[str, Callable[[str], Feedback]] = {"verifier": verifier, "matched": matched}
    sites: tuple[str, ...] = JUNK[:5]
    feedback_templates: dict[str, dict[str, Any]] = {
        "levels": {"levels": LEVELS, "separator": "\n"},
        "critique": {"levels": LEVELS, "scores": True, "critique": True, "separator": "\n"},
    }

    suffix_tokens = chain_suffixes.SUFFIX_TOKENS
    judge_functions: dict[str, JudgeFunction] = {"quality": chain_suffixes.judged_quality}

    def __init__(self, view: str = "full"):
        self.view = view

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word-level tokenizer of all words of documents and feedback; encoding adds `<bos>`."""
        return word_tokenizer(ID)

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` problems of a split as rows with `question` and `answer`; two, three and four steps equally often."""
        rng = Random(f"chain/{split}/{seed}")
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            problem = ChainProblem.random(rng)
            if is_eval_text(problem.question) == (split == "eval"):
                rows.append({"question": problem.question, "answer": str(problem.answer)})
        return rows

    def corpus(self, count: int, seed: int) -> list[str]:
        """`count` documents, without `<bos>` and `<eos>`; none is about an evaluation problem."""
        authors = ChainAuthors(seed)
        return [authors.document()[1] for _ in range(count)]

    def passages(self, split: Split, count: int, seed: int) -> list[Passage]:
        """`count` documents about problems of a split, cut after the problem or after the author's first step."""
        return chain_suffixes.passages(split, count, seed)

    def rewriter(self, error: float, seed: int) -> Teacher:
        """Who writes right solutions, but for a share of `error`; see `chain_suffixes.teacher`."""
        return chain_suffixes.teacher(error, seed)

    def measure(self, prefix: str, original: str, suffix: str) -> dict[str, float]:
        """`right` and `quality` of a suffix; see `chain_suffixes.measure`."""
        return chain_suffixes.measure(prefix, original, suffix)

    def target(self, question: str, level: int) -> Feedback:
        """What the verifier says of a typical document of that level about this problem."""
        found = ChainProblem.read(question.split())
        assert found is not None, question
        problem, _ = found
        if level == 1:
            return Feedback(1, critique=OFF_TOPIC)
        right, soundness, waste = level >= 4, 1 if level == 2 else 5, 8 if level == 4 else 0
        critique = {5: BRIEF, 4: WORDY, 3: ANSWER_WRONG, 2: STEP_WRONG.format(LABELS[0])}[level]
        return Feedback(level, scores(problem, right, soundness, waste), critique)

    def grade(self, question: str, completion_ids: Sequence[int]) -> Grade:
        """All that is known of a solution: checked (its answer), strict (every step too), and word by word."""
        found = ChainProblem.read(question.split())
        assert found is not None, question
        problem, _ = found
        words = words_of(VOCABULARY, completion_ids)
        ended = bool(words) and words[-1] == EOS
        reading = read_solution(problem, words[:-1] if ended else words)
        checked = ended and reading.answer == problem.answer
        strict = checked and reading.complete and reading.first_wrong is None
        return Grade(
            checked=checked,
            strict=strict,
            reasoned=reading.steps > 0,
            token_right=(*reading.word_right, *([reading.complete] if ended else [])),
            extra={"brief": strict and reading.waste <= 1},
        )
