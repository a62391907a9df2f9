"""A strict reader of mathematical expressions, LaTeX or plain: understood completely, or not at all.

    tokens --parse_expression--> Expr --rational--> Fraction, when it is one

The general LaTeX readers guess (`2x+3 garbage` becomes a product of ten symbols), and a guess on either
side is how wrong answers come to be accepted.
"""

from __future__ import annotations

from ixt_rl.rewards.math.commands import Commands
from ixt_rl.rewards.math.expr import ONE, Expr, Num, Op, negated, rational
from ixt_rl.rewards.math.numerals import fraction
from ixt_rl.rewards.math.outcome import TooLarge, TwoReadings, Unreadable
from ixt_rl.rewards.math.spelling import clean
from ixt_rl.rewards.math.tokens import FUNCTIONS, Tokens, tokenize

MAX_TOWER = 3
"""Most exponents on top of each other: 2^2^2^2 has 3."""
MAX_OPERATIONS = 150
"""Most operations applied one inside the other, a product of n factors counting n - 1."""

_TIMES = {"*", "\\cdot", "\\times", "\\ast"}
_DIVIDE = {"/", "\\div"}
_DEGREE = {"\\circ", "\\degree"}
_CLOSERS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}


def parse_text(text: str) -> Expr:
    """Read one expression from an answer text. Raises as `parse_expression` does."""
    return parse_expression(tokenize(clean(text)))


def parse_expression(tokens: Tokens, slash: str = "") -> Expr:
    """Read one expression.

    Args:
        tokens: all of it.
        slash: how `a/b c` is read: `left` as (a/b)c, `right` as a/(bc), empty not at all.

    Raises:
        TwoReadings: `a/b c` without a `slash`.
        Unreadable: it is not an expression.
        TooLarge: it exceeds a size limit.
    """
    parser = _Parser(tokens, slash)
    expr = parser.sum()
    parser.expect_end()
    _check_depth(expr)
    return expr


def _check_depth(expr: Expr) -> None:
    """Raise `TooLarge` for an expression too deep to be walked recursively, such as 5!!!... or a b c ..."""
    level: list[Expr] = [expr]
    for _ in range(MAX_OPERATIONS):
        level = [arg for node in level if isinstance(node, Op) for arg in node.args]
        if not level:
            return
    raise TooLarge(f"more than {MAX_OPERATIONS} operations inside each other")


