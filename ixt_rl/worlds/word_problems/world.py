"""Single-step word problems in English for real models: texts held out whole, a verifier that reads any reply."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar, Literal

from ixt_rl.worlds.text_grade import TextGrade
from ixt_rl.worlds.word_problems.author import WorkedProblem, worked
from ixt_rl.worlds.word_problems.problem import WordProblem, equations, stated_answer

View = Literal["full"]


class WordProblemsWorld:
    """Problems, documents and grades of the world of word problems.

    It has no vocabulary: prompts and replies are text, for the tokenizer of whichever model reads them.

    Args:
        view: there is one: the answer is checked.
    """

    name = "word-problems"
    template = "math"
    views: ClassVar[tuple[View, ...]] = ("full",)

    def __init__(self, view: View = "full"):
        self.view: View = view

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` different problems of a split as rows with `question` and `answer`; the splits share no text."""
        rng, drawn = Random(f"word-problems/{split}/{seed}"), dict[str, int]()
        while len(drawn) < count:
            problem = WordProblem.draw(rng, held_out=split == "eval")
            drawn[problem.question] = problem.answer
        return [{"question": question, "answer": str(answer)} for question, answer in drawn.items()]

    def replies(self, count: int, seed: int) -> list[WorkedProblem]:
        """`count` documents: replies to problems in the texts for training, told their answer or not; see `author`."""
        rng = Random(f"word-problems/documents/{seed}")
        return [worked(rng, WordProblem.draw(rng, held_out=False)) for _ in range(count)]

    def grade_text(self, question: str, text: str) -> TextGrade:
        """All that is known of a reply.

        Checked: its final answer is right. Strict: that, there is an equation, and each one is true and made of the
        problem's two numbers and its answer (`12 + 7 = 19`, `7 + 12 = 19`, the check `19 - 7 = 12`). Wrong are
        equations that are not, and an answer that is not the right one.

        Raises:
            ValueError: the question is none of this world's.
        """
        problem = WordProblem.parse(question)
        own = sorted((*problem.numbers, problem.answer))
        found, answer = equations(text), stated_answer(text)
        unsound = [e for e in found if not (e.holds and sorted((*e.numbers, e.value)) == own)]
        checked = answer == problem.answer
        wrong = [(e.start, e.end) for e in unsound]
        if answer is not None and not checked:
            place = text.rfind(str(answer))
            wrong.append((place, place + len(str(answer))))
        return TextGrade(
            checked=checked, strict=checked and bool(found) and not unsound, reasoned=bool(found), wrong=tuple(wrong)
        )
