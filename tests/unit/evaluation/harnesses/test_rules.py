"""Rules of other harnesses, on cases whose verdicts their own code gave."""

from __future__ import annotations

import random

import pytest

from ixt_rl.evaluation.harnesses import HarnessCase
from ixt_rl.evaluation.harnesses.hendrycks_spelling import equal_spelling
from ixt_rl.evaluation.harnesses.minerva_spelling import normalized
from ixt_rl.evaluation.harnesses.qwen_spelling import in_digits, spelled
from ixt_rl.evaluation.harnesses.rules import RULES
from ixt_rl.evaluation.harnesses.sympy_latex import parse_latex


def right(harness: str, text: str, gold: str, suite: str = "math500", solution: str = "") -> bool | None:
    return RULES[harness](HarnessCase(suite, text, gold, solution)).right


def boxed(answer: str) -> str:
    return f"so \\boxed{{{answer}}}"


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("50", "0.5", True),  # a hundredth
        ("50", "5000", True),
        ("50", "50.004", True),  # within 1e-4
        ("50", "50.01", False),
        ("(1,2)", "\\{1,2\\}", True),  # without brackets
        ("(1,2)", "(2,1)", False),
        ("[1,2)", "(1,2]", True),  # the items alone are compared
        ("\\frac{1}{2}", "0.5", True),
        ("\\frac12", "1/2", True),
        ("2\\sqrt{2}", "\\sqrt{8}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("y=2x+3", "2x-y+3=0", False),  # `y=` goes first
        ("k+n=3", "n+k-3=0", True),
        ("5", "x=5", True),
        ("5", "five", True),  # in words
        ("25", "twenty five apples", True),
        ("5 \\text{ cm}", "5", True),
        ("5", "5 meters", True),
        ("12", "12\\%", True),
        ("12", "12 dozen", False),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}", True),
        ("3n^2", "3x^2", False),
        ("\\text{Monday}", "Monday", True),
        ("10", "1,0", True),  # commas go out of numbers
        ("1000", "1{,}000", False),
    ],
)
def test_qwen_math_of_answers(gold, answer, verdict):
    assert right("qwen25-math", boxed(answer), gold) is verdict


@pytest.mark.parametrize(
    ("suite", "text", "gold", "verdict"),
    [
        ("gsm8k", "I think 3 and then 18", "18", True),  # the last number
        ("gsm8k", "so 18.\nQuestion 2", "18", False),
        ("gsm8k", "The answer is 18 dollars.", "18", False),  # the phrase's rest, as it is; dollars is no unit here
        ("gsm8k", "the answer is $18$.", "18", True),
        ("math500", "The final answer is $\\frac12$. I hope it is correct.", "0.5", True),
        ("math500", "\\boxed 5 is it", "5", False),
        ("math500", "\\boxed{5", "5", True),  # a box that is not closed
        ("minerva", boxed("5 \\text{m}"), "5 \\text{m}", True),
        ("mmlu_stem", "The answer is (B), not A.", "B", True),  # the first letter behind the phrase
        ("mmlu_stem", "A or B", "B", True),  # else the last
        ("mmlu_stem", "a car", "A", True),
        ("gaokao2023en", boxed("\\text{(C)}"), "C", True),
        ("college_math", boxed("nothing"), "5", False),
    ],
)
def test_qwen_math_of_texts(suite, text, gold, verdict):
    assert right("qwen25-math", text, gold, suite) is verdict


def test_an_answer_is_never_run_as_python(tmp_path):
    """Where sympy cannot read LaTeX the harness evaluates the text; here nothing but arithmetic is."""
    file = tmp_path / "written"
    for answer in (f"open({str(file)!r}, 'w')", f"(lambda: open({str(file)!r}, 'w'))()", "().__class__"):
        assert right("qwen25-math", boxed(answer), "5") is False
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 18", True, True),
        ("#### $18", False, True),
        ("it is 18", False, True),
        ("#### 18\n#### 19", True, False),  # the first; the last number
        ("#### 18.00", False, False),
        ("#### 1,8", True, True),
        ("#### 18.", True, True),
        ("#### 18\n\nQuestion: 3 + 4?\n#### 7", True, True),  # cut where sampling would have ended
        ("none", False, False),
    ],
)
def test_lm_eval_of_gsm8k(text, strict, flexible):
    for gold in ("18", "9 + 9 = 18\n#### 18"):
        assert right("lm-eval", text, gold, "gsm8k") is strict
        assert right("lm-eval-flexible", text, gold, "gsm8k") is flexible


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("$\\frac12$", "0.5", True),
        ("$2\\sqrt{2}$", "\\sqrt{8}", True),
        ("$[2,5)$", "[2,5)", True),  # the same text, which sympy cannot read
        ("$[2,5)$", "[2, 5 )", True),
        ("$(2,5)$", "[2,5)", False),
        ("$x=5$", "5", True),
        ("$50$ dollars", "50", True),
        ("$50\\%$", "50", False),
        ("$10$", "1{,}0", True),
    ],
)
def test_lm_eval_of_minerva_math(answer, gold, verdict):
    assert right("lm-eval", f"Final Answer: The final answer is {answer}. I hope it is correct.", gold) is verdict


