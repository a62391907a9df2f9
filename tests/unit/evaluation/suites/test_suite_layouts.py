"""Public layouts of benchmark files load as they are: fields, file names, golds, choices."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.suites import find_rows, prompts_of
from ixt_rl.suites import load_preset, load_suite, suite_names


def write(file: Path, rows: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        from pyarrow import Table
        from pyarrow.parquet import write_table

        write_table(Table.from_pylist(rows), file)
    elif file.name.endswith(".jsonl.gz"):
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as opened:
            table = csv.DictWriter(opened, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


LAYOUTS = yaml.safe_load((Path(__file__).parent / "layouts.yaml").read_text(encoding="utf-8"))
"""One row of each layout: the suite, where its file lies, the row, and what becomes of it."""


@pytest.mark.parametrize("layout", LAYOUTS, ids=[f"{one['suite']}:{one['file']}" for one in LAYOUTS])
def test_a_public_layout_loads(tmp_path, layout):
    name, path, row = layout["suite"], layout["file"], layout["row"]
    write(tmp_path / path, row if path.endswith("problems_test.json") else [row])
    if path.endswith("-I.jsonl"):
        write(tmp_path / path.replace("-I.", "-II."), [row])
    found = find_rows(load_suite(name), tmp_path)
    assert found.rows[0]["question"] == layout["question"]
    assert found.rows[0]["answer"] == layout["answer"]
    assert found.rows[0]["bad_gold"] is None
    assert len({one["id"] for one in found.rows}) == len(found.rows)
    assert any("are expected" in note for note in found.notes) == (load_suite(name).rows is not None)


def test_every_suite_is_among_the_layouts():
    assert {one["suite"] for one in LAYOUTS} == set(suite_names())


def test_sets_of_several_files_are_one(tmp_path):
    for number, name in enumerate(("singleeq", "singleop", "addsub", "multiarith")):
        write(tmp_path / "mawps" / f"{name}.jsonl", [{"input": name, "target": number}])
    write(tmp_path / "SVAMP" / "train.jsonl", [{"Body": "a", "Question": "b", "Answer": 1, "ID": "1"}])
    write(tmp_path / "SVAMP" / "test.jsonl", [{"Body": "a", "Question": "c", "Answer": 2, "ID": "1"}])
    write(tmp_path / "aime25" / "aime2025-I.jsonl", [{"question": "1", "answer": 1}])
    mawps = find_rows(load_suite("mawps"), tmp_path)
    assert [row["question"] for row in mawps.rows] == ["singleeq", "singleop", "addsub", "multiarith"]
    svamp = find_rows(load_suite("svamp"), tmp_path)
    assert [row["question"] for row in svamp.rows] == ["a. b", "a. c"]
    assert [row["cluster"] for row in svamp.rows] == ["a", "a"]
    assert [row["id"] for row in svamp.rows] == ["0", "1"] and "ID is not unique" in svamp.notes[0]
    with pytest.raises(DataError, match="not in"):
        find_rows(load_suite("aime25"), tmp_path)  # its second half is missing


def test_sets_of_a_folder_a_subject_are_one(tmp_path):
    for name in ("math", "mmlu_stem"):
        suite = load_suite(name)
        for split in suite.splits[1]:
            file = tmp_path / suite.names[0] / f"{split}-00000-of-00001.parquet"
            write(
                file,
                [{"problem": split, "question": split, "solution": r"\boxed{1}", "choices": ["a", "b"], "answer": 0}],
            )
        found = find_rows(suite, tmp_path)
        assert len(found.rows) == len(suite.splits[1]) == {"math": 7, "mmlu_stem": 18}[name]


def test_a_row_that_cannot_be_read_costs_one_row(tmp_path):
    golds = [3, {"value": 3}, [None, "4"], True]
    write(tmp_path / "college_math.jsonl", [{"question": "q", "answer": gold} for gold in golds])
    found = find_rows(load_suite("college_math"), tmp_path)
    assert [row["answer"] for row in found.rows] == ["3", "True"]
    assert sum(found.dropped.values()) == 2 and any("it is an object, not text: 1" in note for note in found.notes)


def test_choices_are_shown_or_it_is_said_that_they_are_not(tmp_path):
    write(tmp_path / "aqua.jsonl", [{"question": "q", "options": ["A)1", "B)2"], "correct": "B", "rationale": "r"}])
    bare = find_rows(load_suite(tmp_path / "aqua.jsonl", ["answer=correct"]))
    assert any("choices in `options`, which are not shown" in note for note in bare.notes)
    for fields in (["choices=options"], ["choices=options", "question=question"]):
        found = find_rows(load_suite(tmp_path / "aqua.jsonl", ["answer=correct", *fields]))
        assert found.rows[0]["question"] == "q\nAnswer Choices: (A) 1 (B) 2" and list(found.notes) == []
        assert found.rows[0]["answer"] == "B"


def test_rows_of_other_subjects_and_with_several_answers_are_left_out(tmp_path):
    rows = [
        {"question": "q", "subject": subject, "choices": ["a", "b"], "answer": 0} for subject in ("astronomy", "law")
    ]
    write(tmp_path / "mmlu" / "test.jsonl", rows)
    assert len(find_rows(load_suite("mmlu_stem"), tmp_path).rows) == 1
    golds = ["9 (apples)", "1 (red); 2 (blue)", None]
    write(tmp_path / "asdiv.jsonl", [{"body": "b", "question": "q", "answer": gold} for gold in golds])
    found = find_rows(load_suite("asdiv"), tmp_path)
    assert found.dropped == {"several answers": 1, "no gold answer": 1}
    assert "2 rows left out (several answers: 1, no gold answer: 1)" in found.notes
    assert found.total == 1


def test_golds_that_cannot_be_judged_are_counted_and_named(tmp_path):
    golds = ["3", r"\frac{1", "NaN"]
    write(tmp_path / "college_math.jsonl", [{"question": "q", "answer": gold} for gold in golds])
    found = find_rows(load_suite("college_math"), tmp_path)
    assert [row["bad_gold"] is None for row in found.rows] == [True, False, False]
    (note,) = [note for note in found.notes if "cannot be judged" in note]
    assert note.startswith("2 golds cannot be judged") and r"1: '\\frac{1'" in note and "2: 'NaN'" in note
    prose = "It is known that " * 20
    write(tmp_path / "gsm8k.jsonl", [{"question": "q", "answer": gold} for gold in ("6*3=18\nA: 18", prose)])
    solution, text = find_rows(load_suite("gsm8k"), tmp_path).rows
    assert (solution["answer"], solution["bad_gold"]) == ("18", None)
    assert text["bad_gold"] == "it is prose of 80 words, no answer"
    rows = [{"question": "q", "choices": ["a", "b"], "answer": gold} for gold in ("A", 5, "E")]
    write(tmp_path / "mmlu.jsonl", rows)
    assert [row["bad_gold"] is None for row in find_rows(load_suite("mmlu_stem"), tmp_path).rows] == [
        True,
        False,
        False,
    ]


def test_the_first_rows_alone(tmp_path):
    write(tmp_path / "amc23.jsonl", [{"id": n, "problem": str(n), "answer": n} for n in range(9)])
    found = find_rows(load_suite("amc23"), tmp_path, limit=4)
    assert [row["id"] for row in found.rows] == ["0", "1", "2", "3"] and found.total == 9
    assert found.rows[2]["fields"]["answer"] == 2


def test_worked_examples_come_from_the_train_split_and_never_from_the_test_rows(tmp_path):
    write(tmp_path / "gsm8k.jsonl", [{"question": "q", "answer": "#### 1"}])
    assert list(find_rows(load_suite("gsm8k"), tmp_path).shots) == []
    write(tmp_path / "gsm8k_train.jsonl", [{"question": f"q{n}", "answer": f"so\n#### {n}"} for n in range(9)])
    found = find_rows(load_suite("gsm8k"), tmp_path)
    assert (found.shots[8].question, found.shots[8].answer) == ("q8", "so\n#### 8")
    (prompt,) = prompts_of(found.suite, load_preset("lm-eval"), found.rows, found.shots)
    assert prompt.startswith("Question: q0\nAnswer: so\n#### 0\n\nQuestion: q1") and prompt.endswith(
        "4\n\nQuestion: q\nAnswer:"
    )


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match=r"give --data DIR, with gsm8k/test\.jsonl"):
        find_rows(load_suite("gsm8k"))
    (tmp_path / "gsm-8k-old").mkdir()
    with pytest.raises(DataError, match=r"not in(.|\n)*gsm-8k-old(.|\n)*looked for gsm8k/test\.jsonl"):
        find_rows(load_suite("gsm8k"), tmp_path)
    write(tmp_path / "gsm8k.jsonl", [{"questions": "q", "answer": "1"}])
    with pytest.raises(
        DataError, match=r"no question: 1; its fields are questions, answer(.|\n)*did you mean `questions`"
    ):
        find_rows(load_suite("gsm8k"), tmp_path)
    with pytest.raises(ConfigError, match="did you mean `gsm8k`"):
        load_suite("gms8k")


CHOICES: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"options": ["A)21", "B)21.5", "C)22"], "answer": "C"}, {"A": "21", "B": "21.5", "C": "22"}, "C"),
    ({"choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answer": "2"}, {"1": "x", "2": "y"}, "2"),
    ({"choices": {"A": "x", "B": "y", "C": None}, "answer": "b"}, {"A": "x", "B": "y"}, "B"),
    ({"A": "x", "B": "y", "C": "z", "D": "", "answer": "(C)"}, {"A": "x", "B": "y", "C": "z"}, "C"),
    ({"choices": "['x', 'y']", "answer": "y"}, {"A": "x", "B": "y"}, "B"),
    ({"options": "(A) 1\n(B) 2", "answer": 1.0}, {"A": "1", "B": "2"}, "B"),
    ({"choices": [1, 2.5], "answer": "0"}, {"A": "1", "B": "2.5"}, "A"),
]


@pytest.mark.parametrize(("row", "choices", "gold"), CHOICES)
def test_choices_in_every_form(tmp_path, row, choices, gold):
    write(tmp_path / "rows.jsonl", [{"question": "q", **row}])
    suite = load_suite(tmp_path / "rows.jsonl").model_copy(update={"grading": load_suite("mmlu_stem").grading})
    (found,) = find_rows(suite).rows
    assert (found["choices"], found["answer"], found["bad_gold"]) == (choices, gold, None)


def test_a_gold_that_may_be_a_text_or_an_index_is_not_guessed(tmp_path):
    write(tmp_path / "mmlu.jsonl", [{"question": "q", "choices": ["1", "0"], "answer": "1"}])
    (found,) = find_rows(load_suite("mmlu_stem"), tmp_path).rows
    assert "it may be B (by index) or A (by text)" in found["bad_gold"]


def test_any_file_by_mapping(tmp_path, monkeypatch):
    write(tmp_path / "mine.jsonl", [{"task": {"text": "q?"}, "gold": 3, "key": "k1"}])
    suite = load_suite(tmp_path / "mine.jsonl", ["question=task.text", "answer=gold", "id=key"])
    (row,) = find_rows(suite).rows
    assert (row["question"], row["answer"], row["id"]) == ("q?", "3", "k1")
    suite = load_suite(tmp_path / "mine.jsonl", ["question=Solve: {task.text}", "answer=gold"])
    assert find_rows(suite).rows[0]["question"] == "Solve: q?"
    row = {"prompt": [{"role": "user", "content": "q?"}], "reward_model": {"ground_truth": "3"}, "data_source": "d"}
    write(tmp_path / "rows" / "part-0.parquet", [row])
    (found,) = find_rows(load_suite(tmp_path / "rows")).rows  # as verl's data sets are
    assert (found["question"], found["answer"]) == ("q?", "3")
    with pytest.raises(ConfigError, match="did you mean `answer`"):
        load_suite(tmp_path / "mine.jsonl", ["anwser=gold"])
    with pytest.raises(DataError, match="no such file"):
        find_rows(load_suite("nowhere.jsonl"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="no such file") as caught:
        find_rows(load_suite("rows/part-0.parqet"))  # a folder here has its first part: no id of the hub
    assert "did you mean `part-0.parquet`" in caught.value.remedy
