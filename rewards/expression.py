"""A strict reader of mathematical expressions, LaTeX or plain: understood completely, or not at all.

    text --tokenize--> tokens --parse_expression--> Expr --rational--> Fraction, when it is one

The general LaTeX readers guess (`2x+3 garbage` becomes a product of ten symbols), and a guess on either
side is how wrong answers come to be accepted. Nothing here computes anything large: the size limits are
checked before the work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial

from ixt_rl.rewards.outcome import TooLarge, Unreadable

MAX_CHARS = 2_000
"""Longest answer text that is read."""
MAX_DEPTH = 40
"""Deepest nesting of brackets and braces."""
MAX_DIGITS = 1_000
"""Most digits of one number."""
MAX_TOWER = 3
"""Most exponents on top of each other: 2^2^2^2 has 3."""
MAX_OPERATIONS = 150
"""Most operations applied one inside the other, a product of n factors counting n - 1."""
MAX_BITS = 200_000
"""Largest integer an exact value may reach."""


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

CONSTANTS = {"pi", "e", "i", "inf"}
_GREEK = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
    "ell",
}
_FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "sec",
    "csc",
    "cot",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "log",
    "ln",
    "exp",
    "sqrt",
    "cbrt",
    "abs",
    "floor",
    "ceil",
}
_GEOMETRY = {"overline", "overrightarrow", "overleftrightarrow", "vec", "angle", "triangle"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_TIMES = {"*", "\\cdot", "\\times", "\\ast"}
_DIVIDE = {"/", "\\div"}
_DEGREE = {"\\circ", "\\degree"}
_CLOSERS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_OPAQUE = {"f", "g", "h"}  # read `f(2)` as a function value, not as a product
_WORDS_2_3 = {
    "no",
    "yes",
    "odd",
    "and",
    "or",
    "all",
    "any",
    "the",
    "not",
    "nan",
    "inf",
    "dne",
    "is",
    "of",
    "to",
    "in",
    "it",
    "an",
}

_TOKEN = re.compile(
    r"\s*(?:(?P<num>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\.\d+|\.\d+|\d+)"
    r"|(?P<cmd>\\[A-Za-z]+|\\[^A-Za-z\s])|(?P<id>[A-Za-z]+)|(?P<op>\*\*|[^\sA-Za-z0-9\\]))"
)


def check_size(text: str) -> None:
    """Raise `TooLarge` for a text that is too long, too deeply nested, or has too long a number."""
    if len(text) > MAX_CHARS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARS} are read")
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")
    if any(len(digits) > MAX_DIGITS for digits in re.findall(r"\d+", text)):
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")


def tokenize(text: str) -> list[tuple[str, str]]:
    """Split into (kind, text) with kind one of num, cmd, id, op; spaces are dropped."""
    tokens = []
    text = text.rstrip()
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"cannot read {text[at : at + 10]!r}")
        kind = match.lastgroup or ""
        if kind == "id":
            tokens += _split_letters(match["id"])
        else:
            tokens.append((kind, match[kind]))
        at = match.end()
    return tokens


def _split_letters(run: str) -> list[tuple[str, str]]:
    """`sqrt` is one name; `xy` is a product of two symbols; `banana` is a word, hence unreadable."""
    if run in _FUNCTIONS or run in CONSTANTS or run in _GREEK or len(run) == 1:
        return [("id", run)]
    if run in ("infinity", "oo", "infty"):
        return [("id", "inf")]
    if run.startswith("pi") and len(run) == 3:
        return [("id", "pi"), ("id", run[2])]
    if len(run) > 3 or run.lower() in _WORDS_2_3:
        raise Unreadable(f"word {run!r}")
    return [("id", letter) for letter in run]


def is_name(word: str) -> bool:
    """Whether a run of letters is a function or a constant, such as `sqrt` and `pi`."""
    return word in _FUNCTIONS or word in CONSTANTS or word in _GREEK


def parse_expression(text: str) -> Expr:
    """Read one expression.

    Raises:
        Unreadable: it is not an expression, or could mean two things (`1/2x`).
        TooLarge: it exceeds a size limit.
    """
    check_size(text)
    parser = _Parser(tokenize(text))
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


class _Parser:
    """Recursive descent: sum > product > signed > power > postfix > atom."""

    def __init__(self, tokens: list[tuple[str, str]]):
        self.tokens, self.at, self.tower, self.bars, self.depth = tokens, 0, 0, 0, 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def take(self, *texts: str) -> str | None:
        """Consume the next token if it is one of `texts`."""
        if self.peek()[0] != "num" and self.peek()[1] in texts:
            return self.next()[1]
        return None

    def expect(self, text: str) -> None:
        if self.take(text) is None:
            raise Unreadable(f"expected {text!r} before {self.peek()[1]!r}")

    def expect_end(self) -> None:
        if self.peek()[0] != "end":
            raise Unreadable(f"cannot read on at {self.peek()[1]!r}")

    def sum(self) -> Expr:
        terms = [self.product()]
        while sign := self.take("+", "-"):
            term = self.product()
            terms.append(term if sign == "+" else Op("neg", (term,)))
        return terms[0] if len(terms) == 1 else Op("add", tuple(terms))

    def product(self) -> Expr:
        left = self.signed()
        plain_division = False  # whether `a/b` came just before: then `a/b x` has two readings
        while True:
            if self.take(*_TIMES):
                left, plain_division = Op("mul", (left, self.signed())), False
            elif self.take(*_DIVIDE):
                left, plain_division = Op("div", (left, self.signed())), True
            elif self.starts_factor():
                if plain_division:
                    raise Unreadable("a/b c can mean (a/b)c or a/(bc)")
                left = self.juxtapose(left)
            else:
                return left

    def starts_factor(self) -> bool:
        kind, text = self.peek()
        if kind in ("num", "id"):
            return True
        if kind == "cmd":
            return text not in _TIMES | _DIVIDE and text not in ("\\rfloor", "\\rceil", "\\}", "\\%")
        return text in ("(", "[", "{") or (text == "|" and self.bars == 0)

    def juxtapose(self, left: Expr) -> Expr:
        """`2x` is a product, `3 1/2` and `3\\frac{1}{2}` are mixed numbers, `2 3` is nothing."""
        whole = isinstance(left, Num) and left.value.denominator == 1 and left.decimals == 0
        if self.peek()[0] == "num":
            part = self.tokens[self.at : self.at + 3]
            if whole and len(part) == 3 and part[1] == ("op", "/") and part[2][0] == "num":
                self.at += 3
                return self.mixed(left, Op("div", (_number(part[0][1]), _number(part[2][1]))))
            raise Unreadable("two numbers side by side")
        is_fraction = self.peek()[1] == "\\frac"
        right = self.power()
        if whole and is_fraction and isinstance(right, Op) and right.name == "div":
            value = rational(right)
            if value is not None and all(isinstance(arg, Num) for arg in right.args) and 0 < value < 1:
                return self.mixed(left, right)
        return Op("mul", (left, right))

    def mixed(self, whole: Expr, part: Expr) -> Expr:
        return Op("add", (whole, part))

    def signed(self) -> Expr:
        self.enter()
        if self.take("-"):
            expr: Expr = Op("neg", (self.signed(),))
        elif self.take("+"):
            expr = self.signed()
        else:
            expr = self.power()
        self.depth -= 1
        return expr

    def power(self) -> Expr:
        base = self.postfix()
        if self.take("^", "**") is None:
            return base
        if self.take(*_DEGREE):
            return Op("deg", (base,))
        if self.peek()[1] == "{" and self.peek(1)[1] in _DEGREE and self.peek(2)[1] == "}":
            self.at += 3
            return Op("deg", (base,))
        self.tower += 1
        if self.tower > MAX_TOWER:
            raise TooLarge(f"a tower of more than {MAX_TOWER} powers")
        exponent = self.signed()
        self.tower -= 1
        return Op("pow", (base, exponent))

    def postfix(self) -> Expr:
        expr = self.atom()
        while self.peek()[1] == "!":
            if self.peek(1)[1] == "!":
                raise Unreadable("double factorial")
            self.next()
            expr = Op("factorial", (expr,))
        if self.peek()[1] == "_":
            raise Unreadable("a subscript on something that is no variable")
        return expr

    def enter(self) -> None:
        """Count a level; `signed` and `atom` are on every way into a deeper one."""
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")

    def atom(self) -> Expr:
        self.enter()
        expr = self.read_atom()
        self.depth -= 1
        return expr

    def read_atom(self) -> Expr:
        kind, text = self.next()
        if kind == "num":
            return _number(text)
        if kind == "id":
            return self.function(text) if text in _FUNCTIONS else self.symbol(text)
        if kind == "cmd":
            return self.command(text)
        if text in ("(", "[", "{"):
            outer_bars, self.bars = self.bars, 0
            expr = self.sum()
            self.expect(_CLOSERS[text])
            self.bars = outer_bars
            return expr
        if text == "|":
            self.bars += 1
            expr = self.sum()
            self.expect("|")
            self.bars -= 1
            return Op("abs", (expr,))
        raise Unreadable(f"cannot read on at {text!r}" if text else "ends too early")

    def symbol(self, name: str) -> Expr:
        if self.take("_"):
            name = f"{name}_{self.subscript()}"
        elif name in _OPAQUE and self.take("("):
            argument = self.sum()
            self.expect(")")
            return Op(f"apply:{name}", (argument,))
        return Sym(name)

    def subscript(self) -> str:
        if self.take("{"):
            parts = []
            while self.take("}") is None:
                kind, text = self.next()
                if kind not in ("num", "id"):
                    raise Unreadable("subscript")
                parts.append(text)
            return "".join(parts)
        kind, text = self.next()
        if kind not in ("num", "id"):
            raise Unreadable("subscript")
        return text

    def command(self, text: str) -> Expr:
        name = text[1:]
        if name in ("frac", "binom"):
            top, bottom = self.group(), self.group()
            return Op("div" if name == "frac" else "binom", (top, bottom))
        if name in _FUNCTIONS:
            return self.function(name)
        if name in ("pi", "infty"):
            return Sym({"pi": "pi", "infty": "inf"}[name])
        if name in _GREEK:
            return self.symbol(name)
        if text in ("\\lfloor", "\\lceil"):
            expr = self.sum()
            self.expect(_CLOSERS[text])
            return Op("floor" if name == "lfloor" else "ceil", (expr,))
        if name in _GEOMETRY:
            return self.named_points(name)
        raise Unreadable(f"command {text}")

    def named_points(self, name: str) -> Expr:
        """`\\overline{CD}`, `\\angle ABC`: a name made of points; a segment has no direction."""
        braced = self.take("{")
        points = []
        while self.peek()[0] == "id":
            points.append(self.next()[1])
        if braced:
            self.expect("}")
        if not points:
            raise Unreadable(f"\\{name} without points")
        return Sym(f"{name} {''.join(sorted(points) if name == 'overline' else points)}")

    def group(self) -> Expr:
        """An argument of a LaTeX command: `{...}`, or one token (one digit of a number)."""
        if self.take("{"):
            expr = self.sum()
            self.expect("}")
            return expr
        kind, text = self.peek()
        if kind == "num" and len(text) > 1 and text.isdigit():
            self.tokens[self.at] = ("num", text[1:])
            return _number(text[0])
        return self.atom()

    def function(self, name: str) -> Expr:
        if name in ("sqrt", "cbrt"):
            return self.root(name)
        base: Expr | None = None
        exponent: Expr | None = None
        if name == "log" and self.take("_"):
            base = self.group()
        if self.take("^"):
            exponent = self.group()
        if exponent == Op("neg", (Num(Fraction(1)),)) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        argument = self.argument()
        expr = Op(name, (argument,) if base is None else (argument, base))
        return expr if exponent is None else Op("pow", (expr, exponent))

    def argument(self) -> Expr:
        """What a function without braces applies to: `(...)`, or factors up to the next sign."""
        if self.peek()[1] in ("(", "{", "["):
            expr = self.atom()
            if self.peek()[1] in ("^", "!"):
                raise Unreadable("f(x)^2 can mean f(x^2) or f(x)^2")
            return expr
        expr = self.power()
        while self.starts_factor() and self.peek()[1].lstrip("\\") not in _FUNCTIONS | {"(", "["}:
            expr = self.juxtapose(expr)
        return expr

    def root(self, name: str) -> Expr:
        index: Expr = Num(Fraction(3 if name == "cbrt" else 2))
        if self.take("["):
            index = self.sum()
            self.expect("]")
        if self.peek()[0] == "num" and len(self.peek()[1]) > 1:
            raise Unreadable("\\sqrt 23 can mean \\sqrt{2}3 or \\sqrt{23}")
        return Op("root", (self.group(), index))


def _number(text: str) -> Num:
    text = text.replace(",", "")
    return Num(Fraction(text), len(text.partition(".")[2]))


def rational(expr: Expr) -> Fraction | None:
    """The exact value of an expression of rationals; None if it is not one or would be too large."""
    if isinstance(expr, Num):
        return expr.value
    if isinstance(expr, Sym):
        return None
    values = [rational(arg) for arg in expr.args]
    args = [value for value in values if value is not None]
    if len(args) < len(values):
        return None
    result = _rational_op(expr.name, args)
    return result if result is not None and _bits(result) <= MAX_BITS else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _rational_op(name: str, args: list[Fraction]) -> Fraction | None:
    if name == "add":
        return sum(args, Fraction(0))
    if name == "neg":
        return -args[0]
    if name == "mul":
        return args[0] * args[1]
    if name == "div":
        return args[0] / args[1] if args[1] else None
    if name == "pow":
        base, exponent = args
        integer = exponent.denominator == 1 and (base != 0 or exponent > 0)
        if not integer or _bits(base) * abs(exponent) > MAX_BITS:
            return None
        return base ** int(exponent)
    if name == "factorial":
        whole = args[0].denominator == 1 and 0 <= args[0] <= 5_000
        return Fraction(factorial(int(args[0]))) if whole else None
    if name == "binom":
        top, bottom = args
        small = top.denominator == bottom.denominator == 1 and 0 <= bottom <= top <= 5_000
        return Fraction(comb(int(top), int(bottom))) if small else None
    if name == "abs":
        return abs(args[0])
    if name == "floor":
        return Fraction(args[0].__floor__())
    if name == "ceil":
        return Fraction(args[0].__ceil__())
    return None


def symbols(expr: Expr) -> set[str]:
    """Names of the variables in an expression; the constants are none."""
    if isinstance(expr, Num):
        return set()
    if isinstance(expr, Sym):
        return set() if expr.name in CONSTANTS else {expr.name}
    return set().union(*(symbols(arg) for arg in expr.args))


def contains(expr: Expr, name: str) -> bool:
    """Whether an operation of this name (or name prefix ending in `:`) occurs in the expression."""
    if not isinstance(expr, Op):
        return False
    hit = expr.name.startswith(name) if name.endswith(":") else expr.name == name
    return hit or any(contains(arg, name) for arg in expr.args)
