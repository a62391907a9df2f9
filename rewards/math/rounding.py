"""Decimals that stand for a value: rounded to the digits that are shown, or within a suite's tolerance."""

from __future__ import annotations

from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, Num, Op, contains, rational, symbols


def rounds_to(exact: Expr, shown: Expr) -> bool:
    """Whether `shown` is a decimal of 3 or more significant digits that `exact` rounds to (or is cut off at)."""
    sign, shown = (-1, shown.args[0]) if isinstance(shown, Op) and shown.name == "neg" else (1, shown)
    if not isinstance(shown, Num) or shown.decimals < 2 or abs(shown.value) * 10**shown.decimals < 100:
        return False
    value = approximate(exact)
    if value is None:
        return False
    unit = Fraction(1, 10**shown.decimals)
    off = sign * value - shown.value
    return abs(off) <= unit / 2 or (0 <= off < unit if shown.value >= 0 else -unit < off <= 0)


def within(gold: Expr, answer: Expr, tolerance: float) -> bool:
    """Whether two numbers differ by at most a share of the gold."""
    values = approximate(gold), approximate(answer)
    if values[0] is None or values[1] is None:
        return False
    return abs(values[0] - values[1]) <= Fraction(tolerance) * abs(values[0])


def approximate(expr: Expr) -> Fraction | None:
    """A real constant to 15 digits; None for everything else."""
    value = rational(expr)
    if value is not None or symbols(expr) or contains(expr, "apply:"):
        return value
    from mpmath import mp

    from ixt_rl.rewards.math.numeric import Absorbed, NoValue, evaluate

    try:
        number = evaluate(expr, {})
    except (NoValue, Absorbed):
        return None
    return Fraction(str(mp.nstr(number, 15))) if mp.im(number) == 0 and abs(number) < 10**9 else None
