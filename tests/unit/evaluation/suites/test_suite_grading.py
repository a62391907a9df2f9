"""Verdicts by a suite's rule: golds against themselves, real labels, letters and texts of choices."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ixt_rl.evaluation.suites import SuiteGrader, find_rows
from ixt_rl.suites import load_preset, load_suite

ROOT = Path(__file__).resolve().parents[4]
DATA = Path(os.environ.get("IXT_RL_DATA", ROOT.parent / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="no benchmark files; set IXT_RL_DATA to their folder")


def graded(rows, texts, suite="gsm8k", preset="qwen25-math-cot"):
    return SuiteGrader(load_suite(suite), load_preset(preset))(rows, texts)


def wrongs(found, rows):
    return [(row["id"], one) for row, one in zip(rows, found, strict=True) if one.verdict != "right"]


@real
@pytest.mark.parametrize(("name", "count"), [("gsm8k", 1319), ("math500", 500), ("amc23", 40)])
def test_every_gold_is_right_against_itself(name, count):
    found = find_rows(load_suite(name), DATA)
    assert len(found.rows) == count and list(found.notes) == []
    assert wrongs(graded(found.rows, [f"\\boxed{{{row['answer']}}}" for row in found.rows], name), found.rows) == []
    whole = {"gsm8k": "answer", "math500": "solution"}.get(name)
    if whole:
        texts = [row["fields"][whole] for row in found.rows]
        assert wrongs(graded(found.rows, texts, name), found.rows) == []


@real
def test_the_labels_of_real_solutions():
    """5,276 solutions of four models to GSM8K's test problems, each labelled right or wrong."""
    suite = load_suite("gsm8k")
    rows = find_rows(suite, DATA).rows
    by_question = {row["question"]: row for row in rows}
    lines = (DATA / "gsm8k_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    asked, texts, labels = [], [], []
    for line in map(json.loads, lines):
        for value in line.values():
            if isinstance(value, dict):
                asked.append(by_question[line["question"]])
                texts.append(value["solution"])
                labels.append(value["is_correct"])
    found = SuiteGrader(suite, load_preset("qwen25-math-cot"))(asked, texts)
    assert len(found) == 5276
    disagree = [(t[-80:], one, row["answer"]) for t, one, label, row in zip(texts, found, labels, asked, strict=True)
                if one.verdict != ("right" if label else "wrong")]  # fmt: skip
    assert disagree == []


CHOICES = {"A": "3", "B": "4", "C": r"\frac{1}{2}", "D": "no real solution"}
RIGHT = (
    *(
        "(B)",
        "B",
        "B.",
        "b",
        r"\boxed{B}",
        r"\boxed{(B)}",
        r"\boxed{\text{B}}",
        r"\boxed{\textbf{(B)}\ 4}",
        r"$\mathrm{B}$",
    ),
    *("The answer is (B) 4.", "The answer is B) 4", "B: 4", "**B**", "Option B is correct", "The answer is 4."),
    *(r"\boxed{4.0}", r"\boxed{\frac{8}{2}}", r"\boxed{4\ (B)}", r"\boxed{B\ 4}", "The answer is B because 2+2=4."),
)
WRONG = (
    *("(A)", "The answer is 3", r"\boxed{0.5}", r"\boxed{\text{no real solution}}", r"\boxed{D}", r"\boxed{A, B}"),
    *(r"\boxed{(A) or (B)}", r"\boxed{A/B}", r"\boxed{E}", r"\boxed{17}", "I do not know."),
)
OPEN = (r"\boxed{(B) 3}", "The answer is a number of things", r"\boxed{\text{more than three}}")
READ = [
    (text, verdict) for verdict, texts in (("right", RIGHT), ("wrong", WRONG), ("undecided", OPEN)) for text in texts
]


@pytest.mark.parametrize(("text", "verdict"), READ)
def test_letters_texts_and_values_of_choices(text, verdict):
    row = {"question": "2+2?", "answer": "B", "choices": CHOICES, "bad_gold": None}
    bare = (
        text if "answer" in text or "\\boxed" in text or "Option" in text or "know" in text else f"The answer is {text}"
    )
    (found,) = graded([row], [bare], "mmlu_stem")
    assert found.verdict == verdict, found


def test_a_label_that_is_another_choices_text_is_ambiguous():
    row = {"question": "Carbon?", "answer": "A", "choices": {"A": "C", "B": "O", "C": "N", "D": "H"}, "bad_gold": None}
    found = graded([row] * 3, [r"\boxed{C}", r"\boxed{A}", r"\boxed{(A) C}"], "mmlu_stem")
    assert [one.verdict for one in found] == ["undecided", "right", "right"]
    assert "is a label, and the text of A" in found[0].why


def test_words_that_are_no_choices_are_not_wrong():
    choices = {"A": "It falls faster", "B": "It falls more slowly", "C": "dog", "D": "A. thaliana"}
    row = {"question": "q", "answer": "A", "choices": choices, "bad_gold": None}
    texts = ["It falls faster.", "falls faster", "A dog", "A. thaliana", "12"]
    found = graded([row] * 5, [f"\\boxed{{\\text{{{text}}}}}" for text in texts], "mmlu_stem")
    assert [one.verdict for one in found] == ["right", "undecided", "undecided", "wrong", "undecided"]


def test_a_gold_that_cannot_be_judged_leaves_its_samples_undecided(tmp_path):
    for name, row in {
        "college_math": {"question": "q", "answer": r"\frac{1"},
        "mmlu": {"question": "q", "choices": ["a", "b"], "answer": 7},
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    for name in ("college_math", "mmlu_stem"):
        rows = find_rows(load_suite(name), tmp_path).rows
        (found,) = graded(rows, [r"\boxed{1}"], name)
        assert found.verdict == "undecided" and found.why.startswith("bad gold: ") and found.score is None


def test_a_choice_without_choices_needs_a_letter():
    rows = [{"question": "q A. 1 B. 2", "answer": gold, "choices": None, "bad_gold": None} for gold in ("A", "1")]
    found = graded(rows, [r"\boxed{A}", r"\boxed{1}"], "mmlu_stem")
    assert [one.verdict for one in found] == ["right", "undecided"] and "no letter" in found[1].why


def test_tolerance_is_the_suites_own():
    row = {"question": "q", "answer": "4.5e33", "choices": None, "bad_gold": None}
    texts = [r"\boxed{4.5003 \times 10^{33}}", r"\boxed{4.52 \times 10^{33}}"]
    assert [one.verdict for one in graded([row] * 2, texts, "minerva")] == ["right", "wrong"]
    assert [one.verdict for one in graded([row] * 2, texts, "college_math")] == ["wrong", "wrong"]


def test_a_completion_of_answer_colon_is_the_answer_itself():
    """The prompts of `cot` and `lm-eval` end with `Answer:`."""
    row = {"question": "2+2?", "answer": "B", "choices": CHOICES, "bad_gold": None}
    for preset in ("cot", "lm-eval"):
        assert [one.verdict for one in graded([row] * 3, [" B", " (A)", " 4"], "mmlu_stem", preset)] == [
            "right",
            "wrong",
            "right",
        ]
        number = {"question": "q", "answer": "18", "choices": None, "bad_gold": None}
        assert [one.verdict for one in graded([number] * 2, [" 18", "\n17\n"], "gsm8k", preset)] == ["right", "wrong"]


def test_what_is_said_of_a_verdict():
    row = {"question": "q", "answer": "5", "choices": None, "bad_gold": None}
    right, wrong, none = graded([row] * 3, [r"\boxed{5}", r"so \boxed{6}", "no idea"])
    assert (right.extracted, right.score) == ("5", 1.0) and (wrong.extracted, wrong.score) == ("6", 0.0)
    assert (none.verdict, none.why, none.extracted) == ("wrong", "no final answer", None)
    assert ": 6" not in wrong.why


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (r"\boxed{B\,}", "right"),
        (r"\boxed{\;\text{(B)}\ }", "right"),
        (r"\boxed{\quad B~}", "right"),
        (r"\boxed{\{B\}}", "right"),
        (r"\boxed{A\,}", "wrong"),
        (r"\boxed{\{A\}}", "wrong"),
        (r"\boxed{\{A, B\}}", "undecided"),  # words: a choice in words may mean both
        (r"\boxed{I}", "undecided"),  # `I only`, or a label that there is not
        (r"\boxed{E}", "wrong"),
    ],
)
def test_spaces_and_braces_around_a_label_and_letters_of_a_choices_text(text, verdict):
    choices = {"A": "I only", "B": "II only", "C": "both", "D": "none"}
    row = {"question": "q", "answer": "B", "choices": choices, "bad_gold": None}
    assert graded([row], [text], "mmlu_stem")[0].verdict == verdict
