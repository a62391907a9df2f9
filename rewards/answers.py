"""Typed answers: what kind of thing an answer text is (number, tuple, interval, set, choice, text ...).

    text --clean--> one plain spelling --parse_answer--> Value

Gold answers and model answers go through the same reader; `compare.py` says when two values are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ixt_rl.rewards.expression import Expr, Num, Op, Sym, check_size, is_name, parse_expression
from ixt_rl.rewards.outcome import Unreadable


@dataclass(frozen=True)
class Quantity:
    """An expression with the unit it was written with (`""`, `percent`, `degree`, `dollar`, `cm^2` ...)."""

    expr: Expr
    unit: str = ""


@dataclass(frozen=True)
class Based:
    """Digits in a stated base: 204_5."""

    digits: str
    base: int


@dataclass(frozen=True)
class Sequence:
    """Several values; `style` is paren, bracket, set (braces), list (bare, unordered) or ratio (a:b)."""

    style: str
    items: tuple[Value, ...]


@dataclass(frozen=True)
class Interval:
    """An interval that can be read as nothing else."""

    low: Expr
    high: Expr
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True)
class Union:
    """A union of intervals and finite sets."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of expressions."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True)
class Relation:
    """`a = b`, or a chain `a < b <= c`; one more side than operators (`=`, `<`, `<=`, `>`, `>=`, `!=`)."""

    sides: tuple[Expr, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """One or several letters of a multiple-choice question."""

    letters: frozenset[str]


@dataclass(frozen=True)
class Clock:
    """A time of day or anything written like one."""

    hour: int
    minute: int
    half: str = ""


@dataclass(frozen=True)
class Words:
    """Text, compared as lower-case words."""

    text: str


Value = Quantity | Based | Sequence | Interval | Union | Matrix | Relation | Choice | Clock | Words

DOTS = Sym("...")
INFINITY = Sym("inf")

_SPACES = re.compile(r"\\(?:quad|qquad|displaystyle|limits|bigl|bigr|Bigl|Bigr|big|Big)(?![A-Za-z])|\\[ ;:>]|~")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|mathbf|mathit|textup|operatorname\*?)\s*\{([^{}]*)\}"
)
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_UNICODE = {
    "−": "-", "–": "-", "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "√": "\\sqrt ", "π": "\\pi ", "∞": "\\infty ",
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "°": "^\\circ ", "∪": "\\cup ", "∈": "\\in ", "…": "\\ldots ",
    "∅": "\\emptyset ", "±": "\\pm ", "²": "^2", "³": "^3", "½": "\\frac{1}{2}", "θ": "\\theta ", "\u00a0": " ",
    "’": "'", "“": '"', "”": '"', "，": ",", "（": "(", "）": ")",
}  # fmt: skip
_RELATIONS = {
    "\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", "<=": "<=", "\\geqslant": ">=", "\\geq": ">=", "\\ge": ">=",
    ">=": ">=", "\\neq": "!=", "\\ne": "!=", "!=": "!=", "\\lt": "<", "<": "<", "\\gt": ">", ">": ">", "==": "=",
    "=": "=",
}  # fmt: skip
_RELATION = re.compile(r"\\(?:leqslant|leq|le|geqslant|geq|ge|neq|ne|lt|gt)(?![A-Za-z])|<=|>=|(?<![!])!=|==|[<>=]")
_DOTS = re.compile(r"\\(?:[lc]?dots[cbmio]?|hdots)(?![A-Za-z])|\.\.\.")
_UNIT_NAMES = {
    "%": "percent", "percent": "percent", "per cent": "percent", "degree": "degree", "dollar": "dollar",
    "usd": "dollar",
    "buck": "dollar", "unit": "", "centimeter": "cm", "meter": "m", "kilometer": "km", "millimeter": "mm",
    "inche": "inch", "in": "inch", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "hour": "h", "hr": "h",
    "minute": "min", "second": "s", "sec": "s", "gram": "g", "kilogram": "kg", "pound": "lb", "lb": "lb",
    "gallon": "gal", "liter": "l", "cent": "cent", "year old": "year",
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PLAIN_UNITS = {"cm", "km", "mm", "kg", "ft", "mi", "mph", "lb", "hr", "sec", "min", "inches", "in"}
_CURRENCY = {"\\$": "dollar", "$": "dollar", "\\textdollar": "dollar", "€": "euro", "£": "pound sterling"}
_BARE_GROUPED = re.compile(r"-?(?:\\?\$)?\s*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)")
_CHOICE = re.compile(r"\(?([A-Z])\)?\.?")
_LABELLED = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.:)])\s*(\S.*)", re.DOTALL)
_CHOICES = re.compile(r"\(?[A-Z]\)?(?:\s*(?:,|and|,\s*and)\s*\(?[A-Z]\)?)+")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_CLOCK_24 = re.compile(r"(\d{1,2}):(\d{2})")


