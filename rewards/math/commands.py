"""LaTeX commands and functions: fractions, roots, logarithms, sums, integrals, limits."""

from __future__ import annotations

from fractions import Fraction

from ixt_rl.rewards.math.expr import INFINITY, ONE, Expr, Num, Op, Sym, negated
from ixt_rl.rewards.math.names import Names
from ixt_rl.rewards.math.outcome import TwoReadings, Unreadable
from ixt_rl.rewards.math.tokens import FUNCTIONS, GREEK, NAMES

_GEOMETRY = {"overline", "overrightarrow", "overleftrightarrow", "angle", "triangle", "widehat", "overarc"}
_ACCENTS = {"bar", "hat", "tilde", "dot", "ddot", "overline", "widehat", "widetilde", "vec"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sinh": "arcsinh", "cosh": "arccosh",
            "tanh": "arctanh", "sec": "arcsec", "csc": "arccsc"}  # fmt: skip
_ANGLE = {"sin", "cos", "tan", "sec", "csc", "cot"}
_LISTS = {"gcd", "lcm", "max", "min"}
_BIG = {"\\sum": "sum", "\\prod": "prod"}


class Commands(Names):
    """Rules for commands."""

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
