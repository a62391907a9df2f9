"""The reader of answers: from tokens to one typed value, with its lists, ratios and digits in a base.

    reader_base --> reader_relations, reader_sets, reader_blocks --> reader

Each reads its own kind of thing; what it finds inside comes back to `Reader.value`, `items` or `item`.
"""

from __future__ import annotations

import re
from itertools import pairwise

from ixt_rl.rewards.math.expr import DOTS, rational
from ixt_rl.rewards.math.outcome import TwoReadings, Unreadable
from ixt_rl.rewards.math.reader_blocks import BlockReader
from ixt_rl.rewards.math.reader_relations import RelationReader
from ixt_rl.rewards.math.reader_sets import SetReader
from ixt_rl.rewards.math.reader_tokens import (
    OPERATORS,
    THEREFORE,
    domain_of,
    join_parts,
    label_of,
    separates,
    stripped,
    unaligned,
    without_empty,
)
from ixt_rl.rewards.math.regions import combined
from ixt_rl.rewards.math.tokens import Token, Tokens, spell, split
from ixt_rl.rewards.math.values import Based, Either, Family, Labelled, Quantity, Relation, Sequence, Value
from ixt_rl.rewards.math.vocabulary import NUMBER_WORDS, words_of

_BASED = re.compile(r"(-?)\(?(-?[0-9A-Z]*\.?[0-9A-Z]*\d[0-9A-Z]*|[A-F]+)\)?\s*_\s*\{?\s*⟦?\s*(\d{1,2}|two|three|four|"
                    r"five|six|seven|eight|nine|ten|twelve|sixteen)\s*⟧?\s*\}?")  # fmt: skip
_FAMILIES = (
    ("day", "hour", "minute", "second"), ("mile", "yard", "foot", "inch"), ("pound", "ounce"), ("kilogram", "gram"),
    ("kilometer", "meter", "centimeter"), ("week", "day"), ("year", "month"), ("dollar", "cent"),
    ("gallon", "quart", "pint"),
)  # fmt: skip
"""Units of which quantities are put together, `5 ft 3 in`, from the largest down."""
KNOWN_COMMANDS = words_of("commands")
"""Commands of a formula that may be compared by its spelling; with any other one a gold is refused."""