def clean(text: str) -> str:
    """One plain spelling: no math fences, spacing commands or `\\left`; `\\text{x}` becomes `⟦x⟧`.

    Raises:
        TooLarge: it exceeds a size limit.
    """
    check_size(text)
    for char, replacement in _UNICODE.items():
        text = text.replace(char, replacement)
    text = re.sub(r"\\\\(?:\[[\d.]+[a-z]+\])?", r"\\cr ", text.strip().removesuffix("\\\\"))
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = re.sub(r",\s*\\!\s*", ",", text).replace("{,}", ",")
    text = re.sub(r"\\!\s*", "", text)
    text = re.sub(r"(?<=\d)\\[, ](?=\d{3}(?!\d))", "", text).replace("\\,", " ")
    text = re.sub(r"\\(left|right|middle)(?![A-Za-z])\s*\.?", "", text)
    text = re.sub(r"\\(?:d|t|c)(frac|binom)(?![A-Za-z])", r"\\\1", text)
    text = re.sub(r"\\l?vert(?![A-Za-z])|\\rvert(?![A-Za-z])|\\mid(?![A-Za-z])", "|", text)
    text = _SPACES.sub(" ", text)
    text = re.sub(r"\\(?:math|text)(?:rm|bf|it)?\s*\{\s*e\s*\}", "e ", text)
    text = _TEXT.sub(r"⟦\1⟧", text)
    text = _TEXT.sub(r"⟦\1⟧", text)  # \textbf{\text{...}}
    text = text.replace("**", "^") if re.search(r"[\w)]\s*\*\*\s*[\w(-]", text) else text.strip("*")
    text = _strip_fences(_strip_period(re.sub(r"\s+", " ", text).strip()))
    return _strip_period(text).rstrip(" ,;")


def _strip_period(text: str) -> str:
    if text.endswith(".") and not text.endswith("..") and not re.search(r"\b[ap]\.m\.$", text):
        return text[:-1].rstrip()
    return text


def _strip_fences(text: str) -> str:
    """Remove `$` fences; a lone `$` before a number is a currency and stays."""
    fences = [match.start() for match in re.finditer(r"(?<!\\)\$", text)]
    if len(fences) == 1 and re.match(r"-?\$\s*-?[\d.]", text):
        return text
    return re.sub(r"(?<!\\)\$", " ", text).strip() if fences else text


def canonical(text: str) -> str:
    """The cleaned text with the spaces that carry no meaning removed; equal strings are equal answers."""
    text = clean(text).replace("⟦", "").replace("⟧", "")
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"(?<=\W)\s+|\s+(?=\W)", "", text)


def words(text: str) -> str:
    """Lower-case words of a text, for comparing text answers."""
    text = clean(text).replace("⟦", " ").replace("⟧", " ").lower()
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.replace("\\", " ")))


def strip_label(text: str) -> tuple[str, str]:
    """Split `(B) 12` into the choice letter and the rest; ("", text) when there is no label."""
    match = _LABELLED.fullmatch(clean(text).replace("⟦", "").replace("⟧", ""))
    if match is None:
        return "", text
    return match[1] or match[2], match[3]


def is_grouped(text: str) -> bool:
    """Whether the text is like `1,234`, which can be one number or a list."""
    return _BARE_GROUPED.fullmatch(clean(text)) is not None


