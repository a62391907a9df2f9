"""A place in a list of tokens: what every rule of the grammar looks at and moves; and the rules that the others use."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ixt_rl.rewards.math.expr import Expr
from ixt_rl.rewards.math.outcome import TooLarge, Unreadable
from ixt_rl.rewards.math.spelling import MAX_DEPTH
from ixt_rl.rewards.math.tokens import Token, Tokens

_END = Token("end", "")


class TokenCursor(ABC):
    """The tokens, the place, and how deep and inside what it is; the rules of arithmetic are `parser.py`'s."""

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

    def enter(self) -> None:
        """Count a level; the signed rules and `atom` are on every way into a deeper one."""
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")

    @abstractmethod
    def sum(self) -> Expr:
        """Terms with signs between them."""

    @abstractmethod
    def signed_product(self) -> Expr:
        """A product with signs before it."""

    @abstractmethod
    def power(self) -> Expr:
        """A base with its exponent."""

    @abstractmethod
    def exponent(self) -> Expr:
        """What stands behind `^`."""

    @abstractmethod
    def atom(self) -> Expr:
        """A number, a name, a command, or what is in brackets."""

    @abstractmethod
    def bracketed(self, opener: str) -> Expr:
        """What stands between an opener and its closer."""

    @abstractmethod
    def mixed(self, left: Expr) -> Expr:
        """A whole number with the fraction beside it."""

    @abstractmethod
    def juxtapose(self, left: Expr) -> Expr:
        """A product without a sign."""

    @abstractmethod
    def starts_factor(self) -> bool:
        """Whether a factor without a sign follows."""
