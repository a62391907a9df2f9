"""Texts that speak of tags: a tag in a string, in quotes or in a rewrite is text, and nothing is cut out for it."""

from __future__ import annotations

import json

import pytest

from ixt_rl.judging import Reply, load_rubric, parse_answer, strip_thinking
from ixt_rl.rewriting.prompt import COPY, read_rewrite

WEB, PAIR = load_rubric("web-text"), load_rubric("pairwise-quality")
TAGS = ["<think>", "</think>", "<thinking>", "</THINKING>", "[THINK]", "[/THINK]", "</reasoning>", "<think></think>"]


def verdict(comment: str, value: int = 4) -> str:
    return json.dumps({WEB.comment_key: comment, **dict.fromkeys(WEB.axes, value)})


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("shape", ["{}", "Here it is: {}", "```json\n{}\n```", "<think>hm</think>{}", "hm</think>\n{}"])
def test_a_tag_in_a_string_of_the_verdict_is_text(tag, shape):
    reading = parse_answer(shape.replace("{}", verdict(f"the trace has a {tag} tag")), WEB)
    assert set(reading.values.values()) == {4.0}
    assert reading.comment == f"the trace has a {tag} tag"


@pytest.mark.parametrize("tag", ["<think>", "</think>", "[THINK]"])
def test_drafts_inside_of_thinking_are_none(tag):
    draft = verdict(f"a {tag} tag", 1)
    assert set(parse_answer(f"<think>{draft}</think>{verdict('good')}", WEB).values.values()) == {4.0}
    assert parse_answer(f"<think>{draft}", WEB).undecided == len(WEB.axes)
    assert parse_answer(f"{draft}</think>", WEB).undecided == len(WEB.axes)


def test_a_draft_that_is_not_finished_does_not_hide_the_end_of_thinking():
    for draft in ('{"critique": "a', '{"critique": "a", "overall": ', "{critique: it's"):
        assert set(parse_answer(f"<think>{draft}</think>\n{verdict('good')}", WEB).values.values()) == {4.0}


@pytest.mark.parametrize("quotes", ['""', "''", "``", "“”"])
def test_a_tag_in_quotes_is_text(quotes):
    before, after = quotes
    text = f"B has a {before}<think>{after} tag and no {before}</think>{after}.\nVerdict: A"
    assert strip_thinking(text) == text
    assert parse_answer(text, PAIR).label == "A"


@pytest.mark.parametrize(
    "answer",
    [
        "The tag <think> opens the reasoning.",
        "The tag </think> closes the reasoning.",
        "It is written <think> like this </think> today.",
        "<think> and </think> stand around the reasoning.",
        "[THINK] is the other tag.",
        "One\n<think>\ntwo\n</think>\nthree",
    ],
)
def test_an_unmarked_rewrite_that_speaks_of_tags_is_never_cut(answer):
    text, reason = read_rewrite(Reply(answer, "stop"), as_json=False)
    assert text == answer or (text, bool(reason)) == (None, True)
    marked = Reply(f"<think>Fine.</think>\n<rewrite>{answer}</rewrite>", "stop")
    assert read_rewrite(marked, as_json=False) == (answer, "")
    assert read_rewrite(Reply(json.dumps({"rewrite": answer}), "stop"), as_json=True) == (answer, "")


def test_quoted_tags_leave_an_unmarked_rewrite_whole():
    text = "It opens with `<think>` and ends with `</think>`."
    assert read_rewrite(Reply(text, "stop"), as_json=False) == (text, "")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("<think>\nhm\n</think>\n\nnew text", "new text"),
        ("<think>a <think>b</think> c</think>\nnew text", "new text"),
        ("<think>so <rewrite>draft</rewrite>?</think>\nnew text", "new text"),
        ("so <rewrite>draft</rewrite>?</think>\n<rewrite>final</rewrite>", "final"),
        ("so <rewrite>draft</rewrite>?</think>\nnew text", "new text"),
        ("<think>hm</think> COPY", COPY),
    ],
)
def test_thinking_before_a_rewrite_is_none_of_it(answer, found):
    assert read_rewrite(Reply(answer, "stop"), as_json=False) == (found, "")


def test_a_draft_in_thinking_that_never_ends_is_no_rewrite():
    text, reason = read_rewrite(Reply("<think>so <rewrite>draft</rewrite> or", "stop"), as_json=False)
    assert (text, reason) == (None, "empty")
