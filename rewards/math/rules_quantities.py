"""When two numbers or expressions with their units are the same."""

from __future__ import annotations

from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, Num, Op, Sym, difference, rename, symbols
from ixt_rl.rewards.math.rounding import rounds_to, within
from ixt_rl.rewards.math.rules_base import Comparison, Undecided
from ixt_rl.rewards.math.units import MONEY, SINGLE_LETTERS, Unit, read_unit
from ixt_rl.rewards.math.values import Quantity


class QuantityRules(Comparison):
    """Comparisons of expressions with units, rounding and constants of integration."""

    def quantity(self, gold: Quantity, answer: Quantity) -> bool | None:
        letter = self.unit_or_variable(gold, answer)
        if letter is not None:
            return letter
        if gold.unit == answer.unit:
            return self.close(gold, answer)
        return self.other_units(gold, answer)

    def unit_or_variable(self, gold: Quantity, answer: Quantity) -> bool | None:
        """`5 m` may be five metres or a product; None where this is no question."""
        for side, other in ((gold, answer), (answer, gold)):
            found = _letter_unit(side)
            if found is None or (symbols(other.expr) and not other.unit.powers):
                continue
            number, unit = found
            if unit == other.unit:
                return self.equal(number, other.expr)
            if other.unit.powers and not other.unit.counted and side is gold:
                return self.quantity(Quantity(number, unit), other)
            if not other.unit.powers:
                if self.equal(number, other.expr) is False:
                    return False
                raise Undecided("ambiguous: a unit's letter, or a variable")
        return None

    def other_units(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Two quantities with different units, one of which may have none."""
        units = {gold.unit.name, answer.unit.name}
        bare = not gold.unit.powers or not answer.unit.powers
        if bare and "percent" in units:
            return self.percent(gold, answer)
        if "degree" in units and (bare or "radian" in units):
            return self.degrees(gold, answer)
        if bare:
            verdict = self.close(gold, answer)
            if verdict and any(name == "percent" for name, _ in (*gold.unit.powers, *answer.unit.powers)):
                raise Undecided("ambiguous: percent of something, or twice")
            if verdict and answer.unit.name == "molar" and not gold.unit.powers:
                raise Undecided("ambiguous: M for molar, or for million")
            small = units & {"cent", "pence"}
            if small and not verdict and not gold.unit.powers:  # the question's unit may be the dollar
                verdict = self.equal(gold.expr, Op("div", (answer.expr, Num(Fraction(100)))))
            if verdict and not gold.unit.powers and small:
                raise Undecided(f"ambiguous: {answer.unit} where the gold has no unit")
            return verdict
        if {"degC", "degF"} == units:
            celsius = Op(
                "div", (Op("mul", (difference(answer.expr, Num(Fraction(32))), Num(Fraction(5)))), Num(Fraction(9)))
            )
            fahrenheit = Op(
                "add", (Op("div", (Op("mul", (answer.expr, Num(Fraction(9)))), Num(Fraction(5)))), Num(Fraction(32)))
            )
            return self.equal(gold.expr, celsius if gold.unit.name == "degC" else fahrenheit)
        counted = gold.unit.counted or answer.unit.counted
        if counted or "percent" in units:
            if self.close(gold, answer) is False:
                return False
            raise Undecided(f"ambiguous: {gold.unit} against {answer.unit}")
        factor = self.leaves.factor(answer.unit, gold.unit)
        if factor is None:
            if units & MONEY and len(units & MONEY) == 1 and self.equal(gold.expr, answer.expr):
                raise Undecided(f"ambiguous: {gold.unit} against {answer.unit}")
            self.by_units = True
            return False
        verdict = self.close(gold, Quantity(Op("mul", (answer.expr, Num(factor)))))
        self.by_units = factor != 1
        return verdict

    def percent(self, gold: Quantity, answer: Quantity) -> bool | None:
        """A percentage is its value; the sign may be left out where the gold has it."""
        scaled = [
            Op("div", (side.expr, Num(Fraction(100)))) if side.unit.powers else side.expr for side in (gold, answer)
        ]
        if self.equal(scaled[0], scaled[1]):
            return True
        if self.equal(gold.expr, answer.expr) is not True:
            return self.close(Quantity(scaled[0]), Quantity(scaled[1]))
        if answer.unit.powers:
            raise Undecided("ambiguous: percent where the gold has no unit")
        return True

    def degrees(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Degrees are converted to radians; their sign may be left out."""
        sides = [Op("deg", (side.expr,)) if side.unit.name == "degree" else side.expr for side in (gold, answer)]
        if self.equal(sides[0], sides[1]):
            return True
        if {gold.unit.name, answer.unit.name} == {"degree", "radian"}:
            return self.close(Quantity(sides[0]), Quantity(sides[1]))
        return self.close(gold, answer)

    def close(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Equality; but a value rounded to what the other side shows is undecided, not wrong."""
        verdict = self.with_constant(gold.expr, answer.expr)
        if verdict and answer.approximate and not gold.approximate:
            shown = answer.expr
            if not (isinstance(shown, Num) and shown.decimals):
                raise Undecided("ambiguous: an approximate value")
        if verdict is False:
            if self.tolerance and within(gold.expr, answer.expr, self.tolerance):
                return True
            if rounds_to(gold.expr, answer.expr) or rounds_to(answer.expr, gold.expr):
                raise Undecided("ambiguous: equal after rounding")
        return verdict

    def with_constant(self, gold: Expr, answer: Expr) -> bool | None:
        """Equality; a constant of integration may be called differently and absorb numbers."""
        answer = _same_case(answer, gold)
        constant = _constant(gold)
        if constant is None:
            return self.equal(gold, answer)
        other = _constant(answer)
        if other is None:
            verdict = self.equal(gold, answer)
            if verdict is False and self.leaves.up_to_constant(_without(gold, constant), answer):
                raise Undecided("ambiguous: the constant of integration is missing")
            return verdict
        return self.leaves.up_to_constant(_without(gold, constant), _without(answer, other))


def _letter_unit(value: Quantity) -> tuple[Expr, Unit] | None:
    """(5, metre) of a product `5 m`."""
    expr = value.expr
    if value.unit.powers or not isinstance(expr, Op) or expr.name != "mul" or not isinstance(expr.args[1], Sym):
        return None
    letter = expr.args[1].name
    if letter not in SINGLE_LETTERS or symbols(expr.args[0]):
        return None
    unit = read_unit(letter)
    return None if unit is None else (expr.args[0], unit)


def _constant(expr: Expr) -> str | None:
    """The name of an additive constant of integration: `C` or `c` alone as a term, and nowhere else."""
    if not isinstance(expr, Op) or expr.name != "add":
        return None
    for term in expr.args:
        bare = term.args[0] if isinstance(term, Op) and term.name == "neg" else term
        if isinstance(bare, Sym) and bare.name in ("C", "c", "K", "C_1", "c_1", "C_0"):
            rest = [other for other in expr.args if other is not term]
            if all(bare.name not in symbols(other) for other in rest) and any(symbols(other) for other in rest):
                return bare.name
    return None


def _without(expr: Expr, name: str) -> Expr:
    """The sum without its constant of integration."""
    assert isinstance(expr, Op)
    kept = tuple(arg for arg in expr.args if name not in symbols(arg))
    return kept[0] if len(kept) == 1 else Op("add", kept)


def _same_case(answer: Expr, gold: Expr) -> Expr:
    """Constants of the answer in the gold's case: `c` for `C`."""
    mine, theirs = symbols(gold), symbols(answer)
    names = {name: name.swapcase() for name in theirs - mine if name[0] in "Cc" and name.swapcase() in mine - theirs}
    return rename(answer, names) if names else answer
