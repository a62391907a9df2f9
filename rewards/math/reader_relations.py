"""The reader of equations, inequalities, approximations and congruences."""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, Num, Op, Sym, rational, symbols
from ixt_rl.rewards.math.outcome import TwoReadings, Unreadable
from ixt_rl.rewards.math.reader_base import TokenReader
from ixt_rl.rewards.math.reader_tokens import OPERATORS, label_of, may_be_named, what_follows
from ixt_rl.rewards.math.tokens import Tokens, spell, split
from ixt_rl.rewards.math.values import Either, Labelled, Quantity, Relation, Sequence, Value


class RelationReader(TokenReader):
    """Reads what is written with a relation sign."""

    def relation(self, tokens: Tokens) -> Value | None:
        sides, found = split(tokens, lambda token, _: token.kind in ("op", "cmd") and token.text in OPERATORS)
        if not found:
            return None
        operators = [OPERATORS[token.text] for token in found]
        if operators[0] == "~" and not sides[0]:
            value = self.value(sides[1]) if len(sides) == 2 else None
            if isinstance(value, Quantity):
                return Quantity(value.expr, value.unit, approximate=True)
            raise Unreadable("an approximation of nothing")
        if any(not side for side in sides):
            if not sides[0] and operators == ["="] and sides[1]:
                return self.value(sides[1])
            raise Unreadable("a relation with an empty side")
        if operators[0] == "in":
            return self.value(what_follows(tokens, found[0]))
        if "==" in operators:
            return self.congruence(sides, operators)
        if set(operators) <= {"=", "~"}:
            return self.equation(tokens, sides, operators, found)
        if "~" in operators or "in" in operators:
            raise Unreadable("relations of several kinds")
        if any(_unions(side) for side in sides) or _joins_notations(tokens):
            return None
        return Relation(tuple(self.side(side) for side in sides), tuple(operators))

    def side(self, tokens: Tokens) -> Expr:
        """A side of an inequality; its unit may only be one of degrees, percent and things that are counted."""
        value = self.quantity(tokens)
        if not isinstance(value, Quantity):
            raise Unreadable("an inequality of something that is no number")
        if value.unit.name == "degree":
            return Op("deg", (value.expr,))
        if value.unit.name == "percent":
            return Op("div", (value.expr, Num(Fraction(100))))
        return value.expr

    def equation(self, tokens: Tokens, sides: list[Tokens], operators: list[str], found: Tokens) -> Value:
        label = label_of(sides[0])
        if label is not None:
            return Labelled(label, self.value(what_follows(tokens, found[0])))
        try:
            values = [self.one_side(side) for side in sides]
        except TwoReadings:
            raise
        except Unreadable:
            if len(sides) != 2 or not may_be_named(sides[0]):
                raise
            return Labelled(spell(sides[0]), self.value(sides[1]))
        if "~" in operators:
            return self.approximation(values, operators)
        if all(isinstance(value, Quantity) for value in values):
            quantities = [value for value in values if isinstance(value, Quantity)]
            if quantities[-1].unit.powers and not any(value.unit.powers for value in quantities[:-1]):
                return Labelled(spell(sides[0]), quantities[-1])
            if any(value.unit.powers for value in quantities):
                if rational(quantities[0].expr) is not None:
                    return Labelled("", quantities[-1])
                raise Unreadable("a unit inside a relation")
            return Relation(tuple(value.expr for value in quantities), tuple(operators))
        first = values[0]
        plain_name = isinstance(first, Quantity) and not first.unit.powers
        tuple_name = isinstance(first, Sequence) and all(
            isinstance(item, Quantity) and isinstance(item.expr, Sym) and symbols(item.expr) for item in first.items
        )
        if (plain_name or tuple_name) and len(values) == 2:
            return Labelled(spell(sides[0]), values[1])
        raise Unreadable("an equation of something that is no number")

    def one_side(self, tokens: Tokens) -> Value:
        items = self.items(tokens)
        return items[0] if len(items) == 1 else Sequence("list", tuple(items))

    def approximation(self, values: list[Value], operators: list[str]) -> Value:
        """`200/3 \\approx 66.67` is one answer in two notations; `x \\approx 2.5` is an approximate value."""
        at = operators.index("~")
        before, after = values[: at + 1], values[at + 1 :]
        if not all(isinstance(value, Quantity) for value in values) or len(after) != 1:
            raise Unreadable("an approximation of something that is no number")
        last = after[0]
        assert isinstance(last, Quantity)
        rounded = Quantity(last.expr, last.unit, approximate=True)
        exact = before[-1]
        if isinstance(exact, Quantity) and not symbols(exact.expr):
            return Either((Quantity(exact.expr, exact.unit if exact.unit.powers else last.unit), rounded))
        if len(before) == 1:
            return rounded
        raise Unreadable("an approximation of an expression")

    def congruence(self, sides: list[Tokens], operators: list[str]) -> Value:
        """`x \\equiv 3 \\pmod{5}`."""
        if operators != ["=="]:
            raise Unreadable("a chain of congruences")
        text = spell(sides[1])
        match = re.fullmatch(r"(.*?)\s*\(?\s*(?:\\[pb]?mod|⟦\s*mod\s*⟧|mod)\s*\{?\s*(\d+)\s*\}?\s*\)?", text)
        if match is None or not match[1]:
            raise Unreadable("a congruence without its modulus")
        depth, cut = 0, len(sides[1])
        for at, token in enumerate(sides[1]):
            if token.text in ("\\pmod", "\\mod", "\\bmod", "mod") or token.text.strip() == "mod":
                cut = at - (depth > 0)
                break
            depth += (token.text == "(") - (token.text == ")")
        values, _ = split(sides[1][:cut], lambda token, _: token.text == ",")
        items = [self.item(value) for value in values]
        residue = items[0] if len(items) == 1 else Sequence("list", tuple(items))
        return Sequence("congruence", (residue, Quantity(Num(Fraction(match[2])))))


def _unions(tokens: Tokens) -> bool:
    return any(token.text in ("\\cup", "\\cap", "\\setminus") for token in tokens)


def _joins_notations(tokens: Tokens) -> bool:
    """Whether an inequality goes on as an interval, `1 < x \\le 4 : (1, 4]`."""
    parts, _ = split(tokens, lambda token, _: token.text == ":")
    return len(parts) == 2 and bool(parts[1]) and parts[1][0].text in ("(", "[", "\\{", "{")
