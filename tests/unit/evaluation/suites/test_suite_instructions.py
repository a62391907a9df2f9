"""IFEval's rules: each on a response that follows it and on one that does not."""

from __future__ import annotations

import json
import sys

import pytest

from ixt_rl.evaluation.suites import SuiteGrader
from ixt_rl.evaluation.suites.instructions import RULES, follows
from ixt_rl.suites import load_preset, load_suite

CASES = {
    "keywords:existence": ({"keywords": ["sun", "moon"]}, "The Sun and the moon", "The sun alone"),
    "keywords:frequency": ({"keyword": "sun", "relation": "at least", "frequency": 2}, "sun, Sun", "sun"),
    "keywords:forbidden_words": ({"forbidden_words": ["sun"]}, "sunny", "the Sun"),
    "keywords:letter_frequency": ({"letter": "e", "let_relation": "less than", "let_frequency": 2}, "Eat", "eel"),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    "length_constraints:number_words": ({"relation": "at least", "num_words": 3}, "one, two three", "one two"),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "First.\n\n'Then, second.", "Then.\n\nFirst."
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[name] of [place]", "[name]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Bye.\nP. S. more", "Bye. PS more"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n** b **"),
    "detectable_format:constrained_response": ({}, "My answer is no.", "No."),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* and **b**", "*a* and b"),
    "detectable_format:multiple_sections": ({"section_spliter": "Part", "num_sections": 2}, "Part 1 Part 2", "Part 1"),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<A title>>\ntext", "<< >>"),
    "combination:two_responses": ({}, "one\n******\ntwo", "one\n******\none"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say it."}, "say it. It is said.", "It is said."),
    "startend:end_checker": ({"end_phrase": "The end."}, 'It is "the END."', "The end. Or not"),
    "startend:quotation": ({}, '"all of it"', '"all" of it'),
    "punctuation:no_comma": ({}, "no comma", "a, comma"),
}  # fmt: skip
NEED_PACKAGES = {
    "language:response_language": {"language": "de"},
    "length_constraints:number_sentences": {"relation": "at least", "num_sentences": 2},
    "change_case:capital_word_frequency": {"capital_relation": "at least", "capital_frequency": 1},
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule(name):
    arguments, followed, broken = CASES[name]
    assert follows(followed, {"id": name, **arguments}) is True
    assert follows(broken, {"id": name, **arguments}) is False
    assert follows(" \n", {"id": name, **arguments}) is False


def test_every_rule_is_among_them():
    assert {*CASES, *NEED_PACKAGES} == set(RULES)


@pytest.mark.parametrize("name", NEED_PACKAGES)
def test_without_its_package_a_rule_is_undecided(name, monkeypatch):
    for package in ("langdetect", "nltk"):
        monkeypatch.setitem(sys.modules, package, None)
    text = "das ist ein satz" if name.endswith("lowercase") else "DAS IST EIN SATZ"
    assert follows(text, {"id": name, **NEED_PACKAGES[name]}) is None
    if name.startswith("change_case:english"):
        assert follows("Gemischt", {"id": name}) is False  # whatever the language is


def test_a_missing_argument_and_an_unknown_rule_are_undecided():
    assert follows("text", {"id": "keywords:existence"}) is None
    assert follows("text", {"id": "keywords:existence", "keywords": ["("]}) is None
    assert follows("text", {"id": "keywords:number_of_the_beast"}) is None


def test_all_instructions_count(monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    comma, language = {"id": "punctuation:no_comma"}, {"id": "language:response_language", "language": "de"}
    rows = [{"answer": json.dumps(asked)} for asked in ([comma], [comma, language], [comma, language])]
    grade = SuiteGrader(load_suite("ifeval"), load_preset("paper"))
    found = grade(rows, ["<think>a, b</think>right", "a, b", "a b"])
    assert [(one.verdict, one.why) for one in found] == [
        ("right", "all followed"),
        ("wrong", "not followed: punctuation:no_comma"),
        ("undecided", "cannot be told here: language:response_language"),
    ]
    assert grade(rows[:1], ["<think>never ends"])[0].verdict == "wrong"
