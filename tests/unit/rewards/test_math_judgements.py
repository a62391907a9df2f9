"""Frozen judgements: (gold, answer, verdict). First what math-verify 0.9 is known to get wrong."""

from __future__ import annotations

import pytest

from ixt_rl.rewards import verify

R, W, U = "right", "wrong", "undecided"

KNOWN_TRAPS = [
    # a percent of something is no bare number, nor is one written twice
    ("12", r"12\% per year", U),
    ("12", r"12\%\%", U),
    ("12", r"13\%\%", W),
    # float tolerance
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}", W),
    ("1/2004!", "1/2006!", W),
    ("1/2^99", "1/2^98", W),
    (r"\sqrt{2}/2004!", r"\sqrt{2}/2006!", W),
    (r"\sqrt{2} + 1/2004!", r"\sqrt{2} + 1/2006!", U),
    ("1", r"\cos(1/2004!)", U),
    # partial parses
    (r"1-1/\mathrm{e}", r"1+1/\mathrm{e}", W),
    ("1,2,…,n", "1,3,5,…,2n-1", U),
    ("3x+4y+14=0", "3*x-1*y+13=0", W),
    ("12:30", "12:45", W),
    # types
    ("50", "50%", U),
    ("0.5", "50%", R),
    (r"\{1,2\}", "(1,2)", W),
    ("(1,2)", "{1,2}", W),
    ("5", "5 or 6", W),
    # rejected though right
    ("A", "A", R),
    ("B", "(B)", R),
    ("A", r"\text{(A)}", R),
    ("No solution", "no solution", R),
    ("pi/2", r"\frac{\pi}{2}", R),
    (r"\frac{\pi}{2}", "pi/2", R),
    ("(1,2)", "1<x<2", R),
]

NUMBERS = [
    ("3/4", r"\frac{6}{8}", R), ("0.75", "3/4", R), (r"\frac12", "0.5", R), (r"-\frac{1}{2}", r"\frac{-1}{2}", R),
    ("1234", "1,234", R), ("1,234", "1234", R), (r"10,\!080", "10080", R), ("18", "18.00", R), ("18", "**18**", R),
    ("18", "$18$", R),
    ("18", "$18$.", R), (r"\frac12", r"$\dfrac{1}{2}$.", R), (r"\frac{2}{3}\pi", "(2)/(3)pi", U),
    ("204_5", "65_8", W), ("204_5", "66_8", U), ("x", "y", W),
    ("18", "$18", R), (r"\$32,\!348", "32348", R), (r"\$18.90", "18.9", R), ("3.5", "3 1/2", R),
    (r"3\frac{1}{2}", "7/2", R), ("2^{2005}", "2*2^{2004}", R), ("2^{2005}", "2^{2004}", W), ("1/3", "0.333333", U),
    ("1/3", "0.33", W), ("3.14", r"\pi", U), (r"\sqrt{8}", r"2\sqrt{2}", R), ("sqrt(2)/2", r"\frac{1}{\sqrt{2}}", R),
    (r"2\sqrt2", "2.828427", U), (r"2\sqrt2", "2.8", W), ("0", r"\sqrt{2}^2-2", R), ("0", "1/2004!", W),
    (r"\cos 58^\circ", r"\sin 32^\circ", R), (r"\cos 58^\circ", r"\sin 33^\circ", W), ("i", "-i", W), ("-2",
    r"\sqrt[3]{-8}", R),
    ("204_5", "204_{5}", R), ("204_5", "204", R), ("204_5", "203_5", W), ("54", "204_5", U), ("-1800000000",
    "-1.8 billion", R),
    ("50", "10+John's age", W), ("5", "about 5", U), ("5", "five", R), ("5", "x = 2+3 = 5", R), ("5",
    "x = 2+3 = 6", U),
    ("5", "NaN", W), (r"\frac{1}{2}", r"\int_0^1 x dx", R), ("55", r"\sum_{k=1}^{10} k", R), (r"\frac13",
    r"\int_0^1 x dx", U),
]  # fmt: skip

