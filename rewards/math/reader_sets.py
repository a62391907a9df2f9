"""The reader of sets, intervals, tuples and their unions and differences."""

from __future__ import annotations

from ixt_rl.rewards.math.expr import INFINITY, MINUS_INFINITY, Sym
from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.reader_base import TokenReader
from ixt_rl.rewards.math.reader_tokens import what_follows
from ixt_rl.rewards.math.regions import REALS, combined, named_set, without_points
from ixt_rl.rewards.math.tokens import Token, Tokens, balanced, spell, split
from ixt_rl.rewards.math.values import Interval, Quantity, Sequence, SetOp, Union, Value


class SetReader(TokenReader):
    """Reads what is written with brackets or with signs between sets."""

    def set_operation(self, tokens: Tokens) -> Value | None:
        """Unions, intersections, differences and named sets."""
        name = named_set(spell(tokens))
        if name is not None:
            return name
        parts, found = split(tokens, lambda token, at: _is_union(token, at, tokens))
        if found:
            values = [self.item(part) for part in parts]
            region = combined(values, "or")
            return region if region is not None else Union(tuple(values))
        parts, found = split(tokens, lambda token, _: token.text in ("\\setminus", "\\backslash"))
        if found:
            return _difference([self.item(part) for part in parts])
        parts, found = split(tokens, lambda token, _: token.text == "\\cap")
        if found:
            return SetOp("cap", tuple(self.item(part) for part in parts))
        if any(token.text == "-" for token in tokens[1:2]) and named_set(spell(tokens[:1])) is not None:
            return _difference([self.item(tokens[:1]), self.item(tokens[2:])])
        return None

    def french_interval(self, tokens: Tokens) -> Interval | None:
        """`]1, 2[`, `[1; 2[`."""
        first, last = tokens[0].text, tokens[-1].text
        if not ((first == "]" and last in ("]", "[")) or (first == "[" and last == "[")):
            return None
        parts, found = split(tokens[1:-1], lambda token, _: token.text in (";", ","))
        if len(found) != 1:
            raise Unreadable("an interval has two ends")
        return Interval(self.expr(parts[0]), self.expr(parts[1]), first == "[", last == "]")

    def bracketed(self, tokens: Tokens) -> Value | None:
        """`(a, b)`, `[a, b)`, `\\{a, b\\}`, `{a, b}`, `\\langle a, b \\rangle`; None if it is not such a thing."""
        opener, closer = tokens[0].text, tokens[-1].text
        if opener == "\\langle" and closer == "\\rangle":
            opener, closer = "(", ")"
        if opener not in ("(", "[", "{", "\\{") or closer not in (")", "]", "}", "\\}") or len(tokens) < 2:
            return None
        inner = tokens[1:-1]
        if not balanced(inner):
            return None
        braces = opener in ("{", "\\{")
        if braces and not inner:
            return Sequence("set", ())
        if braces:
            builder = self.set_builder(inner)
            if builder is not None:
                return builder
        comma = any(token.text == "," for token in inner)
        parts, found = split(inner, lambda token, _: token.text == ("," if comma else ";"))
        if braces != (closer in ("}", "\\}")):
            raise Unreadable(f"brackets {opener} and {closer}")
        if not found and opener != "\\{":
            return None
        items = tuple(item for part in parts for item in self.items(part))
        if braces:
            return Sequence("set", items)
        if opener + closer not in ("()", "[]") or (len(items) == 2 and any(_is_infinite(item) for item in items)):
            if len(items) != 2 or not all(isinstance(item, Quantity) for item in items):
                raise Unreadable("an interval has two ends")
            low, high = (item.expr for item in items if isinstance(item, Quantity))
            return Interval(low, high, opener == "[", closer == "]")
        return Sequence("paren" if opener == "(" else "bracket", items)

    def set_builder(self, tokens: Tokens) -> Value | None:
        """`\\{x \\mid x > 2\\}`, `\\{x \\in Z : |x| < 3\\}`; None without a bar or a colon."""
        parts, found = split(tokens, lambda token, at: token.text in ("|", ":") and at > 0)
        if not found or (found[0].text == "|" and len(tokens) > 1 and tokens[0].text == "|"):
            return None
        condition = what_follows(tokens, found[0])
        sides, membership = split(parts[0], lambda token, _: token.text == "\\in")
        if not condition or len(sides[0]) not in (1, 2, 4):
            return None
        if not isinstance(self.expr(sides[0]), Sym):
            raise Unreadable("a set of expressions")
        region = self.value(condition)
        if not membership:
            return region
        domain = self.value(sides[1])
        return region if domain == REALS else SetOp("cap", (domain, region))


def _is_union(token: Token, at: int, tokens: Tokens) -> bool:
    if token.text == "\\cup":
        return True
    around = 0 < at < len(tokens) - 1 and tokens[at - 1].text in (")", "]", "}", "\\}")
    return token.text == "U" and around and tokens[at + 1].text in ("(", "[", "{", "\\{")


def _difference(values: list[Value]) -> Value:
    """A set without finitely many numbers, as intervals where it is the real line."""
    if len(values) == 2 and values[0] == REALS:
        found = without_points(values[1])
        if found is not None:
            return found
    return SetOp("minus", tuple(values))


def _is_infinite(item: Value) -> bool:
    return isinstance(item, Quantity) and item.expr in (INFINITY, MINUS_INFINITY)
