"""A strict reader of mathematical expressions, LaTeX or plain: understood completely, or not at all.

    tokens --parse_expression--> Expr --rational--> Fraction, when it is one

The general LaTeX readers guess (`2x+3 garbage` becomes a product of ten symbols), and a guess on either
side is how wrong answers come to be accepted.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import INFINITY, ONE, Expr, Num, Op, Sym, negated, rational
from ixt_rl.rewards.math.outcome import TooLarge, TwoReadings, Unreadable
from ixt_rl.rewards.math.spelling import MAX_DEPTH, clean
from ixt_rl.rewards.math.tokens import CONSTANT_NAMES, FUNCTIONS, GREEK, NAMES, STOP_WORDS, Token, Tokens, tokenize

MAX_TOWER = 3
"""Most exponents on top of each other: 2^2^2^2 has 3."""
MAX_OPERATIONS = 150
"""Most operations applied one inside the other, a product of n factors counting n - 1."""

_GEOMETRY = {"overline", "overrightarrow", "overleftrightarrow", "angle", "triangle", "widehat", "overarc"}
_ACCENTS = {"bar", "hat", "tilde", "dot", "ddot", "overline", "widehat", "widetilde", "vec"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sinh": "arcsinh", "cosh": "arccosh",
            "tanh": "arctanh", "sec": "arcsec", "csc": "arccsc"}  # fmt: skip
_TIMES = {"*", "\\cdot", "\\times", "\\ast"}
_DIVIDE = {"/", "\\div"}
_DEGREE = {"\\circ", "\\degree"}
_CLOSERS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_OPAQUE = {"f", "g", "h", "F", "G", "P", "Q"}  # read `f(2)` as a function value, not as a product
_ANGLE = {"sin", "cos", "tan", "sec", "csc", "cot"}
_LISTS = {"gcd", "lcm", "max", "min"}
_BIG = {"\\sum": "sum", "\\prod": "prod"}
_DOTS = re.compile(r"\\(?:[lc]?dots[cbmio]?|hdots)|\.")


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


_END = Token("end", "")


class _Parser:
    """Recursive descent: sum > product > signed > power > postfix > atom."""

    def __init__(self, tokens: Tokens, slash: str):
        self.tokens, self.slash = list(tokens), slash
        self.at, self.tower, self.bars, self.depth, self.integrals = 0, 0, 0, 0, 0

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else _END

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def take(self, *texts: str) -> str | None:
        """Consume the next token if it is one of `texts`."""
        token = self.peek()
        if token.kind in ("op", "cmd") and token.text in texts:
            self.at += 1
            return token.text
        return None

    def expect(self, text: str) -> None:
        if self.take(text) is None:
            raise Unreadable(f"expected {text!r} before {self.peek().text!r}")

    def expect_end(self) -> None:
        if self.peek().kind != "end":
            raise Unreadable(f"cannot read on at {self.peek().text!r}")

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
                value = _fraction(part[0].text, part[2].text)
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

    def minutes(self, degrees: Expr) -> Expr:
        """`45^\\circ 30' 15''` is an angle in degrees, minutes and seconds."""
        terms = [degrees]
        for size, marks in ((60, "'"), (3600, "''")):
            if self.peek().kind != "num":
                break
            count = 1
            while count <= len(marks) and self.peek(count).text == "'":
                count += 1
            if count - 1 != len(marks) or self.peek(count).text == "'":
                if self.peek(1).text == "'":
                    continue
                break
            terms.append(Op("div", (_number(self.next().text), Num(Fraction(size)))))
            self.at += len(marks)
        return Op("deg", (terms[0] if len(terms) == 1 else Op("add", tuple(terms)),))

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

    def enter(self) -> None:
        """Count a level; the signed rules and `atom` are on every way into a deeper one."""
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")

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

    def recurring(self, text: str) -> Expr:
        """A number; `0.\\overline{3}`, `0.\\dot{3}` and `0.(3)` recur."""
        follows = self.peek()
        if follows.text == "." and self.peek(1).text in ("\\overline", "\\bar", "\\dot") and text.isdigit():
            self.at += 1
            return self.repeating(text + ".")
        if "." in text and follows.text in ("\\overline", "\\bar", "\\dot"):
            return self.repeating(text)
        digits = self.peek(1)
        in_parentheses = follows.text == "(" and not follows.spaced and self.peek(2).text == ")"
        if "." in text and in_parentheses and digits.kind == "num" and digits.text.isdigit():
            self.at += 3
            return _repeated(text, digits.text)
        if "." in text and _DOTS.fullmatch(follows.text) and follows.kind in ("cmd", "op"):
            return self.repeating_by_dots(text)
        return _number(text)

    def repeating(self, text: str) -> Expr:
        digits = ""
        while self.peek().text in ("\\overline", "\\bar", "\\dot"):
            self.at += 1
            braced = self.take("{")
            digits += self.next().text
            if braced:
                self.expect("}")
            elif len(digits) > 1:
                raise Unreadable("which digits recur")
        if not digits.isdigit():
            raise Unreadable("which digits recur")
        return _repeated(text, digits)

    def repeating_by_dots(self, text: str) -> Expr:
        count = 0
        while self.peek().text == ".":
            self.at += 1
            count += 1
        if not count:
            self.at += 1
        if count not in (0, 2, 3):
            raise Unreadable("a point too many")
        match = re.fullmatch(r"(\d*\.\d*?)(\d{1,6}?)\2\2+", text)
        if match is None:
            raise Unreadable("a decimal that goes on")
        return _repeated(match[1], match[2])

    def letters(self, kind: str, text: str) -> Expr:
        """`xy` and `\\mathrm{AB}` are products of two symbols; `banana` is a word, hence unreadable."""
        run = text.strip()
        usual = run.isascii() and run.isalpha() and len(run) <= 3 and run.lower() not in STOP_WORDS
        if not usual or (kind == "text" and not (run.isupper() or len(run) == 1)):
            raise Unreadable(f"word {run!r}")
        self.tokens[self.at - 1 : self.at] = [Token("id", letter) for letter in run]
        return self.symbol(run[0])

    def symbol(self, name: str) -> Expr:
        if self.take("_"):
            name = f"{name}_{self.subscript()}"
        primes = 0
        while self.peek().text == "'" and self.peek().kind == "op":
            self.at += 1
            primes += 1
        name += "'" * primes
        opaque = name[0] in _OPAQUE if name not in CONSTANT_NAMES else False
        if (opaque or primes) and self.peek().text == "(" and not self.peek().spaced:
            self.at += 1
            arguments = [self.sum()]
            while self.take(","):
                arguments.append(self.sum())
            self.expect(")")
            return Op(f"apply:{name}", tuple(arguments))
        return Sym(name)

    def subscript(self) -> str:
        if self.take("{"):
            parts, depth = [], 0
            while depth or self.peek().text != "}":
                kind, text, _ = self.next()
                if kind == "end":
                    raise Unreadable("subscript")
                depth += (text == "{") - (text == "}")
                parts.append(text)
            self.at += 1
            return "".join(parts)
        kind, text, _ = self.next()
        if kind not in ("num", "id", "text", "cmd"):
            raise Unreadable("subscript")
        return text

    def command(self, text: str) -> Expr:
        name = text[1:]
        if name in ("frac", "binom"):
            top, bottom = self.group(), self.group()
            return Op("div" if name == "frac" else "binom", (top, bottom))
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("pi", "inf"):
            return Sym(name)
        if name in GREEK:
            return self.symbol(NAMES.get(name, name))
        if text in ("\\lfloor", "\\lceil"):
            expr = self.bracketed(text)
            return Op("floor" if name == "lfloor" else "ceil", (expr,))
        if text == "\\|":
            expr = self.sum()
            self.expect("\\|")
            return Op("norm", (expr,))
        if name.startswith("unitvector"):
            return Sym(f"unit {name[-1]}")
        if text in _BIG:
            return self.big(_BIG[text])
        if text == "\\int":
            return self.integral()
        if text == "\\lim":
            return self.limit()
        if name in _ACCENTS and not self.names_points():
            return self.accented(name)
        if name in _GEOMETRY:
            return self.named_points(name)
        raise Unreadable(f"command {text}")

    def names_points(self) -> bool:
        ahead = 1 if self.peek().text == "{" else 0
        token, after = self.peek(ahead), self.peek(ahead + 1)
        return token.kind == "word" or (token.kind == "id" and after.kind in ("id", "word") and ahead == 1)

    def accented(self, name: str) -> Expr:
        """`\\bar{x}`: a name of its own; a vector's arrow is no part of the name."""
        inner = self.group()
        if name == "overline" and isinstance(inner, Num):
            raise Unreadable("\\overline on a number")
        if name == "overline" and not isinstance(inner, Sym):
            return Op("conj", (inner,))
        if not isinstance(inner, Sym):
            raise Unreadable(f"\\{name} on something that is no variable")
        return inner if name == "vec" else Sym(f"{inner.name}~{name.removeprefix('wide')}")

    def named_points(self, name: str) -> Expr:
        """`\\overline{CD}`, `\\angle ABC`: a name made of points; a segment has no direction."""
        braced = self.take("{")
        points = []
        while self.peek().kind in ("id", "word") or self.peek().text in ("'", "_"):
            token = self.next()
            points.append("_" + self.subscript() if token.text == "_" else token.text)
        if braced:
            self.expect("}")
        if not points:
            raise Unreadable(f"\\{name} without points")
        letters = list("".join(points)) if all(point.isalpha() for point in points) else points
        return Sym(f"{name} {''.join(sorted(letters) if name == 'overline' else letters)}")

    def group(self) -> Expr:
        """An argument of a LaTeX command: `{...}`, or one token (one digit of a number)."""
        if self.peek().text == "{":
            self.at += 1
            return self.bracketed("{")
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1 and token.text.isdigit():
            self.tokens[self.at] = Token("num", token.text[1:])
            return _number(token.text[0])
        if token.kind == "word" and len(token.text) <= 3:
            self.tokens[self.at : self.at + 1] = [Token("id", letter) for letter in token.text]
        return self.atom()

    def function(self, name: str) -> Expr:
        if name in ("sqrt", "cbrt"):
            return self.root(name)
        base: Expr | None = None
        exponent: Expr | None = None
        if self.take("_"):
            if name not in ("log", "max", "min"):
                raise Unreadable(f"a subscript on {name}")
            base = self.group()
        if self.take("^"):
            exponent = self.group() if self.peek().text != "-" else self.exponent()
        if exponent == negated(ONE) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        if name in _LISTS:
            return self.of_list(name)
        argument = self.argument(name)
        if name == "lg":
            name, base = "log", Num(Fraction(10))
        if name == "cis":
            return Op("add", (Op("cos", (argument,)), Op("mul", (Sym("i"), Op("sin", (argument,))))))
        expr = Op(name, (argument,) if base is None else (argument, base))
        return expr if exponent is None else Op("pow", (expr, exponent))

    def of_list(self, name: str) -> Expr:
        closer = {"(": ")", "\\{": "\\}"}.get(self.next().text)
        if closer is None:
            raise Unreadable(f"{name} without brackets")
        arguments = [self.sum()]
        while self.take(","):
            arguments.append(self.sum())
        self.expect(closer)
        return Op(name, tuple(arguments))

    def argument(self, name: str) -> Expr:
        """What a function without braces applies to: `(...)`, or factors up to the next sign."""
        if self.peek().text in ("(", "{", "["):
            braced = self.peek().text == "{"
            expr = self.atom()
            if self.peek().text in ("^", "!") and not braced:
                raise Unreadable("f(x)^2 can mean f(x^2) or f(x)^2")
            return expr
        bars = self.peek().text == "|"
        expr = self.mixed(self.power())
        while (
            not bars
            and self.starts_factor()
            and self.peek().text.lstrip("\\") not in FUNCTIONS | {"(", "[", "|", "frac", "sum", "int"}
        ):
            expr = self.juxtapose(expr)
        if self.peek().text == "/" and not bars and name in _ANGLE | {"log", "ln"} and not self.slash:
            raise TwoReadings("sin x/2 can mean (sin x)/2 or sin(x/2)")
        if self.peek().text == "/" and not bars and self.slash == "right":
            self.at += 1
            expr = Op("div", (expr, self.power()))
        return expr

    def root(self, name: str) -> Expr:
        index: Expr = Num(Fraction(3 if name == "cbrt" else 2))
        if self.take("["):
            index = self.sum()
            self.expect("]")
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1:
            raise Unreadable("\\sqrt 23 can mean \\sqrt{2}3 or \\sqrt{23}")
        return Op("root", (self.group(), index))

    def big(self, name: str) -> Expr:
        """`\\sum_{k=1}^{n} body`; the body is one product."""
        low: Expr | None = None
        high: Expr = INFINITY
        var: Expr | None = None
        for _ in range(2):
            if self.take("_"):
                self.expect("{")
                var = self.symbol(self.next().text.lstrip("\\"))
                self.expect("=")
                low = self.sum()
                self.expect("}")
            elif self.take("^"):
                high = self.group()
        if var is None or low is None:
            raise Unreadable(f"\\{name} without bounds")
        return Op(name, (self.signed_product(), var, low, high))

    def integral(self) -> Expr:
        """`\\int_a^b f dx`."""
        bounds: dict[str, Expr] = {}
        while mark := self.take("_", "^"):
            if self.take("-"):
                bounds[mark] = negated(self.group())
            else:
                bounds[mark] = self.group()
        self.integrals += 1
        body = ONE if self.starts_differential() else self.sum()
        self.integrals -= 1
        if not self.starts_differential():
            raise Unreadable("an integral without its variable")
        token = self.next()
        var = Sym(token.text[1:]) if len(token.text) == 2 else self.symbol(self.next().text.lstrip("\\"))
        return Op("int", (body, var, *(bounds[mark] for mark in "_^" if mark in bounds)))

    def starts_differential(self) -> bool:
        token = self.peek()
        if token.kind == "word":
            return len(token.text) == 2 and token.text[0] == "d"
        return token.kind == "id" and token.text == "d" and (
            self.peek(1).kind == "id" or self.peek(1).text.lstrip("\\") in GREEK
        )  # fmt: skip

    def limit(self) -> Expr:
        self.expect("_")
        self.expect("{")
        var = self.symbol(self.next().text.lstrip("\\"))
        if self.take("\\to", "\\rightarrow", "->") is None:
            raise Unreadable("a limit without \\to")
        to = self.sum()
        side = ""
        if self.take("^"):
            side = self.take("+", "-") or ""
            if not side and self.take("{"):
                side = self.take("+", "-") or ""
                self.expect("}")
        self.expect("}")
        return Op("lim" + side, (self.signed_product(), var, to))


def _number(text: str) -> Num:
    mantissa = re.split("[eE]", text)[0]
    exponent = 0 if mantissa == text else int(text[len(mantissa) + 1 :])
    if abs(exponent) > 1_000:
        raise TooLarge("a number of more than 1000 digits")
    decimals = max(0, len(mantissa.partition(".")[2]) - exponent)
    return Num(Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** exponent, decimals)


def _fraction(top: str, bottom: str) -> Expr | None:
    if not top.isdigit() or not 0 < int(top) < int(bottom):
        return None
    return Op("div", (Num(Fraction(top)), Num(Fraction(bottom))))


def _repeated(text: str, digits: str) -> Num:
    """0.1(6) is 0.1 + 6/90."""
    decimals = len(text.partition(".")[2])
    whole = Fraction(text.rstrip(".") or "0")
    return Num(whole + Fraction(int(digits), (10 ** len(digits) - 1) * 10**decimals))
