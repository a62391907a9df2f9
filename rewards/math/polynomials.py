"""The form of an expression: its degree as a polynomial, and whether it can be the name of a quantity."""

from __future__ import annotations

from ixt_rl.rewards.math.expr import BINDERS, Expr, Num, Op, Sym, rational, symbols


def degree(expr: Expr) -> int | None:
    """Total degree as written (an upper bound); None if it is no polynomial."""
    if not symbols(expr):
        return 0
    if isinstance(expr, Sym):
        return 1
    assert isinstance(expr, Op)
    degrees = [degree(arg) for arg in expr.args]
    if expr.name in ("add", "neg"):
        return None if None in degrees else max(found for found in degrees if found is not None)
    if expr.name == "mul":
        return None if None in degrees else sum(found for found in degrees if found is not None)
    if expr.name == "div":
        return degrees[0] if not symbols(expr.args[1]) else None
    if expr.name == "pow" and degrees[0] is not None:
        exponent = rational(expr.args[1])
        whole = exponent is not None and exponent.denominator == 1 and 0 <= exponent <= 1000
        return degrees[0] * int(exponent) if whole and exponent is not None else None
    return None


def is_name(expr: Expr) -> bool:
    """Whether the left of `... = 5` names what was asked for: `x`, `AB`, `m + n`, `xy`, `|AB|`, `f(2)`, `\\frac{m}{n}`.

    With a number in it (`2x = 10`) it may be an equation whose solution was asked for.
    """
    if isinstance(expr, Num):
        return False
    if isinstance(expr, Sym):
        return bool(symbols(expr))
    if expr.name.startswith("apply:") or expr.name in BINDERS:
        return True
    if expr.name == "abs":
        return _has_points(expr.args[0]) or is_name(expr.args[0])
    if expr.name in ("mul", "add", "div", "conj", "norm"):
        return all(
            is_name(arg) or (isinstance(arg, Op) and arg.name == "neg" and is_name(arg.args[0])) for arg in expr.args
        )
    if expr.name in ("pow", "root"):
        return is_name(expr.args[0]) and len(symbols(expr)) > 1
    return expr.name in ("sin", "cos", "tan", "cot") and bool(symbols(expr)) and is_name(expr.args[0])


def _has_points(expr: Expr) -> bool:
    return isinstance(expr, Sym) and " " in expr.name
