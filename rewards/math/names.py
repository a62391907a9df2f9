"""Variables, accents, points, and the arguments of LaTeX commands."""

from __future__ import annotations

from ixt_rl.rewards.math.expr import Expr, Num, Op, Sym
from ixt_rl.rewards.math.numerals import Numerals, number
from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.tokens import CONSTANT_NAMES, STOP_WORDS, Token

_OPAQUE = {
    "f",
    "g",
    "h",
    "F",
    "G",
    "P",
    "Q",
}  # read `f(2)` as a function value, not as a product


class Names(Numerals):
    """Rules for names."""

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
            return number(token.text[0])
        if token.kind == "word" and len(token.text) <= 3:
            self.tokens[self.at : self.at + 1] = [Token("id", letter) for letter in token.text]
        return self.atom()
