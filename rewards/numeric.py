"""Whether two expressions are equal, by high-precision evaluation. Used in the worker process only.

Constants: the difference is computed with 60 and with 120 digits. If it is stable it is not zero; if it
shrinks with the precision, it is. So 1/2004! and 1/2006! differ, and sqrt(8) - 2 sqrt(2) is zero: no
tolerance is involved. A term too small to show at 480 digits beside another is noticed, and leaves the
comparison undecided. Expressions with variables are compared this way at random points, as identity
testing does: one point where they differ settles it, and agreement at all of them leaves no doubt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from fractions import Fraction

import mpmath
from mpmath import mp

from ixt_rl.rewards.expression import Expr, Num, Op, Sym, contains, rational, symbols
from ixt_rl.rewards.outcome import TooLarge

POINTS = 6
"""Points at which expressions with variables are compared."""
MAX_EXPONENT_BITS = 4_000_000
"""Largest logarithm (base 2) of a value that is still computed."""


class NoValue(ValueError):
    """The expression has no finite value here (a pole, infinity, an unknown function)."""


class Absorbed(Exception):
    """A term is too small to show in the current precision, so a difference of 0 would prove nothing."""


def evaluate(expr: Expr, at: Mapping[str, Fraction]) -> mpmath.mpc:
    """Value of an expression in the current mpmath precision, with its variables at rational points.

    Raises:
        NoValue: it has none there.
        Absorbed: a term is too small for the precision.
        TooLarge: a power, a factorial or a function argument beyond the limits.
    """
    if isinstance(expr, Num):
        return mp.mpf(expr.value.numerator) / expr.value.denominator
    if isinstance(expr, Sym):
        if expr.name in at:
            return mp.mpf(at[expr.name].numerator) / at[expr.name].denominator
        constants = {"pi": mp.pi, "e": mp.e, "i": mp.mpc(0, 1)}
        if expr.name not in constants:
            raise NoValue(expr.name)
        return +constants[expr.name]
    args = [evaluate(arg, at) for arg in expr.args]
    try:
        value = _apply(expr.name, args)
    except (ZeroDivisionError, ValueError, OverflowError, mpmath.libmp.NoConvergence) as error:
        raise NoValue(str(error)) from error
    if not mpmath.isfinite(value):
        raise NoValue(expr.name)
    return value


def _apply(name: str, args: list[mpmath.mpc]) -> mpmath.mpc:
    first = args[0]
    if name == "add":
        _check_absorbed(args)
        return mp.fsum(args)
    if name == "neg":
        return -first
    if name == "mul":
        return first * args[1]
    if name == "div":
        return first / args[1]
    if name == "pow":
        return _power(first, args[1])
    if name == "root":
        return _root(first, args[1])
    if name == "deg":
        return first * mp.pi / 180
    if name == "log":
        return mp.log(first) if len(args) == 1 else mp.log(first) / mp.log(args[1])
    if name in ("factorial", "binom"):
        if any(abs(arg) > 10**6 for arg in args):
            raise TooLarge("factorial of a number above 10^6")
        return mp.factorial(first) if name == "factorial" else mp.binomial(*args)
    if name not in _FUNCTIONS:
        raise NoValue(name)
    _check_absorbed([first, mp.mpf(1)])  # cos(tiny) is 1
    if abs(first) > 10**6:
        raise TooLarge(f"{name} of a number above 10^6")
    return _FUNCTIONS[name](first)


_FUNCTIONS: dict[str, Callable[[mpmath.mpc], mpmath.mpc]] = {
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "sec": mp.sec, "csc": mp.csc, "cot": mp.cot,
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh,
    "ln": mp.log, "exp": mp.exp, "abs": abs, "floor": mp.floor, "ceil": mp.ceil,
}  # fmt: skip


def _check_absorbed(terms: list[mpmath.mpc]) -> None:
    sizes = [abs(term) for term in terms if term != 0]
    if sizes and min(sizes) < 1 and min(sizes) < max(sizes) * mp.mpf(10) ** (5 - mp.dps):
        raise Absorbed


def _power(base: mpmath.mpc, exponent: mpmath.mpc) -> mpmath.mpc:
    if base == 0:
        if mp.re(exponent) <= 0:
            raise NoValue("0 to a power that is not positive")
        return mp.mpf(0)
    if exponent != 0:
        _check_absorbed([exponent, mp.mpf(1)])
    if abs(mp.log(abs(base), 2) * exponent) > MAX_EXPONENT_BITS:
        raise TooLarge("a power of more than 10^6 digits")
    return mp.power(base, exponent)


def _root(value: mpmath.mpc, index: mpmath.mpc) -> mpmath.mpc:
    """The real root where there is one (the cube root of -8 is -2), the principal one elsewhere."""
    if mp.im(value) == 0 and mp.re(value) < 0 and mp.im(index) == 0 and mp.re(index) % 2 == 1:
        return -mp.power(-value, 1 / index)
    return _power(value, 1 / index)


def equal(a: Expr, b: Expr) -> bool | None:
    """Whether two expressions are the same; None if that depends on the domain or cannot be computed.

    Raises:
        TooLarge: a value beyond the limits.
    """
    exact = rational(a), rational(b)
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1]
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return _log_base_open(a, b, _equal_at(a, b, {}))
    if any(contains(side, "apply:") for side in (a, b)):
        return True if a == b else None
    positive = [_equal_at(a, b, point) for point in _points(names, "positive")]
    known = [verdict for verdict in positive if verdict is not None]
    if len(known) < POINTS // 2:
        return None
    if not all(known):
        integers = [_equal_at(a, b, point) for point in _points(names, "integer")]
        if all(verdict for verdict in integers):  # (-1)^n and cos(n pi): equal for whole n only
            return None
        return None if _only_renamed(a, b) else _log_base_open(a, b, False)
    negative = [_equal_at(a, b, point) for point in _points(names, "negative")]
    return None if any(verdict is False for verdict in negative) else True


def proportional(a: Expr, b: Expr) -> bool | None:
    """Whether a = c b with one constant c != 0, so that a = 0 and b = 0 are the same equation."""
    names = sorted(symbols(a) | symbols(b))
    ratio: tuple[Expr, Expr] | None = None
    for point in _points(names, "positive"):
        here = _at(a, point), _at(b, point)
        zero = Num(Fraction(0))
        zeros = [_equal_at(side, zero, {}) for side in here]
        if None in zeros:
            continue
        if any(zeros):
            if not all(zeros):
                return False
            continue
        if ratio is None:
            ratio = here
        elif not _equal_at(Op("mul", (ratio[0], here[1])), Op("mul", (ratio[1], here[0])), {}):
            return False
    return None if ratio is None else True


def _at(expr: Expr, point: Mapping[str, Fraction]) -> Expr:
    """The expression with its variables replaced by numbers."""
    if isinstance(expr, Sym) and expr.name in point:
        return Num(point[expr.name])
    if isinstance(expr, Op):
        return Op(expr.name, tuple(_at(arg, point) for arg in expr.args))
    return expr


def _points(names: list[str], where: str) -> list[dict[str, Fraction]]:
    """Fixed random points, the same in every run: verdicts must not change from run to run."""
    generator = random.Random(f"{where} {' '.join(names)}")
    sign = -1 if where == "negative" else 1
    points = []
    for _ in range(POINTS):
        if where == "integer":
            points.append({name: Fraction(generator.randint(1, 12)) for name in names})
        else:
            points.append({name: sign * Fraction(generator.randint(1, 3000), 101) for name in names})
    return points


def _equal_at(a: Expr, b: Expr, point: Mapping[str, Fraction]) -> bool | None:
    exact = rational(_at(a, point)), rational(_at(b, point))
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1]
    for digits in (60, 240):
        try:
            coarse, fine = _difference(a, b, point, digits), _difference(a, b, point, 2 * digits)
            if fine == 0 or abs(fine) <= abs(coarse) * mp.mpf(10) ** (-digits // 2):
                return True
            if abs(fine - coarse) <= abs(fine) * mp.mpf(10) ** -10:
                return False
        except Absorbed:
            continue
        except NoValue:
            return None
    return None


def _difference(a: Expr, b: Expr, point: Mapping[str, Fraction], digits: int) -> mpmath.mpc:
    with mp.workdps(digits):
        return evaluate(a, point) - evaluate(b, point)


def _log_base_open(a: Expr, b: Expr, verdict: bool | None) -> bool | None:
    """`\\log` without a base is base e to some and base 10 to others: unequal is then undecided."""
    bare = any(_has_bare_log(side) for side in (a, b))
    return None if bare and verdict is False else verdict


def _has_bare_log(expr: Expr) -> bool:
    if not isinstance(expr, Op):
        return False
    return (expr.name == "log" and len(expr.args) == 1) or any(_has_bare_log(arg) for arg in expr.args)


def _only_renamed(a: Expr, b: Expr) -> bool:
    """Whether just the name of the single variable differs, as in `3n^2` and `3x^2`."""
    names_a, names_b = symbols(a), symbols(b)
    if len(names_a) != 1 or len(names_b) != 1 or names_a == names_b or isinstance(a, Sym):
        return False
    if any(" " in name for name in names_a | names_b):  # \overline{CD} names something
        return False
    return bool(_equal_at(_rename(a, *names_a), _rename(b, *names_b), {"x": Fraction(355, 113)}))


def _rename(expr: Expr, name: str) -> Expr:
    if expr == Sym(name):
        return Sym("x")
    return Op(expr.name, tuple(_rename(arg, name) for arg in expr.args)) if isinstance(expr, Op) else expr
