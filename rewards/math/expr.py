"""Expressions as trees, and their exact value where they are rational.

Nothing here computes anything large: a value beyond `MAX_BITS` is no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial, gcd, lcm

MAX_BITS = 200_000
"""Largest integer an exact value may reach."""

CONSTANTS = {"pi", "e", "i", "inf"}


@dataclass(frozen=True)
class Num:
    """A number written with digits; `decimals` is the number of digits after the point."""

    value: Fraction
    decimals: int = 0


@dataclass(frozen=True)
class Sym:
    """A variable or a named constant (`pi`, `e`, `i`, `inf`)."""

    name: str


@dataclass(frozen=True)
class Op:
    """An operation or a function applied to its arguments."""

    name: str
    args: tuple[Expr, ...]


Expr = Num | Sym | Op

ZERO, ONE, TWO = Num(Fraction(0)), Num(Fraction(1)), Num(Fraction(2))
INFINITY = Sym("inf")
MINUS_INFINITY = Op("neg", (INFINITY,))
DOTS = Sym("...")

BINDERS = {"sum", "prod", "int", "lim", "lim+", "lim-"}
"""Operations whose second argument is the variable they bind: (body, variable, from, to)."""


def rational(expr: Expr) -> Fraction | None:
    """The exact value of an expression of rationals; None if it is not one or would be too large."""
    if isinstance(expr, Num):
        return expr.value
    if isinstance(expr, Sym):
        return None
    args = []
    for arg in expr.args:
        value = rational(arg)
        if value is None:
            return None
        args.append(value)
    result = _apply(expr.name, args)
    return result if result is not None and bits(result) <= MAX_BITS else None


def bits(value: Fraction) -> int:
    """Size of the larger of numerator and denominator."""
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _apply(name: str, args: list[Fraction]) -> Fraction | None:
    if name == "add":
        return sum(args, Fraction(0))
    if name == "neg":
        return -args[0]
    if name == "mul":
        return args[0] * args[1]
    if name == "div":
        return args[0] / args[1] if args[1] else None
    if name == "pow":
        return _power(*args)
    if name == "root":
        return _root(*args)
    if name in ("factorial", "binom", "perm"):
        return _counted(name, args)
    if name == "abs":
        return abs(args[0])
    if name == "floor":
        return Fraction(args[0].__floor__())
    if name == "ceil":
        return Fraction(args[0].__ceil__())
    if name in ("max", "min"):
        return max(args) if name == "max" else min(args)
    if name in ("gcd", "lcm") and all(arg.denominator == 1 for arg in args):
        return Fraction((gcd if name == "gcd" else lcm)(*(int(arg) for arg in args)))
    return None


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    integer = exponent.denominator == 1 and (base != 0 or exponent > 0)
    if not integer or bits(base) * abs(exponent) > MAX_BITS:
        return None
    return base ** int(exponent)


def _root(value: Fraction, index: Fraction) -> Fraction | None:
    """The root of a perfect power, such as \\sqrt{16}; None for every other one."""
    if index != 2 or value < 0 or bits(value) > 2_000:
        return None
    top, bottom = _isqrt(value.numerator), _isqrt(value.denominator)
    return Fraction(top, bottom) if top is not None and bottom is not None else None


def _isqrt(value: int) -> int | None:
    from math import isqrt

    root = isqrt(value)
    return root if root * root == value else None


def _counted(name: str, args: list[Fraction]) -> Fraction | None:
    if any(arg.denominator != 1 or not 0 <= arg <= 5_000 for arg in args):
        return None
    if name == "factorial":
        return Fraction(factorial(int(args[0])))
    top, bottom = (int(arg) for arg in args)
    if bottom > top:
        return Fraction(0)
    return Fraction(comb(top, bottom) * (factorial(bottom) if name == "perm" else 1))


def symbols(expr: Expr) -> set[str]:
    """Names of the free variables in an expression; the constants are none."""
    if isinstance(expr, Num):
        return set()
    if isinstance(expr, Sym):
        return set() if expr.name in CONSTANTS else {expr.name}
    found: set[str] = set().union(*(symbols(arg) for arg in expr.args))
    if expr.name in BINDERS and isinstance(expr.args[1], Sym):
        return symbols(expr.args[0]) - {expr.args[1].name} | set().union(*(symbols(arg) for arg in expr.args[2:]))
    return found


def contains(expr: Expr, *names: str) -> bool:
    """Whether an operation of such a name (or name prefix ending in `:`) occurs in the expression."""
    if not isinstance(expr, Op):
        return False
    hit = any(expr.name.startswith(name) if name.endswith(":") else expr.name == name for name in names)
    return hit or any(contains(arg, *names) for arg in expr.args)


def rename(expr: Expr, names: dict[str, str]) -> Expr:
    """The expression with variables renamed."""
    if isinstance(expr, Sym):
        return Sym(names.get(expr.name, expr.name))
    return Op(expr.name, tuple(rename(arg, names) for arg in expr.args)) if isinstance(expr, Op) else expr


def substitute(expr: Expr, at: dict[str, Fraction]) -> Expr:
    """The expression with variables replaced by numbers."""
    if isinstance(expr, Sym):
        return Num(at[expr.name]) if expr.name in at else expr
    return Op(expr.name, tuple(substitute(arg, at) for arg in expr.args)) if isinstance(expr, Op) else expr


def negated(expr: Expr) -> Expr:
    return Op("neg", (expr,))


def difference(a: Expr, b: Expr) -> Expr:
    return Op("add", (a, negated(b)))