def parse_answer(text: str, *, grouping: bool = True) -> Value:
    """Read an answer text.

    Args:
        text: the answer alone, LaTeX or plain.
        grouping: read `1,234` as one number (as a list otherwise).

    Raises:
        Unreadable: it is neither text nor mathematics this reader understands completely.
        TooLarge: it exceeds a size limit.
    """
    cleaned = clean(text)
    inner = cleaned[1:-1].strip() if re.fullmatch(r"⟦[^⟦⟧]*⟧", cleaned) else None
    plain = cleaned.replace("⟦", "").replace("⟧", "").strip()
    if not plain:
        raise Unreadable("empty")
    if _CHOICE.fullmatch(plain) or _CHOICES.fullmatch(plain):
        return Choice(frozenset(re.findall(r"[A-Z]", plain)))
    clock = _CLOCK.fullmatch(plain) or _CLOCK_24.fullmatch(plain)
    if clock:
        half = clock[3].lower() if clock.re is _CLOCK else ""
        return Clock(int(clock[1]), int(clock[2] or 0), half)
    if inner is not None and re.fullmatch(r"[^\W\d_][^\W\d_ '-]*", inner):
        return Words(words(plain))
    try:
        return _parse_math(plain if inner is not None else cleaned, grouping)
    except Unreadable:
        found = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", plain)
        if any(not is_name(word) for word in found) and not re.search(r"[\\^_=<>]", plain):
            return Words(words(plain))
        raise


def _parse_math(text: str, grouping: bool) -> Value:
    text = re.sub(r"⟦\s*(and|or|,\s*and|,\s*or)\s*⟧", r" \1 ", text)
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        return _parse_matrix(matrix[2])
    text = re.sub(r"^[A-Za-z]\s*\\in(?![A-Za-z])", "", text).strip()
    if re.search(r"\\cup(?![A-Za-z])", text) or re.search(r"[)\]}]\s*U\s*[(\[\\]", text):
        parts = re.split(r"\\cup(?![A-Za-z])|(?<=[)\]}])\s*U\s*(?=[(\[\\])", text)
        return Union(tuple(_parse_set_part(part.strip()) for part in parts))
    if text in ("\\emptyset", "\\varnothing", "\\{\\}", "{}"):
        return Sequence("set", ())
    parts, either = _split_list(text, grouping)
    if len(parts) > 1:
        items = [item for part in parts for item in _parse_items(part, grouping)]
        if either and all(isinstance(item, Relation) and item.operators != ("=",) for item in items):
            return Union(tuple(items))
        return Sequence("list", tuple(items))
    items = _parse_items(parts[0], grouping)
    return items[0] if len(items) == 1 else Sequence("list", tuple(items))


def _parse_items(text: str, grouping: bool) -> list[Value]:
    """One item of a list; `a \\pm b` makes two."""
    if re.search(r"\\(?:pm|mp)(?![A-Za-z])", text):
        upper = re.sub(r"\\pm(?![A-Za-z])", "+", re.sub(r"\\mp(?![A-Za-z])", "-", text))
        lower = re.sub(r"\\pm(?![A-Za-z])", "-", re.sub(r"\\mp(?![A-Za-z])", "+", text))
        return [_parse_one(upper.removeprefix("+"), grouping), _parse_one(lower, grouping)]
    return [_parse_one(text, grouping)]


def _parse_one(text: str, grouping: bool) -> Value:
    text = text.strip()
    if not text:
        raise Unreadable("an empty item")
    if _DOTS.fullmatch(text):
        return Quantity(DOTS)
    relation = _parse_relation(text)
    if relation is not None:
        return relation
    bracketed = _parse_bracketed(text)
    if bracketed is not None:
        return bracketed
    ratio = _split_top(text, ":")
    if len(ratio) > 1:
        return Sequence("ratio", tuple(Quantity(parse_expression(part)) for part in ratio))
    based = re.fullmatch(r"(-?[0-9A-Z]*\.?[0-9A-Z]*\d[0-9A-Z]*)\s*_\s*\{?(?:⟦)?(\d{1,2})(?:⟧)?\}?", text)
    if based and int(based[2]) >= 2:
        return Based(based[1], int(based[2]))
    return _parse_quantity(text)


