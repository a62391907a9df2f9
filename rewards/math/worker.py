"""The child process that does the open-ended part of the math reward. Imports no torch.

    task (JSON) --> begun                                                      --> sent at once
                --> exact: the rules with 120-digit arithmetic, units by pint  --> sent when done
                --> second: math-verify, unless the answer is right or stays open anyway --> sent when done

The parent kills the process when a task exceeds its deadline; nothing in here has to be trusted to stop.
Run by `pool.py` as `python -m ixt_rl.rewards.math.worker TASKS_FD RESULTS_FD MEMORY_MB`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ixt_rl.rewards.math import child, numeric, units
from ixt_rl.rewards.math.compare import compare
from ixt_rl.rewards.math.expr import Expr
from ixt_rl.rewards.math.golds import parse_gold
from ixt_rl.rewards.math.spelling import clean
from ixt_rl.rewards.math.tokens import CONSTANT_NAMES, FUNCTIONS

SECOND_LIMIT_S = 1
"""math-verify's own time limit for each of its two parses and its comparison: a slow one then ends by
itself, and the worker lives."""


class FullLeaves:
    """Leaves as they are compared in the child process: at high precision, units by pint."""

    def equal(self, a: Expr, b: Expr) -> bool | None:
        return numeric.equal(a, b)

    def proportional(self, a: Expr, b: Expr) -> bool | None:
        return numeric.proportional(a, b)

    def up_to_constant(self, a: Expr, b: Expr) -> bool | None:
        return numeric.up_to_constant(a, b)

    def factor(self, a: units.Unit, b: units.Unit) -> Fraction | None:
        return units.factor(a, b)


def exact_check(gold: str | list[str], answer: str, tolerance: float = 0.0) -> dict[str, Any]:
    """The rules with high-precision arithmetic: {"right": bool or None, "reason", "settled"}."""
    decision = compare(parse_gold(gold), answer, FullLeaves(), tolerance)
    return {"right": decision.right, "reason": decision.reason, "settled": decision.settled}


def second_check(gold: str | list[str], answer: str) -> dict[str, Any]:
    """math-verify's verdict, and whether a right one was confirmed without its float tolerance.

    It is given nothing but the answer between `$` fences, so that it cannot pick another part of the text.
    """
    from math_verify import verify

    if isinstance(gold, list):
        found = [second_check(form, answer) for form in gold]
        return max(found, key=lambda one: (one["confirmed"], bool(one["right"]), one["right"] is not None))
    gold_parsed, answer_parsed = (_parse(text) for text in (gold, answer))
    if not gold_parsed or not answer_parsed:
        return {"right": None, "confirmed": False}
    right = verify(gold_parsed, answer_parsed, timeout_seconds=SECOND_LIMIT_S)
    read_all = all(_reads_all(*side) for side in ((answer, answer_parsed[0]), (gold, gold_parsed[0])))
    return {"right": right, "confirmed": right and read_all and _identical(gold_parsed[0], answer_parsed[0])}


def _parse(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    fenced = f"${clean(text).replace('⟦', '').replace('⟧', '')}$"
    return parse(fenced, [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=SECOND_LIMIT_S)


def _reads_all(text: str, parsed: Any) -> bool:
    """Whether a text has nothing that math-verify drops (words, dots, bars), and all its numbers were parsed."""
    plain = clean(text)
    if re.search(r"\\[lcvd]?dots|\.\.|\\overline|\\bar(?![A-Za-z])", plain):
        return False
    words = re.sub(r"\\(?:begin|end)\s*\{[A-Za-z]+\}|\\[A-Za-z]+", " ", plain)
    if (
        "⟦" in plain
        or "'" in plain
        or any(
            len(word) > 1 and word not in FUNCTIONS | CONSTANT_NAMES
            for word in re.findall(r"(?!d[a-z]\b)[A-Za-z]+", words)
        )
    ):
        return False
    return set(re.findall(r"\d+", plain)) <= set(re.findall(r"\d+", str(parsed)))


def _identical(a: Any, b: Any) -> bool:
    """Exact equality of two sympy objects; False when it cannot be shown."""
    import sympy

    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        difference = (a - b).doit()
        if difference.free_symbols:
            return bool(sympy.simplify(difference) == 0)
        coarse, fine = (abs(sympy.N(difference, digits, maxn=1000)) for digits in (60, 120))
        return bool(fine == 0 or fine <= coarse * sympy.Float(10) ** -40)
    if isinstance(a, sympy.FiniteSet | sympy.Tuple) and isinstance(b, sympy.FiniteSet | sympy.Tuple):
        return len(a.args) == len(b.args) and all(map(_identical, a.args, b.args))
    return bool(a == b)


def stages(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What each stage finds of a task."""
    exact = _guarded(exact_check, task, task.get("tolerance", 0.0))
    yield {"stage": "exact", **exact}
    by_units = exact.get("reason", "").startswith("units:")
    done = exact["right"] or by_units or (exact["right"] is None and exact.get("settled", False))
    yield {"stage": "second", **({"right": None} if done else _guarded(second_check, task))}


def _guarded(check: Any, task: dict[str, Any], *settings: float) -> dict[str, Any]:
    try:
        return check(task["gold"], task["answer"], *settings)
    except MemoryError:
        return {"right": None, "error": "out of memory"}
    except RecursionError:
        return {"right": None, "error": "nested too deeply"}
    except Exception as error:  # whatever sympy raises on odd input is this task's result, not our end
        return {"right": None, "error": f"{type(error).__name__}: {error}"[:300]}


def warm_up() -> None:
    """Imports math_verify, and makes pint's registry."""
    import math_verify  # noqa: F401

    units.factor(units.RADIAN, units.RADIAN)


def main() -> None:
    """Serves the parent."""
    child.run(warm_up, stages)


if __name__ == "__main__":
    main()
