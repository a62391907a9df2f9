"""Rubrics are files: those shipped load, and a broken one is refused with its key."""

from __future__ import annotations

import pytest
import yaml

from ixt_rl.errors import DataError
from ixt_rl.judging import load_rubric, parse_answer, shipped_rubrics
from ixt_rl.judging.rubric import VERDICT

TWO = {
    "name": "mine",
    "fields": ["text"],
    "comment": "why",
    "prompt": "{text}\n{axes}\n{answer_format}",
    "axes": {"style": {"asks": "style"}, "overall": {"asks": "all"}},
}


def write(tmp_path, **changes):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(TWO | changes, sort_keys=False))
    return file


@pytest.mark.parametrize("name", shipped_rubrics())
def test_shipped_rubrics(name):
    rubric = load_rubric(name)
    assert rubric.name == name
    fields = {field: f"THE {field.upper()} {{with}} braces" for field in rubric.fields}
    for as_json in (False, True):
        (message,) = rubric.messages(rubric.in_order(fields, False), as_json=as_json)
        text = message["content"]
        assert all(value in text for value in fields.values())
        assert text.endswith(rubric.answer_format(as_json))
        assert parse_answer(text, rubric).values == dict.fromkeys(rubric.axes)  # the prompt itself is no answer
    assert rubric.axes[rubric.main].wants in rubric.answer_format()
    schema = rubric.answer_schema()
    assert list(schema["properties"]) == [rubric.comment_key, *rubric.axes] == schema["required"]
    if not rubric.by_label:
        assert all(f"- {name}: {axis.asks}" in text for name, axis in rubric.axes.items())
        assert schema["properties"]["overall"] == {"type": "integer", "minimum": 1, "maximum": 5}


def test_a_pair_is_asked_in_both_orders():
    rubric = load_rubric("pairwise-quality")
    fields = {"prefix": "p", "a": "first", "b": "second"}
    assert rubric.in_order(fields, True) == {"prefix": "p", "a": "second", "b": "first"}
    assert [rubric.swapped(label) for label in ("A", "B", "tie")] == ["B", "A", "tie"]


def test_the_labels_of_the_papers_judges():
    assert load_rubric("factuality").axes[VERDICT].labels == {"no": 1, "possible": 0.5, "definite": 0}
    assert load_rubric("safety").axes[VERDICT].labels == {"yes": 1, "no": 0}


def test_a_rubric_of_ones_own(tmp_path):
    assert load_rubric(write(tmp_path)).main == "overall"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axis": {}}, ["axis", "did you mean `axes`"]),
        ({"prompt": "{text} {answer_format}"}, ["the prompt uses ['answer_format', 'text']"]),
        ({"prompt": "{text.x} {axes} {answer_format}"}, ["the prompt uses"]),
        ({"axes": {"style": {"asks": "style"}}}, ["must be `overall` or `verdict`"]),
        ({"axes": {"a-b": {"asks": "x"}, "overall": {"asks": "x"}}}, ["a-b", "identifier"]),
        ({"axes": {"overall": {"asks": "x", "low": 5, "high": 5}}}, ["axes.overall", "5 to 5 is empty"]),
        ({"axes": {"overall": {"labels": {"a": 1, "b": 0}}}}, ["`verdict` has labels"]),
        ({"axes": {"overall": {}}}, ["`asks` is missing"]),
        ({"pair": ["text", "text"]}, ["two different fields"]),
        ({"fields": None}, ["fields", "valid tuple"]),
    ],
)
def test_broken_rubrics_are_refused(tmp_path, changes, words):
    with pytest.raises(DataError) as error:
        load_rubric(write(tmp_path, **changes))
    assert all(word in str(error.value) for word in ["mine.yaml", *words])


def test_unknown_names_and_unreadable_files(tmp_path):
    with pytest.raises(DataError, match="did you mean `web-text`"):
        load_rubric("webtext")
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(DataError, match="line 1"):
        load_rubric(tmp_path / "bad.yaml")
    (tmp_path / "twice.yaml").write_text("name: a\nname: b\n")
    with pytest.raises(DataError, match="line 2: 'name'"):
        load_rubric(tmp_path / "twice.yaml")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "`text` is missing"),
        ({"text": "a", "txt": "b"}, "did you mean `text`"),
        ({"text": 3}, "it holds int"),
    ],
)
def test_questions_with_wrong_fields(fields, words):
    with pytest.raises(DataError, match=words):
        load_rubric("web-text").in_order(fields, False)