def _parse_relation(text: str) -> Relation | None:
    sides, operators, start, depth = [], [], 0, 0
    at = 0
    while at < len(text):
        match = _RELATION.match(text, at) if depth == 0 else None
        if match:
            sides.append(text[start:at])
            operators.append(_RELATIONS[match[0]])
            at = start = match.end()
            continue
        depth += (text[at] in "([{") - (text[at] in ")]}")
        at += 2 if text[at] == "\\" else 1
    if not operators:
        return None
    sides.append(text[start:])
    if operators == ["="] and re.fullmatch(r"\s*⟦[^⟦⟧]*⟧\s*", sides[0]):
        sides[0] = "x"  # `\text{Area} = 5`: the label is a name like any other
    if re.fullmatch(r"\s*[A-Za-z]\([A-Za-z]\)\s*", sides[0]) and operators == ["="]:
        sides[0] = sides[0].strip()[0]  # `f(x) = ...` assigns to f
    exprs = []
    for side in sides:
        value = _parse_quantity(side.strip())
        if value.unit not in ("", "degree", "dollar", "percent") and side is not sides[-1]:
            raise Unreadable("a unit inside a relation")
        exprs.append(Op("deg", (value.expr,)) if value.unit == "degree" else value.expr)
    return Relation(tuple(exprs), tuple(operators))


def _parse_bracketed(text: str) -> Value | None:
    """`(a, b)`, `[a, b)`, `\\{a, b\\}`, `{a, b}`, `\\langle a, b \\rangle`; None if it is not such a thing."""
    text = text.replace("\\langle", "(").replace("\\rangle", ")").strip()
    opener = "\\{" if text.startswith("\\{") else text[:1]
    closer = "\\}" if text.endswith("\\}") else text[-1:]
    if opener not in ("(", "[", "{", "\\{") or closer not in (")", "]", "}", "\\}"):
        return None
    inner = text[len(opener) : -len(closer)]
    if not _balanced(inner):
        return None
    parts = _split_top(inner, ",") if "," in inner else _split_top(inner, ";")
    braces = opener in ("{", "\\{")
    if braces != (closer in ("}", "\\}")):
        raise Unreadable(f"brackets {opener} and {closer}")
    if len(parts) == 1 and opener != "\\{":
        return None
    items = tuple(item for part in parts for item in _parse_items(part, grouping=False))
    if braces:
        return Sequence("set", items)
    if opener + closer not in ("()", "[]") or (len(items) == 2 and any(_is_infinite(item) for item in items)):
        if len(items) != 2 or not all(isinstance(item, Quantity) for item in items):
            raise Unreadable("an interval has two ends")
        low, high = (item.expr for item in items if isinstance(item, Quantity))
        return Interval(low, high, opener == "[", closer == "]")
    return Sequence("paren" if opener == "(" else "bracket", items)


def _is_infinite(item: Value) -> bool:
    return isinstance(item, Quantity) and item.expr in (INFINITY, Op("neg", (INFINITY,)))


def _parse_set_part(text: str) -> Value:
    part = _parse_bracketed(text)
    if part is None:
        raise Unreadable("part of a union")
    return part


def _parse_matrix(body: str) -> Matrix:
    rows = [row for row in re.split(r"\\cr(?![A-Za-z])", body) if row.strip()]
    cells = tuple(tuple(parse_expression(cell) for cell in row.split("&")) for row in rows)
    if not cells or len({len(row) for row in cells}) > 1:
        raise Unreadable("a matrix of uneven rows")
    return Matrix(cells)


