"""The rules of Qwen2.5-Math's harness, which the InTRO paper was measured with, written from what it does.

    completion --extract--> text --spell twice--> answer            gold --spell--> gold
    answer, gold --equal--> the same text | a letter | numbers | brackets dropped | items | cells | equations | sympy

What one has to know of it:
- numbers are equal within 1e-4 of the larger, and gold / 100 and 100 gold are accepted as well;
- all of `{ } ( )` are dropped before texts are compared, so (1,2) is {1,2}, and 2(3) is 23;
- without a box and a phrase the last number of the text is the answer;
- 130 words are dropped as units wherever they stand alone (`a`, `t`, `prime`, `ratio`, `square` among them), percent
  signs too; `and` goes wherever it stands, in words as well; a text with numbers in words becomes the number;
- a comparison that takes three seconds is wrong, and its score is that of the first sample alone.

One thing is left out: where sympy's LaTeX reader fails, the harness runs the answer as Python (`parse_expr` is
`eval`, and so are `equals`, `simplify` and `N` of a text). Here only what consists of numbers, single letters and names
of functions is read so, and other texts are compared as texts.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ixt_rl.evaluation.harnesses.qwen_spelling import spelled
from ixt_rl.evaluation.harnesses.sympy_latex import parse_latex
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict

KEEPS_UNITS = ("minerva_math", "minerva")
FROM_SOLUTION = ("math", "math500")
BY_LETTER = ("mmlu_stem", "sat_math", "aqua", "gaokao2023")
LETTERS = "ABCDE"
TOLERANCE = 1e-4

_NUMBER = re.compile(r"-?\d*\.?\d+")
_LETTER = re.compile(r"\b(?:A|B|C|D|E)\b")
_BRACKETED = re.compile(r"[(\[].+[)\]]")
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_CALCULABLE = re.compile(r"(?:\d+\.?\d*|\.\d+|[A-Za-z]+|[-+*/^()!,=<>\s])*")
_WORDS = "pi sqrt sin cos tan cot sec csc asin acos atan log ln exp factorial binomial Rational"
_FUNCTIONS = frozenset(_WORDS.split())


def qwen_math(case: HarnessCase) -> HarnessVerdict:
    """What the harness says of a completion; minerva_math keeps units, sets of choices are read for a letter."""
    suite, text = case.suite, case.text
    keep_units = suite in KEEPS_UNITS
    wanted = gold_of(suite, case.gold)
    answer = spelled(extract(suite, text), keep_units)
    if wanted in tuple(LETTERS) and answer not in tuple(LETTERS):
        answer = letter_of(text)
    elif _only_letters(wanted) and not _only_letters(answer):
        answer = "".join(char for char in answer if char in LETTERS)
    right, why = equal(answer, wanted)
    return HarnessVerdict(right, answer or None, why)


def gold_of(suite: str, gold: str) -> str:
    """The gold as it is compared; where the harness takes it out of a solution it is spelled as answers are, twice."""
    if suite in KEEPS_UNITS:
        return spelled(gold, True)
    return spelled(spelled(gold)) if suite in FROM_SOLUTION else spelled(gold)


def extract(suite: str, text: str) -> str:
    """The final answer of a completion, spelled once; "" where there is none."""
    text = text.replace("ки", "")
    if suite in BY_LETTER:
        return letter_of(text)
    if "final answer is $" in text and "$. I hope" in text:
        found = text.partition("final answer is $")[2].partition("$. I hope")[0].strip()
    elif "boxed" in text:
        found = _boxed(text.rpartition("boxed")[2])
    elif "he answer is" in text:
        found = text.rpartition("he answer is")[2].strip()
    elif "final answer is" in text:
        found = text.rpartition("final answer is")[2].strip()
    elif "答案是" in text:
        found = text.split("答案是")[1].strip().partition("\n\n")[0].strip()
    else:
        found = (_NUMBER.findall(text.replace(",", "")) or [""])[-1]
    found = re.sub(r"\n\s*", "", found).removeprefix(":")
    return spelled(found.removesuffix(".").removesuffix("/"), suite in KEEPS_UNITS)


def _boxed(rest: str) -> str:
    """What stands in the braces that a text begins with, or all of it where they are not closed."""
    if not rest.startswith("{"):
        return rest.partition("$")[0].strip()
    depth = 0
    for at, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[1:at]
    return rest[1:]


def letter_of(text: str) -> str:
    """The letter that a completion chooses: the first one after the last "answer is" or "choice is", else the last."""
    text = text.strip("\n")
    if any(text.count(phrase) > 1 for phrase in ("choice is", "answer is")):
        text = text.partition("\n\n")[0]
    parts = re.split(r"choice is|answer is", text)
    rest = parts[-1].strip("\n").rstrip(".").rstrip("/").strip(" ").lstrip(":")
    letters = _LETTER.findall(rest.upper())
    if letters:
        return letters[0] if len(parts) > 1 else letters[-1]
    return rest.strip().strip(".").rstrip(".").rstrip("/")


def _only_letters(text: str) -> bool:
    return all(char in LETTERS for char in text)


def equal(answer: str, gold: str) -> tuple[bool, str]:
    """(whether they are equal, the rule that decided)."""
    if answer.strip().lower() == gold.strip().lower():
        return True, "the same text"
    if gold in tuple(LETTERS) and (_LETTER.findall(answer.upper()) or [""])[-1] == gold:
        return True, "the last letter"
    ours, theirs = _number(answer), _number(gold)
    if ours is not None and theirs is not None:
        return _numbers(ours, theirs)
    if not answer:
        return False, "no answer"
    answer, gold = answer.strip(), gold.strip()
    if "pmatrix" in answer and "pmatrix" not in gold:
        gold = _as_matrices(gold)
    if _unbracketed(answer, gold):
        return True, "equal without brackets"
    if _BRACKETED.match(answer) and _BRACKETED.match(gold) and _items(answer[1:-1], gold[1:-1], ","):
        return True, "equal items"
    if _matrices(answer, gold):
        return True, "equal cells"
    if _equations(answer, gold):
        return True, "equal equations"
    return _symbolically(answer, gold)


def _numbers(answer: float, gold: float) -> tuple[bool, str]:
    for factor, said in (
        (1.0, "equal numbers"),
        (0.01, "a hundredth of the gold"),
        (100.0, "a hundred times the gold"),
    ):
        wanted = gold / 100 if factor == 0.01 else gold * factor
        if math.isclose(wanted, answer, rel_tol=TOLERANCE):
            return True, said if factor != 1 or wanted == answer else "numbers within 1e-4"
    return False, "other numbers"


def _number(text: str) -> float | None:
    text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(text.removesuffix("%").removesuffix("\\")) / 100 if text.endswith("%") else None
    except ValueError:
        return None


def _as_matrices(text: str) -> str:
    found = [part.strip("{}").replace(",", "\\") for part in re.findall(r"\{.*,.*\}", text)]
    return ", ".join(rf"\begin{{pmatrix}}{part}\end{{pmatrix}}" for part in found)


def _unbracketed(answer: str, gold: str) -> bool:
    square = answer.startswith("[") and answer.endswith("]") and not gold.startswith("(")
    round_ = answer.startswith("(") and answer.endswith(")") and not gold.startswith("[")
    if square or round_:
        answer, gold = answer.strip("[]()"), gold.strip("[]()")
    return re.sub(r"[{}()]", "", answer).lower() == re.sub(r"[{}()]", "", gold).lower()


def _items(answer: str, gold: str, between: str) -> bool:
    ours, theirs = answer.split(between), gold.split(between)
    return len(ours) == len(theirs) and all(equal(a, b)[0] for a, b in zip(ours, theirs, strict=True))


def _matrices(answer: str, gold: str) -> bool:
    inside = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(gold)
    if inside[0] is None or inside[1] is None:
        return False
    ours, theirs = ([row.strip() for row in found[1].split("\\\\") if row.strip()] for found in inside if found)
    return len(ours) == len(theirs) and all(_items(a, b, "&") for a, b in zip(ours, theirs, strict=True))


def _equations(answer: str, gold: str) -> bool:
    sides = answer.split("="), gold.split("=")
    if len(sides[0]) == len(sides[1]) == 2:
        ours, theirs = (f"{left.strip()} - ({right.strip()})" for left, right in sides)
        return _symbolically(ours, theirs)[0] or _symbolically(f"-({ours})", theirs)[0]
    if len(sides[0]) == 2 and len(sides[0][0].strip()) <= 2 and len(sides[1]) == 1:
        return equal(sides[0][1], gold)[0]
    if len(sides[1]) == 2 and len(sides[1][0].strip()) <= 2 and len(sides[0]) == 1:
        return equal(answer, sides[1][1])[0]
    return False


def _symbolically(answer: str, gold: str) -> tuple[bool, str]:
    import sympy

    a, b = _read(answer), _read(gold)
    if isinstance(a, str) or isinstance(b, str):  # sympy would make an expression of a text by running it
        return str(a) == str(b), "texts that sympy cannot read"
    for rule, said in (
        (lambda: str(a) == str(b) or a == b, "the same to sympy"),
        (lambda: a.equals(b) or sympy.simplify(a - b) == 0, "equal to sympy"),
        (lambda: abs(a.lhs - a.rhs).equals(abs(b.lhs - b.rhs)), "equal equations to sympy"),
        (lambda: math.isclose(float(sympy.N(b)), float(sympy.N(a)), rel_tol=TOLERANCE), "values within 1e-4"),
        (lambda: a.shape == b.shape and _rounded(a).equals(_rounded(b)), "matrices equal to 3 decimals"),
    ):
        try:
            if rule():
                return True, said
        except Exception:  # sympy raises on texts and relations; the next rule is asked, as there
            continue
    return False, "not equal"


def _rounded(matrix: Any) -> Any:
    return matrix.applyfunc(lambda cell: round(cell, 3))


def _read(text: str) -> Any:
    """By the first of three readers that can, else the text itself."""
    for reader in (parse_latex, _calculated, _latex2sympy):
        for spelling in (text.replace("\\\\", "\\"), text):
            try:
                return reader(spelling)
            except Exception:  # that reader cannot: the next
                continue
    return text


def _calculated(text: str) -> Any:
    from sympy.parsing.sympy_parser import parse_expr

    if not _CALCULABLE.fullmatch(text):
        raise ValueError("not only numbers, letters and signs")
    if any(len(word) > 1 and word not in _FUNCTIONS for word in re.findall(r"[A-Za-z]+", text)):
        raise ValueError("a word")
    return parse_expr(text)


def _latex2sympy(text: str) -> Any:
    from latex2sympy2_extended import latex2sympy

    return latex2sympy(text)
