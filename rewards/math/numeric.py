"""Whether two expressions are equal, by high-precision evaluation.

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
from functools import lru_cache

import mpmath
from mpmath import mp

from ixt_rl.rewards.math.expr import (
    BINDERS,
    Expr,
    Num,
    Op,
    Sym,
    bits,
    contains,
    difference,
    rational,
    rename,
    substitute,
    symbols,
)
from ixt_rl.rewards.math.outcome import TooLarge

_OPEN = ("int", "lim", "lim+", "lim-", "norm", "det")
POINTS = 6
"""Points at which expressions with variables are compared."""
MAX_EXPONENT_BITS = 4_000_000
"""Largest logarithm (base 2) of a value that is still computed."""
MAX_TERMS = 2_000
"""Most terms of a sum or product that are added up."""
SMALL_BITS = 4_000
"""Largest logarithm (base 2) of a value that the trainer process computes itself."""
SMALL_OPERATIONS = 80
"""Most operations of an expression that the trainer process computes itself."""


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
    if isinstance(expr, Op) and expr.name in BINDERS:
        return _sum(expr, at)
    if isinstance(expr, Sym):
        if expr.name in at:
            return mp.mpf(at[expr.name].numerator) / at[expr.name].denominator
        if expr.name == "pi":
            return +mp.pi
        if expr.name == "e":
            return +mp.e
        if expr.name == "i":
            return mp.mpc(0, 1)
        raise NoValue(expr.name)
    args = [evaluate(arg, at) for arg in expr.args]
    try:
        value = _apply(expr.name, args)
    except (ZeroDivisionError, ValueError, OverflowError, mpmath.libmp.NoConvergence) as error:
        raise NoValue(str(error)) from error
    if not mpmath.isfinite(value):
        raise NoValue(expr.name)
    return value


def _sum(expr: Op, at: Mapping[str, Fraction]) -> mpmath.mpc:
    """A finite sum or product of few terms; other bound operations have no value here."""
    if expr.name not in ("sum", "prod"):
        raise NoValue(expr.name)
    body, variable, *ends = expr.args
    bounds = [rational(substitute(end, dict(at))) for end in ends]
    low, high = bounds
    if low is None or high is None or low.denominator != 1 or high.denominator != 1:
        raise NoValue(expr.name)
    if high - low > MAX_TERMS:
        raise NoValue(f"a {expr.name} of more than {MAX_TERMS} terms")
    assert isinstance(variable, Sym)
    terms = [evaluate(body, {**at, variable.name: Fraction(k)}) for k in range(int(low), int(high) + 1)]
    return mp.fsum(terms) if expr.name == "sum" else mp.fprod(terms)


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
    if name in ("factorial", "binom", "perm"):
        if any(abs(arg) > 10**6 for arg in args):
            raise TooLarge("factorial of a number above 10^6")
        if name == "perm":
            return mp.binomial(*args) * mp.factorial(args[1])
        return mp.factorial(first) if name == "factorial" else mp.binomial(*args)
    if name in ("max", "min") and all(mp.im(arg) == 0 for arg in args):
        return max(args) if name == "max" else min(args)
    if name not in _FUNCTIONS:
        raise NoValue(name)
    _check_absorbed([first, mp.mpf(1)])  # cos(tiny) is 1
    if abs(first) > 10**6:
        raise TooLarge(f"{name} of a number above 10^6")
    return _FUNCTIONS[name](first)


_FUNCTIONS: dict[str, Callable[[mpmath.mpc], mpmath.mpc]] = {
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "sec": mp.sec, "csc": mp.csc, "cot": mp.cot,
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh,
    "coth": mp.coth, "sech": mp.sech, "csch": mp.csch, "arccot": mp.acot, "arcsec": mp.asec, "arccsc": mp.acsc,
    "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh, "erf": mp.erf,
    "arg": mp.arg, "Re": mp.re, "Im": mp.im,
    "conj": mp.conj, "sgn": mp.sign, "ln": mp.log, "exp": mp.exp, "abs": abs, "floor": mp.floor, "ceil": mp.ceil,
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


def is_small(expr: Expr) -> bool:
    """Whether evaluating an expression takes so little that the trainer process may do it itself."""
    return _operations(expr) <= SMALL_OPERATIONS and _size(expr) is not None


def _operations(expr: Expr) -> int:
    return 1 + sum(map(_operations, expr.args)) if isinstance(expr, Op) else 0


def _size(expr: Expr) -> float | None:
    """A bound on the logarithm (base 2) of the largest value on the way; None if there is none that is small."""
    if isinstance(expr, Num):
        return bits(expr.value) if bits(expr.value) <= 256 else None
    if isinstance(expr, Sym):
        return 5.0
    sizes = [_size(arg) for arg in expr.args]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    bound = _grown(expr, known)
    return bound if bound is not None and bound <= SMALL_BITS else None


def _grown(expr: Op, sizes: list[float]) -> float | None:
    if expr.name == "add":
        return max(sizes) + len(sizes)
    if expr.name in ("mul", "div"):
        return sum(sizes)
    if expr.name == "pow":
        exponent = rational(expr.args[1])
        if exponent is not None:
            return sizes[0] * max(1.0, abs(float(exponent)))
        return (sizes[0] + 1) * 2 ** sizes[1] if sizes[1] <= 10 else None
    if expr.name in ("neg", "abs", "root", "deg", "conj", "max", "min", "floor", "ceil", "Re", "Im", "sgn", "arg"):
        return max(sizes)
    if expr.name in ("factorial", "binom", "perm"):
        whole = [rational(arg) for arg in expr.args]
        return 2_000.0 if all(value is not None and abs(value) <= 200 for value in whole) else None
    if expr.name in ("log", "ln") or expr.name.startswith("arc"):
        return max(sizes)
    if expr.name in ("exp", "sinh", "cosh", "tanh", "coth", "sech", "csch", "erf"):
        return 2 ** sizes[0] * 1.5 if sizes[0] <= 10 else None
    return 16.0 if expr.name in _FUNCTIONS and sizes[0] <= 64 else None


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
    if any(contains(side, "apply:", *_OPEN) for side in (a, b)):
        return True if a == b else None
    known = []
    for point in _points(tuple(names), "positive"):
        verdict = _equal_at(a, b, point)
        if verdict is not None:
            known.append(verdict)
        if verdict is False:
            break
    else:
        if len(known) < POINTS // 2:
            return None
    if False in known:
        if all(_equal_at(a, b, point) for point in _points(tuple(names), "integer")):
            return None  # (-1)^n and cos(n pi): equal for whole n only
        return None if _only_renamed(a, b) else _log_base_open(a, b, False)
    negative = [_equal_at(a, b, point) for point in _points(tuple(names), "negative")]
    return None if any(verdict is False for verdict in negative) else True


def proportional(a: Expr, b: Expr) -> bool | None:
    """Whether a = c b with one constant c != 0, so that a = 0 and b = 0 are the same equation."""
    names = sorted(symbols(a) | symbols(b))
    ratio: tuple[Expr, Expr] | None = None
    for point in _points(tuple(names), "positive"):
        here = substitute(a, point), substitute(b, point)
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


def up_to_constant(a: Expr, b: Expr) -> bool | None:
    """Whether two expressions differ by a constant where both have a value."""
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return True
    if any(contains(side, "apply:", *_OPEN) for side in (a, b)):
        return True if a == b else None
    rest = difference(a, b)
    start: Expr | None = None
    verdicts = []
    for point in _points(tuple(names), "positive"):
        here = substitute(rest, point)
        if start is None:
            start = here if _equal_at(here, here, {}) else None
            continue
        verdicts.append(_equal_at(start, here, {}))
        if verdicts[-1] is False:
            return False
    known = [verdict for verdict in verdicts if verdict is not None]
    return True if len(known) >= POINTS // 2 else None


@lru_cache(maxsize=256)
def _points(names: tuple[str, ...], where: str) -> list[dict[str, Fraction]]:
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
    if point:
        a, b = substitute(a, dict(point)), substitute(b, dict(point))
    exact = rational(a)
    if exact is not None:
        other = rational(b)
        if other is not None:
            return exact == other
    for digits in (60, 240):
        try:
            coarse, fine = _difference(a, b, digits), _difference(a, b, 2 * digits)
            if fine == 0 or abs(fine) <= abs(coarse) * mp.mpf(10) ** (-digits // 2):
                return True
            if abs(fine - coarse) <= abs(fine) * mp.mpf(10) ** -10:
                return False
        except Absorbed:
            continue
        except NoValue:
            return None
    return None


def _difference(a: Expr, b: Expr, digits: int) -> mpmath.mpc:
    with mp.workdps(digits):
        return evaluate(a, {}) - evaluate(b, {})


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
    (name_a,), (name_b,) = names_a, names_b
    return bool(_equal_at(rename(a, {name_a: "x"}), rename(b, {name_b: "x"}), {"x": Fraction(355, 113)}))
