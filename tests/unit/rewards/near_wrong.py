"""Wrong answers near right ones, by the kinds of slip that models make: (kind of gold, slip, gold, answer).

Each maker draws parameters, writes the gold from them, and writes the answer from parameters that differ, so that
the answer is wrong by construction and not by the verdict of a checker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import gcd

Case = tuple[str, str, str, str]

WORDS = ("dozen", "squared", "cubed", "hundred", "thousand", "million", "halves", "thirds", "below zero", "pairs",
         "or more", "or less", "less", "percent more", "factorial", "to the 3", "tenths", "times itself", "hundredths",
         "short of it", "score", "and a half", "or so I think", "minus 1", "plus 2", "mod 3", "dozens", "couples",
         "decades", "base 7", "billion")  # fmt: skip
UNITS = (("cm", "m", "mm", "km", "inches", "kg"), ("kg", "g", "mg", "lb", "m"), ("s", "min", "hours", "ms", "m"),
         ("m/s", "km/h", "m/s^2", "mph", "m"), ("J", "kJ", "W", "N"), ("L", "mL", "gallons", "kg"),
         ("cm^2", "cm", "m^2", "cm^3"), ("dollars", "cents", "euros"), ("Hz", "kHz", "s"), ("V", "mV",
         "A"))  # fmt: skip


def slips(count: int, seed: int = 0) -> Iterator[Case]:
    """`count` cases, the makers in turn."""
    generator = random.Random(seed)
    for number in range(count):
        yield MAKERS[number % len(MAKERS)](generator)


def _nonzero(r: random.Random, high: int = 400) -> int:
    return r.choice((-1, 1)) * r.randint(1, high)


def _other(r: random.Random, value: int) -> tuple[str, int]:
    """A slip in an integer that is not 0."""
    slip = r.choice(("sign", "factor", "digit", "off by one"))
    if slip == "sign":
        return slip, -value
    if slip == "factor":
        return slip, value * r.choice((2, 3, 5, 10, 1000, -2))
    if slip == "off by one":
        return slip, value + r.choice((-1, 1))
    digits = list(str(abs(value)))
    at = r.randrange(len(digits))
    digits[at] = r.choice([digit for digit in "123456789" if digit != digits[at]])
    return slip, (1 if value > 0 else -1) * int("".join(digits))


def _dress(r: random.Random, text: str) -> str:
    return r.choice((text, text, f"${text}$", f"{text}.", f"x = {text}", rf"\left({text}\right)"))


def _fraction(r: random.Random, value: Fraction) -> str:
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    return sign + r.choice((rf"\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}", rf"\dfrac{{{top}}}{{{bottom}}}"))


def _proper(r: random.Random) -> Fraction:
    while True:
        top, bottom = r.randint(1, 60), r.randint(2, 60)
        if gcd(top, bottom) == 1:
            return Fraction(r.choice((-1, 1)) * top, bottom)


def integer(r: random.Random) -> Case:
    value = _nonzero(r, 10 ** r.randint(1, 9))
    slip, wrong = _other(r, value)
    return "integer", slip, str(value), _dress(r, f"{wrong:,}" if r.random() < 0.2 else str(wrong))


def long_integer(r: random.Random) -> Case:
    value = r.randint(10**25, 10**32)
    return "integer", "digit", str(value), str(value + r.choice((1, -1, 10, 10**12)))


def word_after(r: random.Random) -> Case:
    value = r.randint(3, 500)
    return "integer", "word after a number", str(value), f"{value} {r.choice(WORDS)}"


def decimal(r: random.Random) -> Case:
    value, places = _nonzero(r, 10**5), r.randint(1, 4)
    slip, wrong = r.choice(
        (("sign", -value), ("factor", value * 10), ("digit", value + 10 ** (places - 1) * r.randint(1, 8)))
    )
    if r.random() < 0.2:
        slip, wrong, places_ = "point", value, places + 1
        return "decimal", slip, _decimal(value, places), _decimal(wrong, places_)
    return "decimal", slip, _decimal(value, places), _dress(r, _decimal(wrong, places))


def _decimal(value: int, places: int) -> str:
    digits = str(abs(value)).zfill(places + 1)
    return ("-" if value < 0 else "") + digits[:-places] + "." + digits[-places:]


def scientific(r: random.Random) -> Case:
    mantissa, power = r.randint(2, 9), r.choice((-1, 1)) * r.randint(3, 20)
    gold = rf"{mantissa} \times 10^{{{power}}}"
    wrong = r.choice((rf"{mantissa} \times 10^{{{-power}}}", rf"{mantissa} \times 10^{{{power + 1}}}",
    f"{mantissa}e{power - 1}",
                      f"-{mantissa}e{power}", f"{mantissa}e^{{{power}}}"))  # fmt: skip
    return "scientific", "exponent", gold, wrong


def fraction(r: random.Random) -> Case:
    value = _proper(r)
    slip, wrong = r.choice(
        (
            ("sign", -value),
            ("factor", value * 2),
            ("flipped", 1 / value),
            ("digit", value + Fraction(1, value.denominator)),
        )
    )
    if wrong in (value, 0):
        slip, wrong = "factor", value * 3
    return "fraction", slip, _fraction(r, value), _dress(r, _fraction(r, wrong))


def mixed_number(r: random.Random) -> Case:
    whole, part, sign = r.randint(2, 20), abs(_proper(r)), r.choice(("", "-"))
    while part >= 1:
        part = abs(_proper(r))
    gold = rf"{sign}{whole}\frac{{{part.numerator}}}{{{part.denominator}}}"
    product = Fraction(whole) * part
    inverse = "-" if not sign else ""
    slip, wrong = r.choice(
        (
            ("read as a product", f"{sign}{product}"),
            ("sign of one part", f"{sign}{whole - part}"),
            ("sign", f"{inverse}{whole}\\frac{{{part.numerator}}}{{{part.denominator}}}"),
            ("dropped part", f"{sign}{whole}"),
        )
    )
    return "mixed number", slip, gold, wrong


def surd(r: random.Random) -> Case:
    a, b, c = _nonzero(r, 30), r.randint(2, 12), r.choice((2, 3, 5, 6, 7, 10))
    gold = rf"{a} + {b}\sqrt{{{c}}}"
    slip, wrong = r.choice(
        (
            ("sign", rf"{a} - {b}\sqrt{{{c}}}"),
            ("digit", rf"{a} + {b + 1}\sqrt{{{c}}}"),
            ("dropped part", rf"{b}\sqrt{{{c}}}"),
            ("dropped part", rf"{a} + \sqrt{{{c}}}"),
            ("radicand", rf"{a} + {b}\sqrt{{{c + 1}}}"),
            ("no root", f"{a} + {b * c}"),
        )
    )
    return "surd", slip, gold, _dress(r, wrong)


def multiple_of_pi(r: random.Random) -> Case:
    value = _proper(r)
    gold = (
        rf"{_fraction(random.Random(1), value)}\pi"
        if value.denominator == 1
        else rf"\frac{{{value.numerator}\pi}}{{{value.denominator}}}"
    )
    slip, wrong = r.choice(
        (
            ("sign", rf"\frac{{{-value.numerator}\pi}}{{{value.denominator}}}"),
            ("dropped part", rf"\frac{{{value.numerator}}}{{{value.denominator}}}"),
            ("factor", rf"\frac{{{2 * value.numerator}\pi}}{{{value.denominator}}}"),
            ("power", rf"\frac{{{value.numerator}\pi^2}}{{{value.denominator}}}"),
        )
    )
    return "multiple of pi", slip, gold, wrong


def percent(r: random.Random) -> Case:
    value = r.randint(2, 99)
    wrong = value + r.choice((-1, 1, 10, 100))
    return (
        "percent",
        "digit",
        rf"{value}\%",
        r.choice((rf"{wrong}\%", f"{wrong}%", f"{wrong} percent", f"-{value}\\%", str(wrong))),
    )


def unit(r: random.Random) -> Case:
    family = r.choice(UNITS)
    right, value = family[0], r.randint(2, 900)
    other = r.choice(family[1:])
    gold = rf"{value} \text{{ {right}}}"
    return (
        "quantity",
        "unit",
        gold,
        r.choice((f"{value} {other}", rf"{value} \text{{ {other}}}", rf"{value}\ \mathrm{{{other}}}")),
    )


def unit_value(r: random.Random) -> Case:
    family = r.choice(UNITS)
    value = _nonzero(r, 900)
    slip, wrong = _other(r, value)
    return "quantity", slip, rf"{value} \text{{ {family[0]}}}", f"{wrong} {family[0]}"


def angle(r: random.Random) -> Case:
    value = r.randint(1, 359)
    wrong = r.choice(
        (f"{value + 1}^\\circ", f"-{value}^\\circ", rf"{value}\pi", f"{value}^\\circ 30'", f"{value} \\text{{ rad}}")
    )
    return "angle", "digit or unit", rf"{value}^\circ", wrong


def ordered(r: random.Random) -> Case:
    items = r.sample(range(-50, 50), r.randint(2, 4))
    gold = "(" + ", ".join(map(str, items)) + ")"
    slip = r.choice(("order", "sign", "dropped part", "set", "added part"))
    wrong = list(items)
    if slip == "order":
        wrong[0], wrong[1] = wrong[1], wrong[0]
    elif slip == "sign":
        wrong[0] = -wrong[0] or 7
        if wrong[0] == items[0]:
            wrong[0] += 100
    elif slip == "dropped part":
        wrong.pop()
    elif slip == "added part":
        wrong.append(99)
    text = ", ".join(map(str, wrong))
    return "tuple", slip, gold, rf"\{{{text}\}}" if slip == "set" else f"({text})"


def unordered(r: random.Random) -> Case:
    items = r.sample(range(-50, 50), r.randint(2, 5))
    slip = r.choice(("dropped part", "sign", "added part", "digit"))
    wrong = list(items)
    if slip == "dropped part":
        wrong.pop(r.randrange(len(wrong)))
    elif slip == "added part":
        wrong.append(77)
    else:
        wrong[0] = 60 + abs(wrong[0]) if slip == "digit" or -wrong[0] in items else -wrong[0]
    r.shuffle(wrong)
    style = r.choice(("{}", r"\{{{}\}}", "x = {}"))
    return "list", slip, ", ".join(map(str, items)), style.format(", ".join(map(str, wrong)))


def interval(r: random.Random) -> Case:
    low = r.randint(-50, 40)
    high = low + r.randint(1, 40)
    left, right = r.choice("(["), r.choice(")]")
    below, above = ("<" if left == "[" else r"\le"), ("<" if right == "]" else r"\le")
    slip, wrong = r.choice(
        (
            ("bracket", f"{'[' if left == '(' else '('}{low}, {high}{right}"),
            ("bracket", f"{left}{low}, {high}{']' if right == ')' else ')'}"),
            ("end", f"{left}{low}, {high + 1}{right}"),
            ("end", rf"{left}{low}, \infty)"),
            ("inequality", f"{low} {below} x {above} {high}"),
        )
    )
    return (
        "interval",
        slip,
        f"{left}{low}, {high}{right}" if (left, right) != ("(", ")") else rf"{low} < x < {high}",
        wrong,
    )


def region(r: random.Random) -> Case:
    low = r.randint(-40, 0)
    high = low + r.randint(1, 40)
    gold = rf"(-\infty, {low}) \cup ({high}, \infty)"
    slip, wrong = r.choice(
        (
            ("dropped part", rf"({high}, \infty)"),
            ("bracket", rf"(-\infty, {low}] \cup ({high}, \infty)"),
            ("sign", rf"(-\infty, {low}) \cup (-{abs(high) + 1}, \infty)"),
            ("and for or", rf"x < {low} \text{{ and }} x > {high}"),
            ("inequality", rf"x \le {low} \text{{ or }} x > {high}"),
        )
    )
    return "union", slip, gold, wrong


def polynomial(r: random.Random) -> Case:
    a, b, c = r.randint(2, 9), _nonzero(r, 9), _nonzero(r, 9)
    gold = f"{a}x^2 + {b}x + {c}".replace("+ -", "- ")
    slip, (d, e, f) = r.choice(
        (
            ("sign", (a, -b, c)),
            ("digit", (a + 1, b, c)),
            ("digit", (a, b, c + 1)),
            ("dropped part", (a, b, 0)),
            ("factor", (2 * a, 2 * b, 2 * c)),
        )
    )
    wrong = f"{d}x^2 + {e}x + {f}".replace("+ -", "- ").replace(" + 0", "")
    return "polynomial", slip, gold, r.choice((wrong, f"y = {wrong}", wrong.replace("x", "t")))


def equation(r: random.Random) -> Case:
    a, b = _nonzero(r, 9), _nonzero(r, 9)
    gold = f"y = {a}x + {b}".replace("+ -", "- ")
    slip, wrong = r.choice(
        (
            ("sign", f"y = {-a}x + {b}"),
            ("digit", f"y = {a}x + {b + 10}"),
            ("swapped", f"x = {a}y + {b}" if a not in (1, -1) else f"y = {a + 3}x + {b}"),
            ("sign", f"{a}x + y = {b}"),
            ("dropped part", f"y = {a}x"),
        )
    )
    return "equation", slip, gold, wrong.replace("+ -", "- ")


def matrix(r: random.Random) -> Case:
    cells = r.sample(range(-9, 10), 4)
    shape = r.choice(("pmatrix", "bmatrix"))
    slip = r.choice(("transposed", "sign", "dropped part"))
    wrong = list(cells)
    if slip == "transposed":
        wrong[1], wrong[2] = wrong[2], wrong[1]
    elif slip == "sign":
        at = next(at for at, cell in enumerate(cells) if cell)
        wrong[at] = -wrong[at]
    rows = [wrong[:2], wrong[2:]] if slip != "dropped part" else [wrong[:2]]
    return "matrix", slip, _block(shape, [cells[:2], cells[2:]]), _block(shape, rows)


def _block(shape: str, rows: list[list[int]]) -> str:
    body = r" \\ ".join(" & ".join(map(str, row)) for row in rows)
    return rf"\begin{{{shape}}}{body}\end{{{shape}}}"


def ratio(r: random.Random) -> Case:
    a, b = r.sample(range(2, 40), 2)
    slip, wrong = r.choice(
        (("order", f"{b}:{a}"), ("digit", f"{a}:{b + 1}"), ("factor", f"{2 * a}:{b}"), ("value", f"{a}"))
    )
    return "ratio", slip, f"{a}:{b}", wrong


def choice(r: random.Random) -> Case:
    right, wrong = r.sample("ABCDE", 2)
    return (
        "choice",
        "letter",
        right,
        r.choice((wrong, f"({wrong})", rf"\text{{{wrong}}}", f"{right}, {wrong}", f"({wrong}) 12", wrong.lower())),
    )


def complex_number(r: random.Random) -> Case:
    a, b = r.sample(range(2, 30), 2)
    slip, wrong = r.choice(
        (("sign", f"{a}-{b}i"), ("swapped", f"{b}+{a}i"), ("dropped part", f"{a}+{b}"), ("sign", f"-{a}+{b}i"))
    )
    return "complex", slip, f"{a}+{b}i", wrong


def function(r: random.Random) -> Case:
    a, b = r.randint(2, 9), r.randint(2, 9)
    gold = r.choice(
        (rf"{a}\sin {b}x", rf"e^{{{a}x}} + {b}", rf"\ln({a}x + {b})", rf"{a}^{b + 3} x", rf"\frac{{{a}}}{{x + {b}}}")
    )
    changed = gold.replace(str(a), str(a + 1), 1)
    slip, wrong = r.choice(
        (
            ("digit", changed),
            ("sign", "-" + gold),
            ("factor", f"2({gold})"),
            ("function", gold.replace("sin", "cos").replace("ln", "exp").replace("x", "x^2")),
        )
    )
    return "function", slip, gold, wrong


def constant_of_integration(r: random.Random) -> Case:
    a, b = r.randint(2, 9), r.randint(2, 9)
    slip, wrong = r.choice(
        (
            ("digit", f"x^{a} + {b + 1}x + C"),
            ("sign", f"x^{a} - {b}x + C"),
            ("dropped part", f"x^{a} + C"),
            ("dropped part", f"x^{a} + {b}x"),
        )
    )
    return "antiderivative", slip, f"x^{a} + {b}x + C", wrong


def text(r: random.Random) -> Case:
    pairs = (("even", "not even"), ("increasing", "decreasing"), ("Monday", "Tuesday"), ("yes", "no"), ("converges",
    "diverges"),
             ("no solution", "one solution"), ("Alice", "Bob"), (r"\infty", r"-\infty"), ("odd", "even"), ("true",
             "not true"),
             ("ellipse", "hyperbola"), ("no solution", "infinitely many solutions"), ("does not exist",
             "exists"))  # fmt: skip
    gold, wrong = r.choice(pairs)
    return "text", "opposite", gold if gold.startswith("\\") else rf"\text{{{gold}}}", wrong


MAKERS: tuple[Callable[[random.Random], Case], ...] = (
    integer, long_integer, word_after, decimal, scientific, fraction, mixed_number, surd, multiple_of_pi, percent, unit,
    unit_value, angle, ordered, unordered, interval, region, polynomial, equation, matrix, ratio, choice,
    complex_number,
    function, constant_of_integration, text,
)  # fmt: skip
