"""Text like that of the web: problems with results and without the working, for thinking mid-training.

    raw corpus      --plain training-->               a base that guesses what comes out
    annotated half  --all tokens in the loss-->       a model that writes thoughts, with its teacher's mistakes
    other half      --prefix -> thought, suffix-->    thoughts from which the text's own suffix follows
    problems        --RL with verifiable rewards-->   answers to problems that are in no document

`thoughts` has the raw corpus, `thoughts-annotated` the annotated half (`thoughts_text` says what is in them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from ixt_rl.conditioning.thought_marks import CLOSE, OPEN, TEACHER_TAG, weave
from ixt_rl.shares import share
from ixt_rl.types import Feedback, Grade
from ixt_rl.worlds.chain.judge import read_solution
from ixt_rl.worlds.chain.text import DIGITS, FILLERS, LABELS, ChainProblem
from ixt_rl.worlds.shared import SPECIAL, numbered, word_tokenizer, words_of
from ixt_rl.worlds.thoughts.text import (
    OPERATIONS,
    PROBLEM_LENGTH,
    Author,
    Teacher,
    draw,
    last_problem,
    whole,
    working,
    written_answer,
)

View = Literal["problems", "prefixes"]
EOS = "<eos>"
VOCABULARY = (*DIGITS, *OPERATIONS, *LABELS, "Q", "?", "=", "A", *FILLERS, OPEN, CLOSE, *SPECIAL)
ID = numbered(VOCABULARY)


def is_annotated(document: str) -> bool:
    """Whether a document is of the half that the teacher annotates; prefixes come from the other half."""
    return share("half", document) < 0.5


class ThoughtsWorld:
    """Documents, prefixes, problems and grades of the thoughts world.

    Args:
        view: what a model is asked and checked for. `problems`: the answer to a problem of four operations, with
            whatever stands after it. `prefixes`: how a document goes on to its end, its author's mistakes included.
    """

    name = "thoughts"
    template = "plain"
    views: tuple[View, ...] = ("problems", "prefixes")
    judges: dict[str, Callable[[str], Feedback]] = {}
    feedback_templates: dict[str, dict[str, Any]] = {}

    def __init__(self, view: View = "problems"):
        self.view: View = view

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word-level tokenizer of all words and the marks of thoughts; encoding adds `<bos>`."""
        return word_tokenizer(ID)

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` rows of a split with `question` and `answer`, in this view; a seed's prefixes are of its corpus."""
        if self.view == "prefixes":
            return _prefixes(split, count, seed)
        rng = Random(f"thoughts/{split}/problems/{seed}")
        problems = [draw(rng, PROBLEM_LENGTH, "eval" if split == "eval" else "rl") for _ in range(count)]
        return [{"question": problem.question, "answer": f"A {problem.answer}"} for problem in problems]

    def corpus(self, count: int, seed: int) -> list[str]:
        """`count` raw documents, of both halves, without `<bos>` and `<eos>`; none has an evaluation problem."""
        return _raw(count, seed)

    def annotations(self, count: int, seed: int, teacher: Teacher | None = None) -> tuple[list[str], Counter[str]]:
        """The annotated half of the first `count` raw documents, and how many of it were left out, by reason.

        What a teacher wrote is verified: an annotation that changed the document is not used.
        """
        teacher = teacher or Teacher()
        texts: list[str] = []
        left_out: Counter[str] = Counter()
        for document in filter(is_annotated, _raw(count, seed)):
            woven = weave(document, teacher({"prefix": "", "suffix": document}), TEACHER_TAG)
            if woven.text is None:
                left_out[woven.reason.partition(":")[0]] += 1
            else:
                texts.append(woven.text)
        return texts, left_out

    def grade(self, question: str, completion_ids: Sequence[int]) -> Grade:
        """All that is known of a completion: checked (in this view), strict (its thought and its answer are right)."""
        problem = last_problem(question)
        words = words_of(VOCABULARY, completion_ids)
        ended = bool(words) and words[-1] == EOS
        thought, rest = _read(words[:-1] if ended else words)
        reading = read_solution(problem, [*thought, *rest[:2]])
        if self.view == "prefixes":
            checked = ended and " ".join(rest) == written_answer(question)
        else:
            checked = rest[:2] == ["A", str(problem.answer)]
        return Grade(
            checked=checked,
            strict=checked and reading.complete and reading.first_wrong is None,
            reasoned=bool(thought),
            token_right=_agreement(words, problem),
        )


class AnnotatedThoughtsWorld(ThoughtsWorld):
    """The same world with the annotated half as its corpus."""

    name = "thoughts-annotated"

    def corpus(self, count: int, seed: int) -> list[str]:
        """The annotated documents among the first `count` of the raw corpus: a little less than half of them."""
        return self.annotations(count, seed)[0]


def _raw(count: int, seed: int) -> list[str]:
    author = Author(seed)
    return [whole(author.prefix()) for _ in range(count)]


def _prefixes(split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
    author, rows = Author(seed, split), list[dict[str, Any]]()
    while len(rows) < count:
        prefix = author.prefix()
        if not is_annotated(whole(prefix)):
            rows.append({"question": prefix, "answer": written_answer(prefix)})
    return rows


def _read(words: list[str]) -> tuple[list[str], list[str]]:
    """(the words of the thought that a completion begins with, what stands after it); a thought left open has none."""
    if words[:1] != [OPEN]:
        return [], words
    if CLOSE not in words:
        return words[1:], []
    end = words.index(CLOSE)
    return words[1:end], words[end + 1 :]


def _agreement(words: Sequence[str], problem: ChainProblem) -> tuple[bool, ...]:
    """For each word, whether a right completion has it there; a right one may do without a thought."""
    thought = [OPEN, *working(problem), CLOSE] if words and words[0] == OPEN else []
    right = [*thought, "A", str(problem.answer), EOS]
    return tuple(i < len(right) and word == right[i] for i, word in enumerate(words))
