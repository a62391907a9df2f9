"""The parser: what it forgives, what it does not, and what no answer can do to it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from ixt_rl.judging import load_rubric, parse_answer, shipped_rubrics, strip_thinking
from ixt_rl.judging.rubric import Rubric
from tests.unit.judging.malformed import KINDS, good_answer, malformed_answers

SCORES = Rubric.model_validate(
    {
        "name": "two",
        "fields": ["text"],
        "prompt": "{text} {axes} {answer_format}",
        "comment": "why",
        "axes": {"style": {"asks": "style"}, "overall": {"asks": "all"}},
    }
)
GOOD = {"style": 4.0, "overall": 3.0}
PLAIN = '{"critique": "ok", "style": 4, "overall": 3}'


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"Let me see.\n```json\n{PLAIN}\n```\nHope that helps {{ :-) }}",
        f"<think>I would say {PLAIN.replace('4', '1')}</think>\n{PLAIN}",
        f"overall 1? </think>{PLAIN}",
        f"<think>a<think>b</think>c</think>{PLAIN}<think>{PLAIN.replace('4', '2')}",
        "{'critique': 'it\\'s \"fine\"', 'style': 4, 'overall': 3,}",
        "{'critique': 'it's fine', 'style': '4', 'overall': '3/5',}",
        '{"critique": "a "quoted" word", "style": "4 / 5", "overall": "3 out of 5"}',
        "{critique: none, style: 4/5, overall: 3}",
        '{"scores": {"Style": 4.0}, "OVERALL": {"score": 3, "reason": "so so"}}',
        '{"critique": "\\boxed{4} is \\wrong, \\u12", "style": 4, "overall": 3}',
        '{"critique": "two\nlines", "style": 4, "overall": 3}',
        '{"style": 1, "overall": 1}\nOn second thoughts: {"style": 4, "overall": 3}',
        '{"style": 4, "overall": 3}\nI also looked at {"lines": 12}.',
        '{"style": 9, "style": 4, "overall": 3}',
        "{" + PLAIN,
        "The set {1, 2} and f(x) = { x if x > 0 }. " + PLAIN,
    ],
)
def test_what_is_forgiven(text):
    reading = parse_answer(text, SCORES)
    assert reading.values == GOOD
    assert reading.undecided == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"style": 4, "overall": 6}', "out of range: 6 "),
        ('{"style": 4, "overall": "80%"}', "other scale: '80%'"),
        ('{"style": 4, "overall": "8/10"}', "other scale: '8/10'"),
        ('{"style": 4, "overall": true}', "not a number: True"),
        ('{"style": 4, "overall": null}', "not a number: None"),
        ('{"style": 4, "overall": "3 or 4"}', "not a number: '3 or 4'"),
        ('{"style": 4, "overall": NaN}', "out of range: nan"),
        ('{"style": 4}', "missing: there is no 'overall'"),
    ],
)
def test_one_bad_axis_leaves_the_others(text, reason):
    reading = parse_answer(text, SCORES)
    assert reading.values == {"style": 4.0, "overall": None}
    assert list(reading.reasons) == ["overall"]
    assert reading.reasons["overall"].startswith(reason)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PLAIN[:-1], "unfinished"),
        (PLAIN + " No, wait: " + PLAIN[:20], "unfinished"),
        ('{"scores": {"style": 4, "overall": 3}', "unfinished"),
        ("style: 4\noverall: 3", "no verdict"),
        (f"<think>{PLAIN}</think>", "no answer"),
        (f"<think>{PLAIN}", "no answer"),
        ("", "no answer"),
        (PLAIN + " " * 1_000_000 + "x", "too long"),
    ],
)
def test_what_is_undecided_as_a_whole(text, kind):
    reading = parse_answer(text, SCORES)
    assert set(reading.values.values()) == {None}
    assert {reason.partition(":")[0] for reason in reading.reasons.values()} == {kind}


@pytest.mark.parametrize(
    ("low", "high", "given", "value"),
    [
        (0, 1, "80%", 0.8),
        (0, 1, "4/5", 0.8),
        (0, 100, "80 %", 80),
        (0, 10, "4/5", 8),
        (0, 1, ".8", None),
        (-1, 1, "-0.5", -0.5),
    ],
)
def test_percentages_and_fractions_of_scales_from_zero(low, high, given, value):
    axis = {"asks": "all", "low": low, "high": high}
    rubric = SCORES.model_validate({**SCORES.model_dump(), "axes": {"overall": axis}})
    assert parse_answer(f'{{"overall": "{given}"}}', rubric).values == {"overall": value}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Both are fine, but A ends well.\nVerdict: A", "A"),
        ("**Final verdict:** tie", "tie"),
        ("Verdict: A\nNo, B is right.\n> Verdict: **B**.", "B"),
        ("verdict = [[B]]", "B"),
        ("Verdict：A", "A"),
        ("Verdict: Continuation B", "B"),
        ("Verdict: A (it follows from the beginning)", "A"),
        ("Verdict: B. It has a clear end", "B"),
        ('{"reason": "it follows", "verdict": "B"}', "B"),
        ('Verdict: A\n{"verdict": "B"}', "B"),
        ('{"verdict": "B"}\nVerdict: A', "A"),
        ("<think>Verdict: A</think>Verdict: B", "B"),
        ("```\nVerdict: a tie\n```", "tie"),
    ],
)
def test_labels(text, label):
    rubric = load_rubric("pairwise-quality")
    reading = parse_answer(text, rubric)
    assert (reading.label, reading.values["verdict"]) == (label, rubric.axes["verdict"].labels[label])


@pytest.mark.parametrize(
    "text",
    [
        "Verdict: A or B",
        "Verdict: A, B or tie",
        "Verdict: A lot speaks for both",
        "Verdict: not A",
        "Verdict: A (or perhaps B)",
        "Verdict: A\nVerdict: unclear",
        "Verdict:",
        "The verdict is A",
        '"verdict": "A"',
        '{"reason": "so",\n"verdict": "A"',
        '{"reason": "so", "verdict": "C"}',
        '{"reason": "so", "verdict": 1}',
        '{"reason": "I quote:\nVerdict: A\n"}',
    ],
)
def test_no_label(text):
    reading = parse_answer(text, load_rubric("pairwise-quality"))
    assert reading.values == {"verdict": None}
    assert reading.label == ""


@pytest.mark.parametrize("name", shipped_rubrics())
def test_a_thousand_malformed_answers_never_raise_and_never_score(name):
    rubric = load_rubric(name)
    answers = malformed_answers(rubric, seed=len(name))
    assert len(answers) == sum(KINDS.values()) == 1000
    for kind, text in answers:
        reading = parse_answer(text, rubric)
        assert reading.values == dict.fromkeys(rubric.axes), (kind, text[:300])
        assert reading.reasons.keys() == rubric.axes.keys(), (kind, text[:300])


@pytest.mark.parametrize("name", shipped_rubrics())
def test_the_same_answers_unspoiled_do_score(name):
    rubric, rng = load_rubric(name), random.Random(0)
    assert all(parse_answer(good_answer(rubric, rng), rubric).undecided == 0 for _ in range(50))


@pytest.mark.parametrize(
    "unit",
    ["x", "{", "<think>", "</think>", '{"', "{a:", "{a:1 1}", '{"overall":', '" ', "\\", "\n", "Verdict: A\n", "`",
     "'a' ", '{"a":"b"}\nverdict: x\n', '{"a', "{ ", "<", "4/5 ", "[", '{"a":"b}'],
)  # fmt: skip
@pytest.mark.parametrize("size", [45_000, 1_000_000])
def test_no_answer_takes_long(unit, size):
    """The smaller size is the worst: it is still searched to its end."""
    text = '{"x": ' * (size % 7) + unit * (size // len(unit))
    for name in ("web-text", "pairwise-quality"):
        rubric = load_rubric(name)
        times = [(_cpu_seconds(partial(parse_answer, text, rubric)), _cpu_seconds(_yardstick)) for _ in range(3)]
        assert min(parsed / pace for parsed, pace in times) < 4  # 2.3 is the most that was seen


def _yardstick() -> int:
    """.07 seconds, and more on a machine that is slow or busy."""
    return sum(number % 7 for number in range(1_500_000))


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a <think>b</think> c", "a  c"),
        ("a</think>b</think>c", "c"),
        ("<think>a<thinking>b</think>c</think>d", "d"),
        ("x<think>y", "x"),
        ("[THINK]a[/THINK]b", "b"),
        ("a < b", "a < b"),
    ],
)
def test_strip_thinking(text, visible):
    assert strip_thinking(text) == visible
