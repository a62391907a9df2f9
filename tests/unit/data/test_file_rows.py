"""Rows of a file for training by reward: further columns reach the rewards, groups stay on one side."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from ixt_rl.blocks.data import FileDataBlock
from ixt_rl.data.questions import load_problems, load_rows
from ixt_rl.errors import ConfigError, DataError
from tests.unit.data.files import write


def pairs(path: Path) -> str:
    rows = [
        {"q": f"question {n}", "a": "AB"[n % 2], "doc": f"d{n // 2}", "good": n % 2 == 0, "n": n} for n in range(20)
    ]
    return write(path, rows)


def spec(path: str, **changes) -> FileDataBlock:
    return FileDataBlock(path=path, question="q", answer="a", **changes)


def test_columns_are_passed_on_as_they_are(tmp_path):
    train, aside = load_rows(spec(pairs(tmp_path / "rows.jsonl"), columns=["good", "n"], eval_rows=4))
    assert len(train) == 16 and len(aside) == 4
    for row in [*train, *aside]:
        assert row == {
            "question": f"question {row['n']}", "answer": "AB"[row["n"] % 2], "good": row["n"] % 2 == 0, "n": row["n"],
        }  # fmt: skip


@pytest.mark.parametrize(("wanted", "given"), [(0, 0), (1, 2), (4, 4), (5, 6)])
def test_rows_of_a_group_are_set_aside_together(tmp_path, wanted, given):
    path = pairs(tmp_path / "rows.jsonl")
    train, aside = load_rows(spec(path, columns=["doc"], group="doc", eval_rows=wanted))
    assert len(aside) == given and len(train) == 20 - given
    assert not {row["doc"] for row in train} & {row["doc"] for row in aside}


def test_without_groups_the_rows_of_every_earlier_run_are_set_aside(tmp_path):
    train, aside = load_rows(spec(pairs(tmp_path / "rows.jsonl"), columns=["n"], eval_rows=5))
    order = list(range(20))
    random.Random(0).shuffle(order)
    assert [row["n"] for row in [*aside, *train]] == order


def test_what_is_not_there_or_leaves_nothing_is_refused(tmp_path):
    path = pairs(tmp_path / "rows.jsonl")
    for changes in ({"columns": ["bad"]}, {"group": "bad"}):
        with pytest.raises(DataError, match="no field 'bad'"):
            load_rows(spec(path, **changes))
    with pytest.raises(DataError, match="no row is left to train on"):
        load_rows(spec(path, group="doc", eval_rows=19))


def test_a_file_that_nothing_is_trained_on_is_measured_whole(tmp_path):
    from ixt_rl.evaluation.tasks import make_task

    path = pairs(tmp_path / "rows.jsonl")
    assert [len(load_problems(spec(path, eval_rows=n), measured_only=True).held_out) for n in (0, 5, 20)] == [20, 5, 20]
    task = make_task(spec(path), "plain", judge=lambda **kwargs: [1.0], measured_only=True)
    assert len(task.eval_rows(None)) == 20 and len(task.eval_rows(7)) == 7
    with pytest.raises(DataError, match=r"20 rows with eval_rows=21\s.*it has no more rows"):
        load_problems(spec(path, eval_rows=21), measured_only=True)
    unjudged = write(tmp_path / "bad.jsonl", [{"q": "1", "a": "???"}])
    with pytest.raises(DataError):
        make_task(spec(unjudged), "plain", measured_only=True)


def test_the_posterior_is_told_what_a_template_shows_of_the_columns(tmp_path):
    from ixt_rl.blocks.template import TemplateBlock
    from ixt_rl.evaluation.tasks import make_task

    rows = [{"q": f"{n} + 1", "a": n + 1, "critique": f"carry {n}"} for n in range(4)]
    data = spec(write(tmp_path / "rows.jsonl", rows), columns=["critique"], eval_rows=1)
    template = TemplateBlock(prompt="{question}\n", told="{question}\nA reader: {critique}. It is {answer}.\n")
    task = make_task(data, template, judge=lambda **kwargs: [1.0])
    for row in [*task.train_rows(4, 0), *task.eval_rows(1)]:
        n = int(row["question"].split()[0])
        assert row["prompt"] == f"{n} + 1\n"
        assert row["told_prompt"] == f"{n} + 1\nA reader: carry {n}. It is {n + 1}.\n"
    for critique, said in ((None, "field 'critique' is null"), (" ", "critique=' ' of the question 'x'")):
        bad = write(tmp_path / "bad.jsonl", [*rows, {"q": "x", "a": 1, "critique": critique}])
        with pytest.raises(DataError, match=said):
            make_task(spec(bad, columns=["critique"]), template, judge=lambda **kwargs: [1.0])


def test_a_template_without_told_asks_and_tells_nothing(tmp_path):
    from ixt_rl.blocks.template import PromptBlock
    from ixt_rl.conditioning import load_template
    from ixt_rl.evaluation.tasks import make_task

    data = spec(write(tmp_path / "rows.jsonl", [{"q": "1 + 1", "a": 2}]))
    block = PromptBlock(prompt="Q: {question}\n")
    (row,) = make_task(data, block, judge=lambda **kwargs: [1.0]).train_rows(1, 0)
    assert row["prompt"] == "Q: 1 + 1\n" and "told_prompt" not in row
    with pytest.raises(DataError, match="without told"):
        load_template(block, "plain").render("1 + 1", "2")


def test_a_template_shows_columns_of_dotted_names(tmp_path):
    from ixt_rl.blocks.template import TemplateBlock, check_template_columns
    from ixt_rl.evaluation.tasks import make_task

    rows = [{"q": f"{n} + 1", "a": n + 1, "extra": {"hint": f"{{carry}} {n}"}} for n in range(2)]
    data = spec(write(tmp_path / "rows.jsonl", rows), columns=["extra.hint"])
    template = TemplateBlock(prompt="{question}\n", told="{question}\n{extra.hint}\n")
    check_template_columns(template, data)
    task = make_task(data, template, judge=lambda **kwargs: [1.0])
    assert {row["told_prompt"] for row in task.train_rows(2, 0)} == {"0 + 1\n{carry} 0\n", "1 + 1\n{carry} 1\n"}
    for text in ("{extra.}", "{.hint}", "{extra..hint}", "{extra[hint]}", "{extra.hint!r}"):
        with pytest.raises(ValidationError, match="stands alone in its braces"):
            TemplateBlock(prompt="{question}", told="{question} " + text)
    with pytest.raises(ConfigError, match=r"shows \{extra.note\}"):
        check_template_columns(TemplateBlock(prompt="{question}", told="{question} {extra.note}"), data)
