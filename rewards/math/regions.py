"""Sets of real numbers: named ones, and inequalities joined by `and` and `or`."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from ixt_rl.rewards.math.expr import INFINITY, MINUS_INFINITY, Expr, Num, Op, Sym, rational, symbols
from ixt_rl.rewards.math.values import Interval, Labelled, Quantity, Relation, Sequence, SetOp, Union, Value

REALS = Interval(MINUS_INFINITY, INFINITY, False, False)
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


def named_set(text: str) -> Value | None:
    """`\\mathbb{R}`, `\\mathbb{Z}^+`, `\\emptyset`; None for everything else."""
    if text in ("\\emptyset", "\\varnothing"):
        return Sequence("set", ())
    match = re.fullmatch(r"\\set([RZQNC])\s*(?:[\^_]\s*\{?\s*([+*-]|\\ast|>0|0)\s*\}?)?", text)
    if match is None:
        return None
    if match[1] == "R" and not match[2]:
        return REALS
    if match[1] == "R" and match[2] in ("+", ">0"):
        return Interval(Num(Fraction(0)), INFINITY, False, False)
    if match[1] == "R" and match[2] == "-":
        return Interval(MINUS_INFINITY, Num(Fraction(0)), False, False)
    return SetOp(match[1] + (match[2] or ""))


def without_points(value: Value) -> Union | None:
    """The real line without a number or finitely many; None where they are no rational numbers."""
    items = value.items if isinstance(value, Sequence) and value.style in ("set", "list") else (value,)
    points = []
    for item in items:
        if isinstance(item, Relation) and item.operators == ("=",):
            item = Quantity(item.sides[1])
        if not isinstance(item, Quantity) or rational(item.expr) is None:
            return None
        points.append(item.expr)
    ordered = sorted(points, key=lambda point: rational(point) or Fraction(0))
    edges = [MINUS_INFINITY, *ordered, INFINITY]
    return Union(tuple(Interval(a, b, False, False) for a, b in pairwise(edges)))


def as_intervals(relation: Relation) -> list[Interval] | None:
    """`1 < x <= 2`, `x > 3`, `3 > x` and `x != 3` as intervals; None for anything else."""
    sides, operators = relation.sides, relation.operators
    if len(sides) == 2 and any(isinstance(side, Op) and side.name == "abs" for side in sides):
        return _around(sides, operators[0])
    if len(sides) == 3 and all(operator in (">", ">=") for operator in operators):
        sides, operators = sides[::-1], tuple(FLIPPED[operator] for operator in reversed(operators))
    if len(sides) == 3:
        increasing = all(operator in ("<", "<=") for operator in operators)
        between = _is_variable(sides[1]) and not symbols(sides[0]) and not symbols(sides[2])
        found = [Interval(sides[0], sides[2], operators[0] == "<=", operators[1] == "<=")]
        return found if increasing and between else None
    if len(sides) != 2:
        return None
    if not _is_variable(sides[0]):
        sides, operators = sides[::-1], (FLIPPED[operators[0]],)
    if not _is_variable(sides[0]) or symbols(sides[1]):
        return None
    bound, operator = sides[1], operators[0]
    if operator == "!=":
        return [Interval(MINUS_INFINITY, bound, False, False), Interval(bound, INFINITY, False, False)]
    if operator in ("<", "<="):
        return [Interval(MINUS_INFINITY, bound, False, operator == "<=")]
    return [Interval(bound, INFINITY, operator == ">=", False)] if operator in (">", ">=") else None


def _around(sides: tuple[Expr, ...], operator: str) -> list[Interval] | None:
    """`|x - 1| < 2` is (-1, 3), `|x| >= 2` all outside of (-2, 2); None for anything else."""
    if not (isinstance(sides[0], Op) and sides[0].name == "abs"):
        sides, operator = sides[::-1], FLIPPED[operator]
    assert isinstance(sides[0], Op)
    inner, radius = sides[0].args[0], rational(sides[1])
    centre = Fraction(0)
    if isinstance(inner, Op) and inner.name == "add" and len(inner.args) == 2 and _is_variable(inner.args[0]):
        offset = rational(inner.args[1])
        if offset is None:
            return None
        inner, centre = inner.args[0], -offset
    if not _is_variable(inner) or radius is None or radius <= 0 or operator in ("=", "!="):
        return None
    low, high, closed = Num(centre - radius), Num(centre + radius), operator in ("<=", ">=")
    if operator in ("<", "<="):
        return [Interval(low, high, closed, closed)]
    return [Interval(MINUS_INFINITY, low, False, closed), Interval(high, INFINITY, closed, False)]


def variable_of(relation: Relation) -> str:
    """The variable that a relation like `1 < x <= 2` bounds; empty if there is none."""
    return next((side.name for side in relation.sides if isinstance(side, Sym) and symbols(side)), "")


def _is_variable(expr: Expr) -> bool:
    return isinstance(expr, Sym) and bool(symbols(expr))


def combined(items: list[Value], how: str) -> Value | None:
    """Inequalities in one variable, joined: their union for `or`, their intersection for `and`.

    A comma is the one of the two that is not trivial. None when this is not such a list.
    """
    relations = [item for item in items if isinstance(item, Relation)]
    if len(relations) < len(items) or len({variable_of(item) for item in relations}) > 1:
        return _union_of_sets(items) if how == "or" else None
    if any("=" in item.operators for item in relations) or not variable_of(relations[0]):
        return None
    regions = [as_intervals(item) for item in relations]
    if any(region is None for region in regions):
        return None
    found = [region for region in regions if region is not None]
    exact = [part for region in found for part in region]
    if any(end not in (MINUS_INFINITY, INFINITY) and rational(end) is None for p in exact for end in (p.low, p.high)):
        return Union(tuple(exact)) if how == "or" else None
    both = found[0]
    for region in found[1:]:
        both = [part for a in both for b in region if (part := _intersection(a, b)) is not None]
    if how == "" and all(item.operators == ("!=",) for item in relations):
        how = "and"
    if how == "or" or (how == "" and not both):
        return Union(tuple(exact))
    if how == "" and len(found) == 2 and _covers_everything(exact):
        how = "and"
    if not both:
        return Sequence("set", ())
    return both[0] if len(both) == 1 else Union(tuple(both))


def _covers_everything(parts: list[Interval]) -> bool:
    return any(part.low == MINUS_INFINITY for part in parts) and any(part.high == INFINITY for part in parts)


def _union_of_sets(items: list[Value]) -> Value | None:
    parts: list[Value] = []
    for item in items:
        found = parts_of(item)
        if found is None:
            return None
        parts += found
    return Union(tuple(parts))


def parts_of(value: Value) -> list[Value] | None:
    """The intervals and finite sets that a value is the union of; None if it is no set of numbers."""
    if isinstance(value, Union):
        found = [parts_of(part) for part in value.parts]
        if any(part is None for part in found):
            return None
        return [part for parts in found if parts for part in parts]
    if isinstance(value, Labelled):
        return parts_of(value.value)
    if isinstance(value, Interval):
        return [value]
    if isinstance(value, Relation) and "=" not in value.operators:
        return as_intervals(value)  # type: ignore[return-value]
    if isinstance(value, Sequence) and value.style in ("paren", "bracket") and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Quantity) and isinstance(high, Quantity):
            closed = value.style == "bracket"
            return [Interval(low.expr, high.expr, closed, closed)]
    return [value] if isinstance(value, Sequence) and value.style == "set" else None


def end_value(expr: Expr) -> Fraction | float | None:
    """An end of an interval as something that can be ordered; None where only rationals could."""
    if expr == INFINITY:
        return float("inf")
    if expr == MINUS_INFINITY:
        return float("-inf")
    return rational(expr)


def _intersection(a: Interval, b: Interval) -> Interval | None:
    lows = [(end_value(p.low), not p.low_closed, p.low) for p in (a, b)]
    highs = [(end_value(p.high), p.high_closed, p.high) for p in (a, b)]
    low = max(lows, key=lambda end: (end[0], end[1]))  # type: ignore[arg-type,return-value]
    high = min(highs, key=lambda end: (end[0], end[1]))  # type: ignore[arg-type,return-value]
    if low[0] > high[0] or (low[0] == high[0] and (low[1] or not high[1])):  # type: ignore[operator]
        return None
    return Interval(low[2], high[2], not low[1], high[1])


def canonical_region(parts: list[Value]) -> list[tuple[Fraction | float, bool, Fraction | float, bool]] | None:
    """The union of intervals and finite sets as sorted, disjoint pieces (low, closed, high, closed).

    None where an end is no rational number.
    """
    pieces = []
    for part in parts:
        found = [part] if isinstance(part, Interval) else _points(part)
        if found is None:
            return None
        for piece in found:
            low, high = end_value(piece.low), end_value(piece.high)
            if low is None or high is None:
                return None
            if low < high or (low == high and piece.low_closed and piece.high_closed):
                pieces.append((low, piece.low_closed, high, piece.high_closed))
    pieces.sort(key=lambda piece: (piece[0], not piece[1]))
    merged: list[tuple[Fraction | float, bool, Fraction | float, bool]] = []
    for low, low_closed, high, high_closed in pieces:
        if merged:
            a, a_closed, b, b_closed = merged[-1]
            if low < b or (low == b and (low_closed or b_closed)):
                end = max((b, b_closed), (high, high_closed))
                merged[-1] = (a, a_closed, *end)
                continue
        merged.append((low, low_closed, high, high_closed))
    return merged


def _points(part: Value) -> list[Interval] | None:
    if not isinstance(part, Sequence) or part.style != "set":
        return None
    items = [item.expr for item in part.items if isinstance(item, Quantity)]
    return [Interval(item, item, True, True) for item in items] if len(items) == len(part.items) else None