def _parse_quantity(text: str) -> Quantity:
    """An expression with its unit: `\\$5`, `50\\%`, `30^\\circ`, `5 cm`, `864 ⟦ inches⟧^2`, `1.8 billion`."""
    unit, scale, sign = "", 1, ""
    prefix = re.match(r"(-?)\s*(\\\$|\\textdollar|[$€£])\s*(-?)\s*(?=[\d.\\(])", text)
    if prefix:
        unit, sign = _CURRENCY[prefix[2]], prefix[1] or prefix[3]
        text = sign + text[prefix.end() :]
    while suffix := re.search(
        r"\s*(?:⟦(?P<text>[^⟦⟧]*)⟧|(?P<percent>\\?%)"
        r"|(?<=[\d.)}\]])\s*(?P<word>(?:[A-Za-z]+ )*[A-Za-z]{2,}))(?P<power>\^\{?[23]\}?)?$",
        text,
    ):
        name = suffix["text"] or suffix["percent"] or suffix["word"] or ""
        name = name.replace("\\", "")
        if suffix["word"] and not _is_plain_unit(name):
            break
        if not text[: suffix.start()].strip():
            raise Unreadable("a unit without a value")
        text = text[: suffix.start()]
        words_ = name.lower().replace(".", "").split()
        while words_ and words_[0] in _SCALES:
            scale *= _SCALES[words_.pop(0)]
        found = _unit_name(" ".join(words_)) + re.sub(r"[{}]", "", suffix["power"] or "")
        unit = unit if unit == "dollar" and found in ("", "dollar") else found or unit
    expr = parse_expression(text)
    if isinstance(expr, Op) and expr.name == "deg":
        expr, unit = expr.args[0], "degree"
    elif isinstance(expr, Op) and expr.name == "neg" and isinstance(expr.args[0], Op) and expr.args[0].name == "deg":
        expr, unit = Op("neg", expr.args[0].args), "degree"
    if scale != 1:
        expr = Op("mul", (expr, Num(Fraction(scale))))
    return Quantity(expr, unit)


def _is_plain_unit(name: str) -> bool:
    """Whether words without \\text after a number are a unit, not a product of variables or prose."""
    parts = name.lower().split()
    if len(parts) > 3 or any(part in ("or", "and", "to", "is", "not", "no") for part in parts):
        return False
    known = set(_UNIT_NAMES) | _PLAIN_UNITS | set(_SCALES)
    return all(part in known or part.rstrip("s") in known or len(part) >= 4 for part in parts) and not any(
        part in ("sqrt", "cbrt", "sinh", "cosh", "tanh", "infty", "floor", "ceil") for part in parts
    )


def _unit_name(name: str) -> str:
    """`square inches` and `inches^2` are one unit; a plural is its singular."""
    power = ""
    for adjective, exponent in (("square ", "^2"), ("sq ", "^2"), ("cubic ", "^3"), ("cu ", "^3")):
        if name.startswith(adjective):
            name, power = name.removeprefix(adjective), exponent
    singular = name if len(name) <= 2 or not name.endswith("s") or name.endswith("ss") else name[:-1]
    found = _UNIT_NAMES.get(name, _UNIT_NAMES.get(singular, singular))
    return found + power if found else ""


def _split_list(text: str, grouping: bool) -> tuple[list[str], bool]:
    """Split at commas, semicolons, `and`, `or` outside brackets; whether some separator was `or`."""
    pattern = re.compile(r"\s*(?:[,;]\s*(?:and|or)\b|[,;]|(?<![\\A-Za-z])(?:and|or)(?![A-Za-z]))\s*")
    grouped = [match.span() for match in re.finditer(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?!\d)", text)] if grouping else []
    parts, start, depth, at, either = [], 0, 0, 0, False
    while at < len(text):
        inside_number = any(low < at < high for low, high in grouped)
        match = pattern.match(text, at) if depth == 0 and not inside_number else None
        if match:
            parts.append(text[start:at])
            either = either or "or" in match[0]
            at = start = match.end()
            continue
        depth += (text[at] in "([{") - (text[at] in ")]}")
        at += 1
    return [*parts, text[start:]], either


def _split_top(text: str, separator: str) -> list[str]:
    parts, start, depth = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == separator and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _balanced(text: str) -> bool:
    """Whether no bracket inside closes one outside, so that the pair around the text belongs together."""
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return False
    return depth == 0
