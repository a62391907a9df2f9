"""The reader of answers: lists, relations, sets, intervals, matrices, ratios and quantities, from tokens."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from ixt_rl.rewards.math.expr import DOTS, INFINITY, MINUS_INFINITY, Expr, Num, Op, Sym, rational, symbols
from ixt_rl.rewards.math.outcome import TwoReadings, Unreadable
from ixt_rl.rewards.math.parser import parse_expression
from ixt_rl.rewards.math.quantities import read_quantity
from ixt_rl.rewards.math.regions import REALS, combined, named_set, without_points
from ixt_rl.rewards.math.tokens import Token, Tokens, balanced, spell, split
from ixt_rl.rewards.math.values import (
    Based,
    Either,
    Family,
    Interval,
    Labelled,
    Matrix,
    Quantity,
    Relation,
    Sequence,
    SetOp,
    Union,
    Value,
    Words,
)
from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER, NUMBER_WORDS, words_of

OPERATORS = {
    "\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", "<=": "<=", "\\leqq": "<=", "\\geqslant": ">=", "\\geq": ">=",
    "\\ge": ">=", ">=": ">=", "\\geqq": ">=", "\\neq": "!=", "\\ne": "!=", "!=": "!=", "\\lt": "<", "<": "<",
    "\\gt": ">", ">": ">", "==": "=", "=": "=", "\\approx": "~", "\\simeq": "~", "\\doteq": "~", "\\cong": "~",
    "\\equiv": "==", "\\in": "in",
}  # fmt: skip
_AND = {"and", "\\land", "\\wedge", "&", "和", "且"}
_OR = {"or", "\\lor", "\\vee", "或", "oder", "ou"}
_WHERE = {"where", "for", "with", "if", "when", "for all", "for any", "such that", "for some", "其中", "as"}
_THEREFORE = {"\\Rightarrow", "\\implies", "\\Longrightarrow", "\\therefore", "\\iff", "\\Leftrightarrow"}
_INTEGER = re.compile(r"(?:and )?([a-zA-Z])(?: and [a-z])? (?:is|are|being)? ?(?:an |any |all )?integers?|"
                      r"(?:any |an |all )?integers? ([a-z])")  # fmt: skip
_BASED = re.compile(r"(-?)\(?(-?[0-9A-Z]*\.?[0-9A-Z]*\d[0-9A-Z]*|[A-F]+)\)?\s*_\s*\{?\s*⟦?\s*(\d{1,2}|two|three|four|"
                    r"five|six|seven|eight|nine|ten|twelve|sixteen)\s*⟧?\s*\}?")  # fmt: skip
_AROUND_BLOCKS = {
    ("", ""), ("[", "]"), ("(", ")"), ("\\{", ""), ("{", ""), ("\\{", "\\}"), ("\\langle", "\\rangle"),
}  # fmt: skip
_FAMILIES = (
    ("day", "hour", "minute", "second"), ("mile", "yard", "foot", "inch"), ("pound", "ounce"), ("kilogram", "gram"),
    ("kilometer", "meter", "centimeter"), ("week", "day"), ("year", "month"), ("dollar", "cent"),
    ("gallon", "quart", "pint"),
)  # fmt: skip
"""Units of which quantities are put together, `5 ft 3 in`, from the largest down."""
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d\s*(?:\^\s*\{?\d\}?\s*)?[A-Za-z]?\s*\}"
                         r"\s*\{\s*d\s*[A-Za-z]\s*(?:\^\s*\{?\d\}?\s*)?\}"
                         r"|d\s?[A-Za-z]\s?/\s?d\s?[A-Za-z]")  # fmt: skip
_LABELLING = {
    "\\partial",
    "\\nabla",
    "\\dim",
    "\\det",
    "\\min",
    "\\max",
    "\\cap",
    "\\cup",
    "\\setminus",
    "\\ker",
    "\\deg",
}
"""With one of these to the left of `=` the left is a name and not an expression."""
_MATRICES = {"pmatrix", "bmatrix", "matrix", "smallmatrix", "array", "Bmatrix", "psmallmatrix", "bsmallmatrix"}
KNOWN_COMMANDS = words_of("commands")
"""Commands of a formula that may be compared by its spelling; with any other one a gold is refused."""


class Reader:
    """Reads token runs; see `parse_answer` for the arguments."""

    def __init__(self, *, nouns: frozenset[str] = frozenset(), gold: bool = False, slash: str = ""):
        self.nouns, self.gold, self.slash = nouns, gold, slash

    def expr(self, tokens: Tokens) -> Expr:
        return parse_expression(tokens, self.slash)

    def value(self, tokens: Tokens) -> Value:
        """One value from all tokens. Raises `Unreadable`, `TwoReadings` and `TooLarge`."""
        tokens = _stripped(tokens)
        if not tokens:
            raise Unreadable("empty")
        if len(tokens) == 1 and tokens[0].kind == "num":
            return Quantity(self.expr(tokens))
        block = self.environment(tokens)
        if block is not None:
            return block
        if split(tokens, lambda token, _: token.text in ("&", "\\cr"))[1]:
            tokens = _unaligned(tokens)
        parts, _ = split(tokens, lambda token, _: token.text in _THEREFORE)
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

    # ------------------------------------------------------------------------------------------- lists

    def listed(self, tokens: Tokens) -> Value:
        """A list at commas, semicolons, `and`, `or`; conditions after `where` and `for`; one item alone."""
        parts, separators = split(tokens, lambda token, at: _separates(token, at, tokens))
        if not separators:
            items = self.items(parts[0])
            return items[0] if len(items) == 1 else Sequence("list", tuple(items))
        parts, kinds = _without_empty(parts, separators)
        if len(parts) == 1:
            return self.value(parts[0])
        family = self.family(parts, kinds)
        if family is not None:
            return family
        if "where" in kinds:
            at = kinds.index("where") + 1
            if at != len(parts) - 1:
                raise Unreadable("several conditions")
            body = self.value(_joined(parts[:at]))
            return Sequence("row", (body, self.value(parts[at])))
        grouped = self.compound(parts, kinds)
        if grouped is not None:
            return grouped
        items = _excluded([item for part in parts for item in self.items(part)])
        region = combined(items, "or" if "or" in kinds else "and" if "and" in kinds else "")
        return region if region is not None else Sequence("list", tuple(items))

    def family(self, parts: list[Tokens], kinds: list[str]) -> Family | None:
        """`\\pi/3 + 2k\\pi, k \\in Z`."""
        domains = [_domain(part) for part in parts[1:]]
        found = [domain for domain in domains if domain is not None]
        if len(found) != 1 or domains[-1] is None:
            return None
        parameter, domain = found[0]
        if not any(token.text.startswith(parameter) for part in parts[:-1] for token in part):
            return None
        return Family(self.value(_joined(parts[:-1])), parameter, domain)

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
        tokens = _stripped(tokens)
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

    # -------------------------------------------------------------------------------------- relations

    def relation(self, tokens: Tokens) -> Value | None:
        sides, found = split(tokens, lambda token, _: token.kind in ("op", "cmd") and token.text in OPERATORS)
        if not found:
            return None
        operators = [OPERATORS[token.text] for token in found]
        if operators[0] == "~" and not sides[0]:
            value = self.value(sides[1]) if len(sides) == 2 else None
            if isinstance(value, Quantity):
                return Quantity(value.expr, value.unit, approximate=True)
            raise Unreadable("an approximation of nothing")
        if any(not side for side in sides):
            if not sides[0] and operators == ["="] and sides[1]:
                return self.value(sides[1])
            raise Unreadable("a relation with an empty side")
        if operators[0] == "in":
            return self.value(_after(tokens, found[0]))
        if "==" in operators:
            return self.congruence(sides, operators)
        if set(operators) <= {"=", "~"}:
            return self.equation(tokens, sides, operators, found)
        if "~" in operators or "in" in operators:
            raise Unreadable("relations of several kinds")
        if any(_unions(side) for side in sides) or _joins_notations(tokens):
            return None
        return Relation(tuple(self.side(side) for side in sides), tuple(operators))

    def side(self, tokens: Tokens) -> Expr:
        """A side of an inequality; its unit may only be one of degrees, percent and things that are counted."""
        value = self.quantity(tokens)
        if not isinstance(value, Quantity):
            raise Unreadable("an inequality of something that is no number")
        if value.unit.name == "degree":
            return Op("deg", (value.expr,))
        if value.unit.name == "percent":
            return Op("div", (value.expr, Num(Fraction(100))))
        return value.expr

    def equation(self, tokens: Tokens, sides: list[Tokens], operators: list[str], found: Tokens) -> Value:
        label = _label(sides[0])
        if label is not None:
            return Labelled(label, self.value(_after(tokens, found[0])))
        try:
            values = [self.one_side(side) for side in sides]
        except TwoReadings:
            raise
        except Unreadable:
            if len(sides) != 2 or not _may_be_named(sides[0]):
                raise
            return Labelled(spell(sides[0]), self.value(sides[1]))
        if "~" in operators:
            return self.approximation(values, operators)
        if all(isinstance(value, Quantity) for value in values):
            quantities = [value for value in values if isinstance(value, Quantity)]
            if quantities[-1].unit.powers and not any(value.unit.powers for value in quantities[:-1]):
                return Labelled(spell(sides[0]), quantities[-1])
            if any(value.unit.powers for value in quantities):
                if rational(quantities[0].expr) is not None:
                    return Labelled("", quantities[-1])
                raise Unreadable("a unit inside a relation")
            return Relation(tuple(value.expr for value in quantities), tuple(operators))
        first = values[0]
        plain_name = isinstance(first, Quantity) and not first.unit.powers
        tuple_name = isinstance(first, Sequence) and all(
            isinstance(item, Quantity) and isinstance(item.expr, Sym) and symbols(item.expr) for item in first.items
        )
        if (plain_name or tuple_name) and len(values) == 2:
            return Labelled(spell(sides[0]), values[1])
        raise Unreadable("an equation of something that is no number")

    def one_side(self, tokens: Tokens) -> Value:
        items = self.items(tokens)
        return items[0] if len(items) == 1 else Sequence("list", tuple(items))

    def approximation(self, values: list[Value], operators: list[str]) -> Value:
        """`200/3 \\approx 66.67` is one answer in two notations; `x \\approx 2.5` is an approximate value."""
        at = operators.index("~")
        before, after = values[: at + 1], values[at + 1 :]
        if not all(isinstance(value, Quantity) for value in values) or len(after) != 1:
            raise Unreadable("an approximation of something that is no number")
        last = after[0]
        assert isinstance(last, Quantity)
        rounded = Quantity(last.expr, last.unit, approximate=True)
        exact = before[-1]
        if isinstance(exact, Quantity) and not symbols(exact.expr):
            return Either((Quantity(exact.expr, exact.unit if exact.unit.powers else last.unit), rounded))
        if len(before) == 1:
            return rounded
        raise Unreadable("an approximation of an expression")

    def congruence(self, sides: list[Tokens], operators: list[str]) -> Value:
        """`x \\equiv 3 \\pmod{5}`."""
        if operators != ["=="]:
            raise Unreadable("a chain of congruences")
        text = spell(sides[1])
        match = re.fullmatch(r"(.*?)\s*\(?\s*(?:\\[pb]?mod|⟦\s*mod\s*⟧|mod)\s*\{?\s*(\d+)\s*\}?\s*\)?", text)
        if match is None or not match[1]:
            raise Unreadable("a congruence without its modulus")
        depth, cut = 0, len(sides[1])
        for at, token in enumerate(sides[1]):
            if token.text in ("\\pmod", "\\mod", "\\bmod", "mod") or token.text.strip() == "mod":
                cut = at - (depth > 0)
                break
            depth += (token.text == "(") - (token.text == ")")
        values, _ = split(sides[1][:cut], lambda token, _: token.text == ",")
        items = [self.item(value) for value in values]
        residue = items[0] if len(items) == 1 else Sequence("list", tuple(items))
        return Sequence("congruence", (residue, Quantity(Num(Fraction(match[2])))))

    # ------------------------------------------------------------------------------------------- sets

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
        condition = _after(tokens, found[0])
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

    # ---------------------------------------------------------------------------------- rows and rest

    def environment(self, tokens: Tokens) -> Value | None:
        """A matrix, a system of equations or a case distinction, alone."""
        begins = [at for at, token in enumerate(tokens) if token.kind == "env"]
        if not begins:
            return None
        first, last = begins[0], begins[-1]
        name = re.sub(r"\\(?:begin|end)\s*\{([A-Za-z]+)\*?\}", r"\1", tokens[first].text)
        before, after = spell(tokens[:first]), spell(tokens[last + 1 :])
        if len(begins) != 2:
            return None
        if (before, after) not in _AROUND_BLOCKS:
            return self.scaled_matrix(tokens, first, last)
        body = tokens[first + 1 : last]
        if name == "array" and body and body[0].text == "{":
            body = body[next(at for at, token in enumerate(body) if token.text == "}") + 1 :]
        rows, _ = split([token for token in body if token.text != "\\hline"], lambda token, _: token.text == "\\cr")
        cells = [split(row, lambda token, _: token.text == "&")[0] for row in rows if row]
        if not cells:
            raise Unreadable("an empty block")
        if name == "cases" or (before in ("\\{", "{") and after == "") or _is_system(cells):
            return self.rows(cells)
        if name not in _MATRICES or len({len(row) for row in cells}) > 1:
            raise Unreadable(f"a block {name}")
        return Matrix(tuple(tuple(self.expr(cell) for cell in row) for row in cells))

    def scaled_matrix(self, tokens: Tokens, first: int, last: int) -> Matrix | None:
        """A number in front of a matrix; None where the block stands in something else."""
        opened = first - 1 if first and tokens[first - 1].text in ("[", "(") else first
        head, block = tokens[:opened], tokens[opened:]
        if not head or last != len(tokens) - 1 - (first - opened) or head[-1].text in OPERATORS or not balanced(head):
            return None
        if any(token.text in OPERATORS or token.text in (",", ";", "+") for token in head):
            return None
        matrix = self.environment(block)
        if not isinstance(matrix, Matrix):
            return None
        factor = self.expr(head[:-1] if head[-1].text in ("\\cdot", "*", "\\times") else head)
        return Matrix(tuple(tuple(Op("mul", (factor, cell)) for cell in row) for row in matrix.rows))

    def rows(self, cells: list[list[Tokens]]) -> Value:
        found: list[Value] = []
        for row in cells:
            row = [cell for cell in row if cell]
            if len(row) == 2 and not any(token.text in OPERATORS for token in row[1][:1]):
                while row[0] and row[0][-1].text in (",", "\\quad", ";"):
                    row[0] = row[0][:-1]
                found.append(Sequence("row", (self.value(row[0]), self.condition(row[1]))))
            else:
                found.append(self.value(_trimmed([token for cell in row for token in cell])))
        return found[0] if len(found) == 1 else Sequence("rows", tuple(found))

    def condition(self, tokens: Tokens) -> Value:
        while tokens and (
            tokens[0].text in (",", "\\quad", "if", "for", "when")
            or tokens[0].text.strip(" ,") in ("if", "for", "when")
        ):
            tokens = tokens[1:]
        tokens = _trimmed(tokens)
        try:
            return self.value(tokens)
        except Unreadable:
            return Words(" ".join(re.findall(r"[^\W_]+|[<>=]", spell(tokens).lower())))

    def ratio(self, tokens: Tokens) -> Value | None:
        parts, found = split(tokens, lambda token, _: token.text == ":" or token.text.strip() == "to")
        if not found:
            return None
        if len(parts) == 2 and found[0].text == ":" and all(parts):
            label = _label(parts[0])
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

    def quantity(self, tokens: Tokens) -> Value:
        return read_quantity(tokens, self.expr, self.nouns, self.gold)


# ------------------------------------------------------------------------------------------ on tokens


def _stripped(tokens: Tokens) -> Tokens:
    """Without braces around all of it that are no set, and without what only ends a sentence."""
    tokens = _trimmed(tokens)
    while len(tokens) > 2 and tokens[0].text == "{" and tokens[-1].text == "}" and balanced(tokens[1:-1]):
        if any(token.text in (",", ";", ":", "|") for token in tokens):
            break
        tokens = tokens[1:-1]
    return tokens


def _trimmed(tokens: Tokens) -> Tokens:
    start, end = 0, len(tokens)
    while start < end and (
        tokens[start].text in ("\\quad", ",", "\\cr", ";")
        or (tokens[start].kind == "text" and not tokens[start].text.strip())
    ):
        start += 1
    while end > start and (
        tokens[end - 1].text in ("\\quad", ",", ".", "\\cr", ";", "、")
        or (tokens[end - 1].kind == "text" and not tokens[end - 1].text.strip(" .,"))
    ):
        if tokens[end - 1].text == "." and end - start > 1 and tokens[end - 2].text == ".":
            break
        end -= 1
    return tokens[start:end]


def _unaligned(tokens: Tokens) -> Tokens:
    """Aligned lines as one: a line that starts with a relation goes on, any other one is a further item."""
    rows, _ = split(tokens, lambda token, _: token.text == "\\cr")
    joined: Tokens = []
    for row in rows:
        row = _trimmed([token for token in row if token.text != "&"])
        if row and joined and not (row[0].text in OPERATORS or row[0].text in ("+", "-")):
            joined.append(Token("op", ","))
        joined += row
    return joined


def _separates(token: Token, at: int, tokens: Tokens) -> bool:
    if token.kind == "op":
        return token.text in (",", ";") or (token.text == "&" and at > 0)
    if token.kind in ("word", "text"):
        said = token.text.strip(" ,;.").lower()
        return said in _AND or said in _OR or (said in _WHERE and 0 < at < len(tokens) - 1)
    return token.text == "\\quad" or token.text in _AND or token.text in _OR


def _without_empty(parts: list[Tokens], separators: Tokens) -> tuple[list[Tokens], list[str]]:
    """Non-empty parts, and for each gap between two of them `and`, `or`, `where` or a comma."""
    kept: list[Tokens] = []
    kinds: list[str] = []
    gap = ""
    for at, part in enumerate(parts):
        if at:
            said = separators[at - 1].text.strip(" ,;.").lower()
            kind = "and" if said in _AND else "or" if said in _OR else "where" if said in _WHERE else ""
            gap = kind or gap
        part = _trimmed(part)
        if not part:
            continue
        if kept:
            kinds.append(gap or ",")
        kept.append(part)
        gap = ""
    if not kept:
        raise Unreadable("empty")
    return kept, kinds


def _joined(parts: list[Tokens]) -> Tokens:
    joined: Tokens = []
    for part in parts:
        joined += [Token("op", ","), *part] if joined else part
    return joined


def _after(tokens: Tokens, separator: Token) -> Tokens:
    """What follows the first such separator (by identity of its place)."""
    depth = 0
    for at, token in enumerate(tokens):
        if token is separator and depth == 0:
            return tokens[at + 1 :]
    return []


def _domain(tokens: Tokens) -> tuple[str, str] | None:
    """(`k`, `Z`) of `k \\in \\mathbb{Z}` and of `k is an integer`; None for everything else."""
    while tokens and tokens[0].text.strip(" ,") in _WHERE:
        tokens = tokens[1:]
    text = spell(tokens).replace("⟦", " ").replace("⟧", " ").strip()
    match = re.fullmatch(r"([a-zA-Z])\s*\\in\s*\\set([ZN])(?:\s*\^?\s*[*+])?|([a-zA-Z])\s*\\in\s*(Z|N)", text)
    if match:
        return (match[1] or match[3]), (match[2] or match[4])
    match = _INTEGER.fullmatch(re.sub(r"\s+", " ", text))
    if match:
        return (match[1] or match[2]), "Z"
    match = re.fullmatch(r"([a-z])\s*=\s*(?:0\s*,\s*)?\\pm\s*1.*", text)
    return (match[1], "Z") if match else None


def _label(tokens: Tokens) -> str | None:
    """The name in front of `=` when it is no expression: words, `P(X=2)`, `f(x)`, `(x, y)`; else None."""
    text = spell(tokens)
    if not _may_be_named(tokens):
        return None
    if _DERIVATIVE.fullmatch(text):
        return re.sub(r"\s", "", text)
    if any(
        token.kind == "text" and len(token.text.strip()) > 1 and not token.text.strip().isupper() for token in tokens
    ):
        return text
    if any((token.kind == "word" and len(token.text) > 3) or token.text in _LABELLING for token in tokens):
        return text
    opened = next((at for at, token in enumerate(tokens) if token.text in ("(", "[")), 0)
    applied = opened > 0 and tokens[-1].text in (")", "]") and balanced(tokens[opened + 1 : -1])
    if applied and all(token.kind in ("id", "word", "text") or token.text in ("'", "^", "-", "{", "}", "_") or
                       (token.kind == "num" and token.text == "1") for token in tokens[:opened]):  # fmt: skip
        letters = [token for token in tokens[:opened] if token.kind in ("id", "word", "text")]
        if len(letters) == 1 and letters[0].text not in ("e", "i", "pi", "sin", "cos", "tan", "ln", "log", "sqrt"):
            return re.sub(r"\s", "", text)
    return None


def _is_union(token: Token, at: int, tokens: Tokens) -> bool:
    if token.text == "\\cup":
        return True
    around = 0 < at < len(tokens) - 1 and tokens[at - 1].text in (")", "]", "}", "\\}")
    return token.text == "U" and around and tokens[at + 1].text in ("(", "[", "{", "\\{")


def _unions(tokens: Tokens) -> bool:
    return any(token.text in ("\\cup", "\\cap", "\\setminus") for token in tokens)


def _joins_notations(tokens: Tokens) -> bool:
    """Whether an inequality goes on as an interval, `1 < x \\le 4 : (1, 4]`."""
    parts, _ = split(tokens, lambda token, _: token.text == ":")
    return len(parts) == 2 and bool(parts[1]) and parts[1][0].text in ("(", "[", "\\{", "{")


def _excluded(items: list[Value]) -> list[Value]:
    """`x \\ne 1, 2` excludes both."""
    first = items[0]
    if not (isinstance(first, Relation) and first.operators == ("!=",)):
        return items
    return [
        Relation((first.sides[0], item.expr), ("!=",)) if isinstance(item, Quantity) and not item.unit.powers else item
        for item in items
    ]


def _difference(values: list[Value]) -> Value:
    """A set without finitely many numbers, as intervals where it is the real line."""
    if len(values) == 2 and values[0] == REALS:
        found = without_points(values[1])
        if found is not None:
            return found
    return SetOp("minus", tuple(values))


def _is_infinite(item: Value) -> bool:
    return isinstance(item, Quantity) and item.expr in (INFINITY, MINUS_INFINITY)


def _is_system(cells: list[list[Tokens]]) -> bool:
    return all(any(token.text in OPERATORS for cell in row for token in cell) for row in cells)


def _may_be_named(tokens: Tokens) -> bool:
    """Whether what could not be read to the left of `=` may still be a name: no words that change the meaning."""
    said = " ".join(token.text.lower() for token in tokens if token.kind in ("word", "text")).split()
    return balanced(tokens) and not CHANGES_NUMBER.intersection(said)


def _measures_together(items: list[Quantity]) -> bool:
    """Whether quantities are the parts of one, such as feet and inches."""
    names = [item.unit.name for item in items]
    in_order = any(
        all(name in family for name in names) and all(family.index(a) < family.index(b) for a, b in pairwise(names))
        for family in _FAMILIES
    )
    return in_order and all(rational(item.expr) is not None for item in items)
