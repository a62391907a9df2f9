"""What the readers of all types share: their options, expressions, and quantities."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ixt_rl.rewards.math.expr import Expr
from ixt_rl.rewards.math.parser import parse_expression
from ixt_rl.rewards.math.quantities import read_quantity
from ixt_rl.rewards.math.tokens import Tokens
from ixt_rl.rewards.math.values import Value


class TokenReader(ABC):
    """Reads token runs; see `parse_answer` for the arguments."""

    def __init__(self, *, nouns: frozenset[str] = frozenset(), gold: bool = False, slash: str = ""):
        self.nouns, self.gold, self.slash = nouns, gold, slash

    def expr(self, tokens: Tokens) -> Expr:
        return parse_expression(tokens, self.slash)

    def quantity(self, tokens: Tokens) -> Value:
        return read_quantity(tokens, self.expr, self.nouns, self.gold)

    @abstractmethod
    def value(self, tokens: Tokens) -> Value:
        """One value from all tokens. Raises `Unreadable`, `TwoReadings` and `TooLarge`."""

    @abstractmethod
    def items(self, tokens: Tokens) -> list[Value]:
        """One item of a list; `a \\pm b` makes two."""

    @abstractmethod
    def item(self, tokens: Tokens) -> Value:
        """A value that is no list."""