class Reader(RelationReader, SetReader, BlockReader):
    """Reads token runs; see `parse_answer` for the arguments."""

    def value(self, tokens: Tokens) -> Value:
        """One value from all tokens. Raises `Unreadable`, `TwoReadings` and `TooLarge`."""
        tokens = stripped(tokens)
        if not tokens:
            raise Unreadable("empty")
        if len(tokens) == 1 and tokens[0].kind == "num":
            return Quantity(self.expr(tokens))
        block = self.environment(tokens)
        if block is not None:
            return block
        if split(tokens, lambda token, _: token.text in ("&", "\\cr"))[1]:
            tokens = unaligned(tokens)
        parts, _ = split(tokens, lambda token, _: token.text in THEREFORE)
        parts = [part for part in parts if part]
        if not parts:
            raise Unreadable("empty")
        if len(parts) > 1:
            tokens = parts[-1]
        if tokens[0].text == "<" and tokens[-1].text == ">" and len(tokens) > 4:
            return self.item([Token("op", "("), *tokens[1:-1], Token("op", ")")])
        outside = self.french_interval(tokens)
        if outside is not None:
            return outside
        return self.listed(tokens)

    def listed(self, tokens: Tokens) -> Value:
        """A list at commas, semicolons, `and`, `or`; conditions after `where` and `for`; one item alone."""
        parts, separators = split(tokens, lambda token, at: separates(token, at, tokens))
        if not separators:
            items = self.items(parts[0])
            return items[0] if len(items) == 1 else Sequence("list", tuple(items))
        parts, kinds = without_empty(parts, separators)
        if len(parts) == 1:
            return self.value(parts[0])
        family = self.family(parts, kinds)
        if family is not None:
            return family
        if "where" in kinds:
            at = kinds.index("where") + 1
            if at != len(parts) - 1:
                raise Unreadable("several conditions")
            body = self.value(join_parts(parts[:at]))
            return Sequence("row", (body, self.value(parts[at])))
        grouped = self.compound(parts, kinds)
        if grouped is not None:
            return grouped
        items = _excluded([item for part in parts for item in self.items(part)])
        region = combined(items, "or" if "or" in kinds else "and" if "and" in kinds else "")
        return region if region is not None else Sequence("list", tuple(items))

    def family(self, parts: list[Tokens], kinds: list[str]) -> Family | None:
        """`\\pi/3 + 2k\\pi, k \\in Z`."""
        domains = [domain_of(part) for part in parts[1:]]
        found = [domain for domain in domains if domain is not None]
        if len(found) != 1 or domains[-1] is None:
            return None
        parameter, domain = found[0]
        if not any(token.text.startswith(parameter) for part in parts[:-1] for token in part):
            return None
        return Family(self.value(join_parts(parts[:-1])), parameter, domain)

    def compound(self, parts: list[Tokens], kinds: list[str]) -> Value | None:
        """`2 hours and 30 minutes` is one quantity."""
        if "or" in kinds or len(parts) > 3:
            return None
        try:
            items = [self.quantity(part) for part in parts]
        except Unreadable:
            return None
        quantities = [item for item in items if isinstance(item, Quantity)]
        if len(quantities) < len(items) or not _measures_together(quantities):
            return None
        return Sequence("compound", tuple(items))

    def items(self, tokens: Tokens) -> list[Value]:
        """One item of a list; `a \\pm b` makes two."""
        if any(token.text in ("\\pm", "\\mp", "+-", "+/-") for token in tokens):
            signs = {"\\pm": "+-", "+-": "+-", "+/-": "+-", "\\mp": "-+"}
            pair = []
            for which in (0, 1):
                signed = [
                    Token("op", signs[token.text][which], token.spaced) if token.text in signs else token
                    for token in tokens
                ]
                pair.append(self.item([token for at, token in enumerate(signed) if at or token.text != "+"]))
            return pair
        return [self.item(tokens)]

    def item(self, tokens: Tokens) -> Value:
        """A value that is no list."""
        tokens = stripped(tokens)
        if not tokens:
            raise Unreadable("an empty item")
        if len(tokens) <= 3 and re.fullmatch(r"\\(?:[lc]?dots[cbmio]?|hdots|vdots)|\.\s?\.\s?\.", spell(tokens)):
            return Quantity(DOTS)
        block = self.environment(tokens)
        if block is not None:
            return block
        for read in (self.relation, self.set_operation, self.bracketed, self.ratio, self.based):
            found = read(tokens)
            if found is not None:
                return found
        return self.quantity(tokens)

    def ratio(self, tokens: Tokens) -> Value | None:
        parts, found = split(tokens, lambda token, _: token.text == ":" or token.text.strip() == "to")
        if not found:
            return None
        if len(parts) == 2 and found[0].text == ":" and all(parts):
            label = label_of(parts[0])
            if label is not None and any(token.kind in ("word", "text") for token in parts[0]):
                return Labelled(label, self.value(parts[1]))
        try:
            return Sequence("ratio", tuple(Quantity(self.expr(part)) for part in parts))
        except TwoReadings:
            raise
        except Unreadable:
            if len(parts) != 2 or not all(parts) or found[0].text != ":":
                raise
            return Either(tuple(self.value(part) for part in parts))

    def based(self, tokens: Tokens) -> Value | None:
        if not any(token.text == "_" for token in tokens[:8]):
            return None
        match = _BASED.fullmatch(spell(tokens))
        if match is None:
            return None
        base = NUMBER_WORDS.get(match[3]) or int(match[3])
        if base < 2 or (not re.search(r"\d", match[2]) and base != 16):
            return None
        return Based(match[1] + match[2], base)


def _excluded(items: list[Value]) -> list[Value]:
    """`x \\ne 1, 2` excludes both."""
    first = items[0]
    if not (isinstance(first, Relation) and first.operators == ("!=",)):
        return items
    return [
        Relation((first.sides[0], item.expr), ("!=",)) if isinstance(item, Quantity) and not item.unit.powers else item
        for item in items
    ]


def _measures_together(items: list[Quantity]) -> bool:
    """Whether quantities are the parts of one, such as feet and inches."""
    names = [item.unit.name for item in items]
    in_order = any(
        all(name in family for name in names) and all(family.index(a) < family.index(b) for a, b in pairwise(names))
        for family in _FAMILIES
    )
    return in_order and all(rational(item.expr) is not None for item in items)


__all__ = ["KNOWN_COMMANDS", "OPERATORS", "Reader"]
