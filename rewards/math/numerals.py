"""Numbers as they are written: decimals, recurring ones, angles in degrees and minutes."""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, Num, Op
from ixt_rl.rewards.math.outcome import TooLarge, Unreadable
from ixt_rl.rewards.math.token_cursor import TokenCursor

_DOTS = re.compile(r"\\(?:[lc]?dots[cbmio]?|hdots)|\.")


class Numerals(TokenCursor):
    """Rules for numbers."""

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
            return repeated(text, digits.text)
        if "." in text and _DOTS.fullmatch(follows.text) and follows.kind in ("cmd", "op"):
            return self.repeating_by_dots(text)
        return number(text)

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
        return repeated(text, digits)

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
        return repeated(match[1], match[2])

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
            terms.append(Op("div", (number(self.next().text), Num(Fraction(size)))))
            self.at += len(marks)
        return Op("deg", (terms[0] if len(terms) == 1 else Op("add", tuple(terms)),))


def number(text: str) -> Num:
    mantissa = re.split("[eE]", text)[0]
    exponent = 0 if mantissa == text else int(text[len(mantissa) + 1 :])
    if abs(exponent) > 1_000:
        raise TooLarge("a number of more than 1000 digits")
    decimals = max(0, len(mantissa.partition(".")[2]) - exponent)
    return Num(Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** exponent, decimals)


def fraction(top: str, bottom: str) -> Expr | None:
    if not top.isdigit() or not 0 < int(top) < int(bottom):
        return None
    return Op("div", (Num(Fraction(top)), Num(Fraction(bottom))))


def repeated(text: str, digits: str) -> Num:
    """0.1(6) is 0.1 + 6/90."""
    decimals = len(text.partition(".")[2])
    whole = Fraction(text.rstrip(".") or "0")
    return Num(whole + Fraction(int(digits), (10 ** len(digits) - 1) * 10**decimals))
