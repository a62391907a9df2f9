"""What a problem of the addition world and a rationale are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

View = Literal["sum", "parity", "mod5"]
COLUMNS = 3
VOCABULARY = [*"0123456789", "<bos>", "<eos>", "<pad>", "=", "<told>", "C", "V", "#", "K", ":", "m2", "m5"]
ID = {token: index for index, token in enumerate(VOCABULARY)}
EOS = ID["<eos>"]
_EVAL_SHARE = 10  # one problem in ten is for evaluation


def is_eval_problem(a: int, b: int) -> bool:
    """Whether the problem (a, b) belongs to evaluation; training and pretraining never draw these."""
    return ((a * 1000 + b) * 2654435761 % 2**32) % _EVAL_SHARE == 0


@dataclass(frozen=True)
class AdditionProblem:
    """Two numbers of three digits."""

    a: int
    b: int

    @property
    def columns(self) -> list[tuple[int, int]]:
        return [(self.a // 10**i % 10, self.b // 10**i % 10) for i in range(COLUMNS)]

    @property
    def question(self) -> str:
        return " ".join(f"{x} {y}" for x, y in self.columns)

    @classmethod
    def parse(cls, question: str) -> AdditionProblem:
        digits = [int(d) for d in question.split()]
        a, b = (sum(d * 10**i for i, d in enumerate(digits[k::2])) for k in (0, 1))
        return cls(a, b)

    def steps(self) -> list[tuple[int, int]]:
        """The right (digit, carry out) of each column."""
        carry, out = 0, []
        for x, y in self.columns:
            carry, digit = divmod(x + y + carry, 10)
            out.append((digit, carry))
        return out

    @property
    def answer(self) -> list[int]:
        """The right answer: d0 d1 d2 and the last carry."""
        steps = self.steps()
        return [digit for digit, _ in steps] + [steps[-1][1]]


def wrong_answer(problem: AdditionProblem, share: float) -> list[int] | None:
    """The answer that a wrong key has, wrong in every view; None where the key is right.

    Which training problems have one, and which, is fixed by a hash of the problem; evaluation problems have none.

    Args:
        share: of training problems whose key is wrong.
    """
    if is_eval_problem(problem.a, problem.b):
        return None
    drawn = int.from_bytes(blake2b(problem.question.encode(), digest_size=8).digest(), "big")
    if drawn >= share * 2**64:
        return None
    answer, column = problem.answer, drawn % COLUMNS
    answer[column] = (answer[column] + (1, 3, 7, 9)[drawn // COLUMNS % 4]) % 10  # odd, no multiple of 5: never unseen
    return answer


def view_answer(answer: Sequence[int], view: View) -> str:
    """The answer text that a view shows and checks."""
    if view == "parity":
        return f"m2 {sum(answer) % 2}"
    if view == "mod5":
        return f"m5 {sum(answer) % 5}"
    return " ".join(map(str, answer))


def rationale(
    style: str,
    columns: Sequence[tuple[int, int]],
    steps: Sequence[tuple[int, int]],
    carries_in: Sequence[int],
    answer: Sequence[int],
    check: bool = False,
) -> list[str]:
    """The tokens of a rationale with the given (right or wrong) steps, `<eos>` included."""
    out: list[str] = [] if style == "D" else [style]
    for (x, y), (digit, carry), carry_in in zip(columns, steps, carries_in, strict=True):
        if style == "V":
            out += [str(x), str(y), str(carry_in), ":"]
        if style != "D":
            out += [str(digit), str(carry)]
    if check:
        out += ["K", *(str(v) for step in steps for v in step)]
    return [*out, "#", *map(str, answer), "<eos>"]


def right_rationale(problem: AdditionProblem, style: str, check: bool) -> list[int]:
    """The right rationale of a style, as ids."""
    steps = problem.steps()
    carries_in = [0, *(carry for _, carry in steps[:-1])]
    words = rationale(style, problem.columns, steps, carries_in, problem.answer, check)
    return [ID[w] for w in words]


def read_answer(completion_ids: Sequence[int]) -> list[int] | None:
    """The four answer digits of a completion that ends in `# d d d d <eos>`, else None."""
    tail = list(completion_ids[-COLUMNS - 3 :])
    if len(tail) < COLUMNS + 3 or tail[0] != ID["#"] or tail[-1] != EOS or max(tail[1:-1]) > 9:
        return None
    return tail[1:-1]