def test_lm_eval_of_minerva_math_asks_for_its_phrase():
    assert right("lm-eval", boxed("5"), "5") is False
    assert right("lm-eval", "Final Answer: The final answer is $5$. ", "5") is True  # the end is put behind every text
    assert right("lm-eval", "Final Answer: The final answer is $5$.", "5") is False  # without a space between them
    assert right("lm-eval-math-verify", boxed("5"), "5") is True
    assert right("lm-eval-math-verify", boxed("0.5"), "", solution="thus $\\boxed{\\frac12}$") is True


@pytest.mark.parametrize(
    ("text", "gold", "verdict"),
    [("$70$", "70", True), ("70", "70", True), ("so 70", "70", False), ("$a=70$", "70", True),
     ("\\boxed{070}", "70", False), ("$7$ and $70$", "70", False), ("\\boxed{70} of $3$", "70", True)],
)  # fmt: skip
def test_lm_eval_of_aime(text, gold, verdict):
    assert right("lm-eval", text, gold, "aime24") is verdict


def test_lm_eval_has_no_such_task():
    for name in ("lm-eval", "lm-eval-flexible", "lm-eval-math-verify"):
        found = RULES[name](HarnessCase("college_math", boxed("5"), "5"))
        assert (found.right, found.extracted) == (None, None)
        assert "college_math" in found.why


def test_lighteval_and_math_verify():
    assert right("math-verify", "so $x = 0.5$", "\\frac{1}{2}") is True
    assert right("math-verify", "none", "\\frac{1}{2}") is False
    assert right("lighteval", "ANSWER: 18", "18", "gsm8k", "9 + 9 = 18\n#### 18") is True
    assert right("lighteval", "ANSWER: $\\frac{1}{2}$", "0.5", solution="so $\\boxed{0.5}$") is True
    assert right("lighteval", "ANSWER: 19", "18", "gsm8k") is False


def test_math_verify_is_the_package():
    from math_verify import parse, verify

    for text, gold in (("\\boxed{1,2}", "2,1"), ("$3$ or $4$", "4"), ("x=\\frac{3}{4}", "0.75"), ("5 cm", "5")):
        assert right("math-verify", text, gold) is verify(parse(f"${gold}$"), parse(text))


def test_mathruler_is_the_package():
    grader = pytest.importorskip("mathruler.grader")
    pytest.importorskip("pylatexenc")
    for text, gold in ((boxed("\\frac{2}{4}"), "\\frac12"), (boxed("5 meters"), "5"), ("5", "5")):
        assert right("mathruler", text, gold) is grader.grade_answer(grader.extract_boxed_content(text), gold)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("two", "2"),
        ("three hundred and forty-two", "342"),
        ("two million three thousand nine hundred and eighty four", "2003984"),
        ("two point five", "2.5"),
        ("thousand", "1000"),
        ("007", "7"),
        ("twenty five apples", "25"),
        ("no number", "no number"),
        ("one point twenty", "1"),
        ("thousand thousand", "thousand thousand"),
        ("①②", "①②"),
    ],
)
def test_numbers_in_words(text, digits):
    assert in_digits(text) == digits


def test_numbers_in_words_are_those_of_word2number():
    w2n = pytest.importorskip("word2number.w2n")
    generator = random.Random(0)
    words = ("two", "seven", "fifteen", "twenty", "hundred", "thousand", "million", "and", "point", "apples")
    for _ in range(500):
        text = " ".join(generator.choices(words, k=generator.randint(1, 5)))
        try:
            theirs = str(w2n.word_to_num(text))
        except (ValueError, IndexError, KeyError):
            theirs = text
        assert in_digits(text) == theirs, text


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("\\frac12", "\\frac{1}{2}"),
        ("\\frac1{72}", "\\frac{1}{72}"),
        ("3/4", "\\frac{3}{4}"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("5.00", "5"),
        (".5", "0.5"),
        ("x = 5 \\text{ cm}", "5"),
        ("3 prime numbers", "3"),
        ("60^\\circ", "60"),
        ("band", "b"),
        ("2j", "2i"),
    ],
)
def test_spelling_of_qwen_math(text, spelling):
    assert spelled(text) == spelling


def test_spelling_of_minerva_and_of_math():
    assert normalized("x = \\frac12 \\text{ cm}") == "\\frac{1}{2}"
    assert normalized("10,000") == "10000"
    assert normalized("\\text{Monday}") == "Monday"
    assert equal_spelling("\\frac12", "1/2")
    assert equal_spelling("0.5", "\\frac{1}{2}")
    assert not equal_spelling("a/b", "a / b")  # theirs ends in an error there, and compares the texts


def test_sympy_reads_latex_on_the_antlr_that_is_installed(capfd):
    """`parse_latex` asks for ANTLR 4.11 by number; nothing is printed about the difference."""
    import sympy

    x = sympy.Symbol("x")
    assert parse_latex("\\frac{x}{2} + \\sqrt{8}").doit() == x / 2 + sympy.sqrt(8)
    assert parse_latex("x = 3") == sympy.Eq(x, 3)
    assert str(parse_latex("5 apples")) != "5"
    with pytest.raises(Exception, match="I expected one of these"):
        parse_latex("[2,5)")
    assert capfd.readouterr().out == ""
