"""How Qwen2.5-Math's harness spells an answer before it compares: what it drops and what it rewrites, in order."""

from __future__ import annotations

import re

_WORDS = """
    a, a . m, a ., ab, acre, am, apple, are, b ., bc, by, c, c ., cc, cm, cm 2, coin, cu . m, cu cm, cube, cubic, d,
    d ., day, decrease, deg, degree, dm, e ., east, excess, f ., feet, ft, g, g ., gain, gal, gallon, gm, h, h .,
    hectare, hour, hr, inch, inches, increase, kg, km, kmh, kmph, l, lb, less, liter, litre, loss, lt, m, m east, m
    sqaure, man, mark, men, meter, metre, mile, min, minute, minw, mm, monkey, month, more, mp, mph, mt, mtr, no
    change, noon, number, o, ohm, p . m, per, percent, pi sq m, pie, pm, prime, profit, profit of rs, pure, q .,
    ratio, rd, rise, rounds, rs, rs ., rupee, s, s ., sec, second, soldier, sq, sq . m, sq inch, sq m, square, st,
    Surface, t, th, tile, toy, unit, v â € ™, way, west, woman, women, yard, year, yr, ° f, ∏ cm ³, π r 2"""
UNITS = sorted({" ".join(word.split()) for word in _WORDS.split(",")}, key=lambda word: (-len(word), word))
"""Words that are dropped where they stand alone, the longest first; each also with an s."""

_ALONE = [re.compile(rf"(^|\W){word}($|\W)") for word in (*UNITS, *(f"{word}s" for word in UNITS))]
_NAMES = ("x=", "y=", "z=", "x\\in", "y\\in", "z\\in", "x\\to", "y\\to", "z\\to")

_DIGITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_DIGITS.split())}
_SMALL |= {word: 20 + 10 * place for place, word in enumerate(_TENS.split())}
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 10**3}
_VALUES = {**_SMALL, **_SCALES, "hundred": 100}


def spelled(text: str, keep_units: bool = False) -> str:
    """The text as that harness compares it.

    Args:
        keep_units: of sets whose golds have units.
    """
    text = text.strip().replace("\n", "").rstrip(".").replace("\\!", "")
    text = re.sub(r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}", text)
    text = re.sub(r"\\end\{array\}", r"\\end{pmatrix}", text).replace("bmatrix", "pmatrix")
    for before, after in (
        ("tfrac", "frac"), ("dfrac", "frac"), ("\\neq", "\\ne"), ("\\leq", "\\le"), ("\\geq", "\\ge"),
        ("\\left", ""), ("\\right", ""), ("\\{", "{"), ("\\}", "}"),
    ):  # fmt: skip
        text = text.replace(before, after)
    text = re.sub(r"\\text{.*?}$", "", text).strip() or text  # words in text mode at the end
    if not keep_units:
        text = _without_units(text)
    for dropped in ("^{\\circ}", "^\\circ", "\\$", "$", "\\(", "\\)"):
        text = text.replace(dropped, "")
    text = in_digits(text)
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    for dropped in _NAMES:
        text = text.replace(dropped, "")
    for before, after in (
        ("\\emptyset", "{}"), ("(-\\infty,\\infty)", "\\mathbb{R}"), ("\\%", ""), ("%", ""), (" .", " 0."),
        ("{.", "{0."), ("infinity", "\\infty"),
    ):  # fmt: skip
        text = text.replace(before, after)
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = text.replace("+\\inity", "\\infty").replace("and", "").replace("\\mathbf", "")
    text = re.sub(r"\\mbox{.*?}", "", text)
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d+)\.0*([^\d])", r"\1\2", text)
    text = re.sub(r"(\d+)\.0*$", r"\1", text)
    if not text:
        return ""
    text = f"0{text}" if text.startswith(".") else text
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    return _as_fraction(braced_fractions(text))


def _without_units(text: str) -> str:
    if not re.search(r"[^\W\d_]|°|€", text):
        return text  # no word in it: most answers
    for _ in range(2):
        for word in _ALONE:
            text = word.sub(r"\1\2", text) or text
    return text


def braced_fractions(text: str) -> str:
    """`\\frac12` as `\\frac{1}{2}`, `\\frac1{72}` as `\\frac{1}{72}`; as it is where a text ends within one."""
    first, *rest = text.split("\\frac")
    pieces = [first]
    for piece in rest:
        if piece.startswith("{"):
            pieces.append(piece)
        elif len(piece) < 2:
            return text
        else:
            below = piece[1:] if piece[1] == "{" else f"{{{piece[1]}}}{piece[2:]}"
            pieces.append(f"{{{piece[0]}}}{below}")
    return "\\frac".join(pieces)


def _as_fraction(text: str) -> str:
    """`3/4` as `\\frac{3}{4}`: of two whole numbers, or of what has a root in it."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        whole = [part if "sqrt" in part else str(int(part)) for part in parts]
    except ValueError:
        return text
    return f"\\frac{{{whole[0]}}}{{{whole[1]}}}" if whole == parts else text


def in_digits(text: str) -> str:
    """A text with numbers in words is the number alone, by the package word2number's rules; others stay."""
    words = text.replace("-", " ").lower()
    if words.isdecimal():
        return str(int(words))
    known = [word for word in words.split() if word in _SMALL or word in _SCALES or word in ("hundred", "point")]
    value = _value(known)
    return text if value is None else str(value)


def _value(words: list[str]) -> int | float | None:
    if not words or any(words.count(word) > 1 for word in (*_SCALES, "point")):
        return None
    before, after = words, []
    if "point" in words:
        at = words.index("point")
        before, after = words[:at], words[at + 1 :]
    places = [before.index(scale) if scale in before else -1 for scale in _SCALES]
    there = [place for place in places if place >= 0]
    if there != sorted(there):
        return None
    total, start = 0, 0
    if before:
        if len(before) == 1:
            total = _VALUES[before[0]]
        else:
            for place, scale in zip(places, _SCALES.values(), strict=True):
                if place == start:
                    return None  # a scale of nothing
                if place > start:
                    total += _below_thousand(before[start:place]) * scale
                    start = place + 1
            # behind the smallest scale that is not the last word; that of all after a larger one, where it is
            behind = [place for place in there if place < len(before) - 1]
            total += _below_thousand(before[behind[-1] + 1 :]) if behind else 0 if there else _below_thousand(before)
    if not after:
        return total
    if any(word not in _SMALL or _SMALL[word] > 9 for word in after):
        return total
    return total + float("0." + "".join(str(_SMALL[word]) for word in after))


def _below_thousand(words: list[str]) -> int:
    """Of at most four words; longer ones are their first."""
    values = [_VALUES[word] for word in words]
    if len(values) == 4:
        return values[0] * values[1] + values[2] + values[3]
    if len(values) == 3:
        return values[0] * values[1] + values[2]
    if len(values) == 2:
        return values[0] * values[1] if 100 in values else values[0] + values[1]
    return values[0]
