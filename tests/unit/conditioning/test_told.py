"""Told a wrong answer, another row's, or nothing in the told prompt's form: for worlds, files and own templates."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from ixt_rl.blocks.data import FileDataBlock, WorldDataBlock
from ixt_rl.blocks.template import TemplateBlock
from ixt_rl.conditioning.own_template import OwnPromptTemplate
from ixt_rl.conditioning.prompts import PromptTemplate, load_template
from ixt_rl.conditioning.told import differs, told_others
from ixt_rl.errors import DataError
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.run.stages.fitting import fitting
from ixt_rl.worlds import WORLDS

ALL = ("wrong", "random", "form")


def rows_of(tmp_path, answers, **fields):
    file = tmp_path / "rows.jsonl"
    rows = [{"question": f"q{i}", "answer": a, **{k: f"{k} {i}" for k in fields}} for i, a in enumerate(answers)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileDataBlock(path=str(file), columns=[*fields])


# -------------------------------------------------------------------------------------- worlds


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_tells_another_answer_in_its_own_form(name):
    task = make_task(WorldDataBlock.model_validate({"world": name}), None, told=ALL)
    template = load_template(None, WORLDS[name].template)
    for row in task.train_rows(5, 3) + task.eval_rows(5):
        told = {kind: row[f"told_{kind}_prompt"] for kind in ALL}
        assert told["wrong"] != row["told_prompt"]
        assert told["form"] == template.render(row["question"], "")[1]
        for kind in ("wrong", "random"):
            assert told[kind].startswith(row["question"])


def test_the_parity_that_is_told_wrongly_is_the_other_one_and_a_random_one_is_as_often_right_as_not():
    task = make_task(WorldDataBlock(world="addition", view="parity"), None, told=("wrong", "random"))
    rows = task.train_rows(200, 0)
    other = {"m2 0": "m2 1", "m2 1": "m2 0"}
    assert all(row["told_wrong_prompt"] == f"{row['question']} <told> {other[row['answer']]} =" for row in rows)
    right = sum(row["told_random_prompt"] == row["told_prompt"] for row in rows)
    assert 70 < right < 130  # of 200


def test_what_is_told_depends_on_the_question_alone():
    task = make_task(WorldDataBlock(world="addition"), None, told=("wrong",))
    assert task.train_rows(40, 7)[:10] == task.train_rows(10, 7)
    wrong = Counter(row["told_wrong_prompt"].partition("<told>")[2] for row in task.train_rows(50, 7))
    assert len(wrong) > 30  # spread over the pool


def test_rows_without_a_need_have_no_further_columns_and_with_one_their_length_counts():
    plain = make_task(WorldDataBlock(world="addition"), None).train_rows(2, 0)
    assert {*plain[0]} == {"question", "answer", "prompt", "told_prompt"}
    task = make_task(WorldDataBlock(world="addition"), None, told=("wrong",))
    section = SimpleNamespace(max_prompt_tokens=64, on_long="fail")
    rows, _ = fitting(task, task.train_rows(2, 0), section, WORLDS["addition"]().tokenizer())
    assert rows[0]["told_wrong_prompt_ids"].tolist() != rows[0]["told_prompt_ids"].tolist()
    assert len(rows[0]["told_wrong_prompt_ids"]) == len(rows[0]["told_prompt_ids"])


# --------------------------------------------------------------------------------------- files


def test_a_file_tells_another_rows_answer_that_the_math_rules_know_to_be_wrong(tmp_path):
    """1/2, 0.5 and 50% are one answer; only 7 is wrong for them."""
    task = make_task(rows_of(tmp_path, ["1/2", "0.5", "\\frac{1}{2}", "7"]), "math", told=ALL)
    told = {row["answer"]: row for row in task.train_rows(4, 0)}
    for half in ("1/2", "0.5", "\\frac{1}{2}"):
        assert told[half]["told_wrong_prompt"].endswith("The correct final answer is 7.\n")
        assert told[half]["told_form_prompt"].endswith("The correct final answer is .\n")
    assert "answer is 7." not in told["7"]["told_wrong_prompt"]


def test_a_file_without_another_answer_is_refused(tmp_path):
    data = rows_of(tmp_path, ["yes", "yes", "Yes "])
    with pytest.raises(DataError, match="no wrong answer to tell beside the question 'q"):
        make_task(data, "plain", lambda **_: [1.0], told=("wrong",))
    task = make_task(data, "plain", lambda **_: [1.0], told=("random",))  # a random one may be right
    assert {row["told_random_prompt"].partition(" ")[2].strip().lower() for row in task.train_rows(3, 0)} == {"yes"}


def test_one_row_has_no_random_answer(tmp_path):
    with pytest.raises(DataError, match="no random answer to tell"):
        make_task(rows_of(tmp_path, ["7"]), "plain", lambda **_: [1.0], told=("random",))


def test_columns_cannot_take_the_names_of_told_prompts():
    with pytest.raises(ValueError, match="`told_wrong_prompt` of its own"):
        FileDataBlock(path="x", columns=["told_wrong_prompt"])


# -------------------------------------------------------------------------- critiques and hints


def test_a_hint_told_beside_the_answer_is_the_other_rows_too_and_what_the_plain_prompt_shows_stays(tmp_path):
    data = rows_of(tmp_path, ["1", "2", "3"], hint=True, level=True)
    template = TemplateBlock(prompt="{level}: {question}", told="{level}: {question} ({hint}: {answer})")
    task = make_task(data, template, lambda **_: [1.0], told=ALL)
    for row in task.train_rows(3, 0):
        own = row["question"][1:]
        shown, _, told = row["told_wrong_prompt"].partition(" (hint ")
        assert shown == f"level {own}: q{own}"
        number, _, answer = told.rstrip(")").partition(": ")
        assert number != own and answer == str(int(number) + 1)
        assert row["told_form_prompt"] == f"level {own}: q{own} (: )"


def test_a_critique_alone_may_be_told():
    """A template whose `told` does not show the answer: another row's critique is what is wrong."""
    template = PromptTemplate("{question}", "{question} [{critique}]")
    pool = [{"question": f"q{i}", "answer": str(i), "critique": f"c{i}"} for i in range(3)]
    told = template.render("q0", "0", pool[0])[1]
    wrong = told_others(pool[0], told, template, pool, ["wrong"])["told_wrong_prompt"]
    assert wrong in ("q0 [c1]", "q0 [c2]")


def test_a_template_of_ones_own_shows_another_answer_and_keeps_its_plain_prompt():
    class Own:
        def render(self, row):
            plain = f"{row['choices']}? {row['question']}"
            return plain, f"{plain} {row['answer']} {row['hint']}"

    template = OwnPromptTemplate(Own(), "own")
    pool = [{"question": f"q{i}", "answer": str(i), "choices": f"abc{i}", "hint": f"h{i}"} for i in range(2)]
    told = template.render("q0", "0", pool[0])[1]
    assert told == "abc0? q0 0 h0"
    found = told_others(pool[0], told, template, pool, ALL)
    assert found == {
        "told_wrong_prompt": "abc0? q0 1 h1", "told_random_prompt": "abc0? q0 1 h1", "told_form_prompt": "abc0? q0  ",
    }  # fmt: skip


def test_of_several_golds_none_is_a_wrong_answer():
    assert differs("5", ["6", "7"]) and not differs(" v ", ["5", "V"])