class _Parser(Commands):
    """Recursive descent: sum > product > signed > power > postfix > atom."""

    def sum(self) -> Expr:
        terms = [self.signed_product()]
        while sign := self.take("+", "-"):
            term = self.signed_product()
            terms.append(term if sign == "+" else negated(term))
        return terms[0] if len(terms) == 1 else Op("add", tuple(terms))

    def signed_product(self) -> Expr:
        """A product with signs before it: they stand before the whole of `-3\\frac12`."""
        self.enter()
        if sign := self.take("-", "+"):
            expr = self.signed_product()
            expr = negated(expr) if sign == "-" else expr
        else:
            expr = self.product()
        self.depth -= 1
        return expr

    def product(self) -> Expr:
        left = self.mixed(self.power())
        divided: Expr | None = None  # what stood before `/b`: then `a/b x` has two readings
        bottom: Expr = ONE
        while True:
            if self.take(*_TIMES):
                left, divided = Op("mul", (left, self.signed_factor())), None
            elif self.take(*_DIVIDE):
                divided, bottom = left, self.signed_factor()
                left = Op("div", (left, bottom))
            elif self.starts_factor():
                if divided is not None and not self.slash:
                    raise TwoReadings("a/b c can mean (a/b)c or a/(bc)")
                if divided is not None and self.slash == "right":
                    bottom = self.juxtapose(bottom)
                    left = Op("div", (divided, bottom))
                else:
                    left, divided = self.juxtapose(left), None
            else:
                return left

    def signed_factor(self) -> Expr:
        """A factor after an operator, which may have a sign of its own."""
        self.enter()
        if sign := self.take("-", "+"):
            expr = self.signed_factor()
            expr = negated(expr) if sign == "-" else expr
        else:
            expr = self.mixed(self.power())
        self.depth -= 1
        return expr

    def starts_factor(self) -> bool:
        kind, text, _ = self.peek()
        if kind in ("num", "id", "word", "text"):
            return not (self.integrals and self.starts_differential())
        if kind == "cmd":
            return text not in _TIMES | _DIVIDE and text not in (
                "\\rfloor", "\\rceil", "\\}", "\\%", "\\|", "\\rangle", "\\cr", "\\quad",
            )  # fmt: skip
        return text in ("(", "[", "{") or (text == "|" and self.bars == 0)

    def mixed(self, left: Expr) -> Expr:
        """`3 1/2` and `3\\frac{1}{2}` are mixed numbers."""
        if not isinstance(left, Num) or left.decimals or left.value.denominator != 1:
            return left
        before = self.tokens[self.at - 1]
        if before.kind != "num" or not before.text.isdigit():
            return left
        if self.peek().kind == "num" and self.peek().spaced:
            part = self.tokens[self.at : self.at + 3]
            if len(part) == 3 and part[1].text == "/" and part[2].kind == "num" and part[2].text.isdigit():
                value = fraction(part[0].text, part[2].text)
                if value is not None:
                    self.at += 3
                    return Op("add", (left, value))
            raise Unreadable("two numbers side by side")
        if self.peek().text == "\\frac":
            start = self.at
            part_expr = self.power()
            if isinstance(part_expr, Op) and part_expr.name == "div":
                value_ = rational(part_expr)
                plain = all(isinstance(arg, Num) and not arg.decimals for arg in part_expr.args)
                if value_ is not None and plain and 0 < value_ < 1:
                    return Op("add", (left, part_expr))
            self.at = start
        return left

    def juxtapose(self, left: Expr) -> Expr:
        """`2x` is a product, `2 3` is nothing."""
        if self.peek().kind == "num":
            before = self.tokens[self.at - 1]
            if before.kind == "num" or (before.kind in ("op", "cmd") and before.text not in (")", "]", "}", "|", "!")):
                raise Unreadable("two numbers side by side")
        return Op("mul", (left, self.power()))

    def power(self) -> Expr:
        base = self.postfix()
        if self.take("^") is None:
            return base
        if self.take(*_DEGREE):
            return self.minutes(base)
        if self.peek().text == "{" and self.peek(1).text in _DEGREE and self.peek(2).text == "}":
            self.at += 3
            return self.minutes(base)
        self.tower += 1
        if self.tower > MAX_TOWER:
            raise TooLarge(f"a tower of more than {MAX_TOWER} powers")
        exponent = self.exponent()
        self.tower -= 1
        expr = Op("pow", (base, exponent))
        while self.peek().text == "!" and self.peek().kind == "op":
            raise Unreadable("a factorial of a power")
        return expr

    def exponent(self) -> Expr:
        self.enter()
        if self.take("{"):
            expr = self.sum()
            self.expect("}")
        elif sign := self.take("-", "+"):
            expr = self.exponent()
            expr = negated(expr) if sign == "-" else expr
        else:
            expr = self.power()
        self.depth -= 1
        return expr

    def postfix(self) -> Expr:
        expr = self.atom()
        while self.peek().text == "!" and self.peek().kind == "op":
            if self.peek(1).text == "!":
                raise Unreadable("double factorial")
            self.at += 1
            expr = Op("factorial", (expr,))
        if self.peek().text == "_":
            raise Unreadable("a subscript on something that is no variable")
        if self.peek().text == "'" and self.peek().kind == "op":
            raise Unreadable("a prime on something that is no variable")
        return expr

    def atom(self) -> Expr:
        self.enter()
        expr = self.read_atom()
        self.depth -= 1
        return expr

    def read_atom(self) -> Expr:
        kind, text, _ = self.next()
        if kind == "num":
            return self.recurring(text)
        if kind == "id":
            return self.function(text) if text in FUNCTIONS else self.symbol(text)
        if kind in ("word", "text"):
            return self.letters(kind, text)
        if kind == "cmd":
            return self.command(text)
        if text in ("(", "[", "{"):
            return self.bracketed(text)
        if text == "|":
            self.bars += 1
            expr = self.sum()
            self.expect("|")
            self.bars -= 1
            return Op("abs", (expr,))
        raise Unreadable(f"cannot read on at {text!r}" if text else "ends too early")

    def bracketed(self, opener: str) -> Expr:
        bars, integrals, tower = self.bars, self.integrals, self.tower
        self.bars = self.integrals = self.tower = 0
        expr = self.sum()
        self.expect(_CLOSERS[opener])
        self.bars, self.integrals, self.tower = bars, integrals, tower
        return expr
