"""Feedback as text: what is rendered is parsed back, and a wish becomes the feedback it asks for."""

from __future__ import annotations

import random
import sys

import pytest

from ixt_rl.conditioning.feedback import FeedbackTemplate, load_feedback_template, shipped, target_feedback
from ixt_rl.errors import DataError
from ixt_rl.judging import load_rubric
from ixt_rl.types import Feedback

ODD = [
    "\n",
    "critique:\n",
    "critique:",
    "\r\n",
    "\u2028",
    "\x00",
    "\x85",
    "\\n",
    " ",
    "\t",
    ": 4",
    "style: 4",
    "{",
    "}",
    "%s",
]
ODD += [
    "Quality: good.",
    "<|quality_5|>",
    "\ud800",
    "é",
    "e\u0301",
    "日本",
    "🙂",
    "<think>",
    "\n\n",
    "'",
    '"',
    "\ufeff",
    "-0",
]


def random_feedback(rng: random.Random) -> Feedback:
    axes = rng.sample(
        ["style", "writing_style", "overall", "critique", "quality", "a__b", "_x", "été", "level", "x1"], 4
    )
    numbers = [1, 5, 3.5, 0.1 + 0.2, -0.0, 1e-300, 1e300, -7, sys.float_info.max, rng.uniform(-1e9, 1e9), 1e16, 100]
    scores = {axis: rng.choice(numbers) for axis in axes[: rng.randint(0, 4)]}
    critique = "".join(rng.choice([*ODD, "word ", chr(rng.randrange(0x3000))]) for _ in range(rng.randint(0, 12)))
    return Feedback(rng.choice([None, 1, 2, 3, 4, 5]), scores, critique, rng.choice(["", "judge-1"]))


@pytest.mark.parametrize("name", shipped()["templates"])
def test_parse_undoes_render(name):
    template, rng = load_feedback_template(name), random.Random(name)
    for _ in range(5000):
        feedback = random_feedback(rng)
        assert template.parse(template.render(feedback)) == template.shown(feedback)


def test_different_feedback_renders_differently():
    template, rng = load_feedback_template("critique"), random.Random(1)
    seen: dict[str, Feedback] = {}
    for _ in range(5000):
        shown = template.shown(random_feedback(rng))
        assert seen.setdefault(template.render(shown), shown) == shown


def test_what_is_shown():
    feedback = Feedback(4, {"writing_style": 3.5}, "Good.\nBut long.", "judge-1")
    assert load_feedback_template("levels").render(feedback) == "Quality: good."
    assert load_feedback_template("tokens").render(feedback) == "<|quality_4|>"
    critique = load_feedback_template("critique")
    assert critique.render(feedback) == "Quality: 4 of 5.\nwriting style: 3.5\ncritique:\nGood.\nBut long."
    assert critique.shown(feedback) == Feedback(4, {"writing_style": 3.5}, "Good.\nBut long.")
    assert critique.render(Feedback()) == "" and critique.parse("") == Feedback()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("levels", "Quality: good.\n\nThe document"),
        ("levels", "Quality: superb."),
        ("levels", "Quality: good.\ncritique:\nwhy"),
        ("critique", "Quality: 4 of 5.\nstyle: 4\nstyle: 5"),
        ("critique", "Quality: 4 of 5.\nStyle: 4"),
        ("critique", "style: inf"),
        ("critique", "style: 4\nQuality: 4 of 5."),
    ],
)
def test_foreign_text_is_refused(name, text):
    with pytest.raises(DataError, match="parse with the template"):
        load_feedback_template(name).parse(text)


def test_templates_that_could_not_be_parsed_back_are_refused():
    for levels in (
        ["a", "b", "c", "d"],
        ["a", "b", "c", "d", "a"],
        ["a\n", "b", "c", "d", "e"],
        ["x: 1", *"bcde"],
        ["critique:", *"bcde"],
    ):
        with pytest.raises(DataError, match="could not be told apart"):
            FeedbackTemplate(tuple(levels))
    with pytest.raises(DataError, match="did you mean `critique`"):
        load_feedback_template("critiques")
    with pytest.raises(DataError, match="unknown: 'level'"):
        load_feedback_template({"levels": list("abcde"), "level": 1})


@pytest.mark.parametrize("domain", shipped()["domains"])
def test_domains_fit_their_rubrics(domain):
    preset = shipped()["domains"][domain]
    axes = load_rubric(preset["rubric"]).axes
    best, worst = target_feedback(f"{domain}, best"), target_feedback(f"worst, {domain}")
    assert best.scores.keys() | {"overall"} == axes.keys()
    assert (best.level, worst.level) == (5, 1)
    assert best.critique != worst.critique
    for axis in preset["axes"]:
        assert (best.scores[axis], worst.scores[axis]) == (5, 1)
    template = load_feedback_template("critique")
    assert template.parse(template.render(best)) == best


def test_wishes():
    assert target_feedback("best") == Feedback(5)
    assert target_feedback(" Very  Poor ") == Feedback(1)
    assert target_feedback("math") == target_feedback("Math, BEST")
    assert target_feedback("good, difficulty=4.5") == Feedback(4, {"difficulty": 4.5})
    wish = target_feedback("math, good, difficulty=5")
    assert wish.level == 4 and wish.scores == {"correctness": 4, "soundness": 4, "efficiency": 4, "difficulty": 5}


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("maths, best", ["'maths' is no domain", "did you mean `math`"]),
        ("math, beste", ["did you mean `best`"]),
        ("math, web", ["second domain, 'web'"]),
        ("best, worst", ["second quality, 'worst'"]),
        ("", ["'' is no domain"]),
        ("math, dificulty=3", ["math has no axis 'dificulty'", "did you mean `difficulty`"]),
        ("math, difficulty=6", ["a score from 1 to 5"]),
        ("math, difficulty=high", ["a score from 1 to 5"]),
        ("math, =3", ["a score from 1 to 5"]),
    ],
)
def test_wishes_that_cannot_be_read(wish, words):
    with pytest.raises(DataError) as error:
        target_feedback(wish)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    "fields",
    [{"level": 0}, {"level": 6}, {"level": True}, {"scores": {"Style": 1}}, {"scores": {"a b": 1}},
     {"scores": {"a": float("nan")}}, {"scores": {"a": True}}],
)  # fmt: skip
def test_feedback_that_says_nothing_sensible_is_refused(fields):
    with pytest.raises(ValueError, match="feedback"):
        Feedback(**fields)