UNITS = [
    ("50%", "0.5", R), (r"50\%", "50", R), (r"50\%", "5", W), (r"120^\circ", "120", R), (r"120^\circ",
    r"\frac{2\pi}{3}", R),
    (r"120^\circ", "60", W), (r"5.4 \text{ cents}", "5.4", R), (r"15\mbox{ cm}^2", "15 square centimeters", R),
    ("5", "5 cm", R), (r"5 \text{ cm}", "5 inches", W), (r"5 \text{ cm}", "6 cm", W),
    (r"99\pi \text{ square inches}", "99pi", R),
]  # fmt: skip

EXPRESSIONS = [
    ("(x-1)^2", "x^2-2x+1", R), ("x^2-2x+1", "x^2-2x+2", W), (r"\frac{x^2-1}{x-1}", "x+1", R), ("3n^2", "3x^2", U),
    ("|x|", "x", U), ("(-1)^n", r"\cos(n\pi)", U), (r"\sin^2 x", r"1-\cos^2 x", R), ("x/2", "1/2x", U),
    ("y = 2x + 3", "2x+3", R), ("x=5", "5", R), ("5", "y=5", R), ("x=5", "y=5", U), ("y=2x+3", "2x-y+3=0", R),
    ("5x-7y+11z+4=0", "-10x+14y-22z-8=0", R), ("5x-7y+11z+4=0", "-10x+14y-22z+8=0", W),
    (r"\frac{x^2}{16}-\frac{y^2}{9}=1", "9x^2-16y^2=144", R), ("x^2+y^2=13", "x+y=13", U),
    (r"\overline{CD}", r"\overline{DC}", R), (r"\overline{CD}", r"\overline{CB}", W),
    ("f(2) < f(1) < f(4)", "f(4)>f(1)>f(2)", R), ("f(2)", "f(3)", U),
]  # fmt: skip

COLLECTIONS = [
    ("1,-2", "-2, 1", R), ("{1,2}", r"\{2,1\}", R), ("1,2", "(1,2)", U), ("(1,2)", "(2,1)", W), ("(1,2)", "1,3", W),
    (r"1 \pm \sqrt{2}", r"1+\sqrt2, 1-\sqrt2", R), (r"19 \text{ and }43", "43, 19", R), ("1, 2", "x=1 or x=2", R),
    ("(1,2)", "1<=x<2", W), ("(3,4]", "(3,4)", W), (r"x \in [-2,7]", "[-2,7]", R), ("[-2,7]", "(-2,7)", W),
    (r"(-\infty,-5]\cup[5,\infty)", r"x \le -5 \text{ or } x \ge 5", R), (r"[0,\infty)", "x>=0", R),
    (r"(-\infty,-5]\cup[5,\infty)", "x < -5 or x > 5", W), (r"(-\infty,3)\cup(3,\infty)", r"x \ne 3", R),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1,2)", R), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1,3)", W),
    (r"\begin{pmatrix} 1/5 & 0 \\ 0 & 2 \end{pmatrix}", r"\begin{bmatrix} 0.2 & 0 \\ 0 & 2 \end{bmatrix}", R),
    ("3:1", "6:2", R), ("3:1", "3", R), ("3:1", "1:3", W),
]  # fmt: skip

TEXTS = [
    (r"\text{Evelyn}", "evelyn", R), (r"\text{Evelyn}", "Navin", W), (r"\text{even}", "not even", U),
    ("No solution", "There is no solution.", R), ("No solution", "5", W), ("B", "(C) 12", W), ("B",
    r"\textbf{(B)}\ 12", R),
    ("B", "12", U), (r"\text{C,E}", "E, C", R), ("C", "C, E", W), (r"\text{4:30 p.m.}", "4:30 PM", R),
    (r"\text{4:30 p.m.}", "4:30", U), (r"\text{4:30 p.m.}", "4:30 am", W),
]  # fmt: skip

ALL = KNOWN_TRAPS + NUMBERS + UNITS + EXPRESSIONS + COLLECTIONS + TEXTS


@pytest.mark.parametrize(("gold", "answer", "label"), ALL)
def test_frozen_judgements(gold, answer, label):
    verdict = verify(answer, gold)
    assert verdict.label == label, verdict
    assert verdict.score == {"right": 1.0, "wrong": 0.0, "undecided": None}[label]


@pytest.mark.parametrize("gold", sorted({gold for gold, _, _ in ALL}))
def test_every_gold_accepts_itself(gold):
    assert verify(gold, gold).label == "right"
