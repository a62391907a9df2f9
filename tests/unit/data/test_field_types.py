"""Fields of problems keep their type: nothing becomes Python text, nothing missing is trained on."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from ixt_rl.blocks.data import FileDataBlock
from ixt_rl.data.questions import exact_dataset, load_problems, load_rows
from ixt_rl.errors import DataError
from tests.unit.data.files import write


def spec(path: str, **changes) -> FileDataBlock:
    return FileDataBlock(**{"path": str(path), "question": "q", "answer": "a", **changes})


def lines(path: Path, *rows: str) -> str:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return str(path)


def one(tmp_path, row: str, **changes) -> dict:
    ((found,), _) = load_rows(spec(lines(tmp_path / "x.jsonl", row), **changes))
    return found


EXACT = {
    "123456789012345678901234567890": "123456789012345678901234567890",
    "9007199254740993": "9007199254740993",
    "3": "3",
    "3.0": "3.0",
    "0.1": "0.1",
    "0.12345678901234567890123": "0.12345678901234567890123",
    "1e16": "10000000000000000",
    "1.5e-7": "0.00000015",
    "-2.50": "-2.50",
    '"3.0"': "3.0",
    '"007"': "007",
    '"2024-03-05"': "2024-03-05",
    '["5"]': "5",
    "[5]": "5",
    '["1", "2"]': ["1", "2"],
    "[1, 2.50]": ["1", "2.50"],
}


def test_parquet_floats_have_the_digits_they_were_written_with(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    values = pa.array([[0.1, 0.3], None, [1e10]], pa.list_(pa.float32()))
    struct = pa.array(
        [{"narrow": 0.1, "wide": 0.1 + 2**-40}] * 3, pa.struct({"narrow": pa.float32(), "wide": pa.float64()})
    )
    write_table(pa.table({"q": ["0", "1", "2"], "a": values, "s": struct}), tmp_path / "x.parquet")
    rows, _ = load_rows(spec(tmp_path / "x.parquet", columns=["s"], on_missing="drop"))
    assert {row["question"]: row["answer"] for row in rows} == {"0": ["0.1", "0.3"], "2": "10000000000.0"}
    assert rows[0]["s"] == {"narrow": 0.1, "wide": 0.1 + 2**-40}
    write_table(pa.table({"q": ["0"], "a": pa.array([0.1], pa.float16())}), tmp_path / "y.parquet")
    assert load_rows(spec(tmp_path / "y.parquet"))[0][0]["answer"] == "0.1"


def test_parquet_maps_are_objects_and_what_python_cannot_hold_is_refused(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    pairs = pa.map_(pa.string(), pa.float32())
    write_table(pa.table({"q": ["?"], "m": pa.array([[("gold", 0.1)]], pa.map_(pa.string(), pa.float32()))}),
                tmp_path / "x.parquet")  # fmt: skip
    rows, _ = load_rows(spec(tmp_path / "x.parquet", answer="m.gold"))
    assert rows == [{"question": "?", "answer": "0.1"}]
    for column in (pa.array([10**15], pa.timestamp("s")), pa.array([[("a", 1.0), ("a", 2.0)]], pairs)):
        write_table(pa.table({"q": ["?"], "a": column}), tmp_path / "y.parquet")
        with pytest.raises(DataError, match=r"y.parquet: after row 0\n.*Python cannot hold"):
            load_rows(spec(tmp_path / "y.parquet"))


@pytest.mark.parametrize("written", EXACT)
def test_golds_are_what_the_file_says(tmp_path, written):
    # A row of another kind of number beside it: no type is inferred for the column.
    path = lines(tmp_path / "x.jsonl", '{"q": "other", "a": 0.5}', f'{{"q": "?", "a": {written}}}')
    rows, _ = load_rows(spec(path))
    assert {row["question"]: row["answer"] for row in rows} == {"other": "0.5", "?": EXACT[written]}


def test_parquet_golds_are_exact_too(tmp_path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    day = datetime.date(2024, 3, 5)
    columns = {
        "float": (pa.array([0.1, 1e16]), ["0.1", "10000000000000000"]),
        "decimal": (pa.array([Decimal("1.50"), Decimal("2.00")]), ["1.50", "2.00"]),
        "date": (pa.array([day, day]), ["2024-03-05"] * 2),
        "time": (pa.array([datetime.datetime(2024, 3, 5, 1, 2)] * 2), ["2024-03-05 01:02:00"] * 2),
        "list": (pa.array([["1", "2"], ["3"]]), [["1", "2"], "3"]),
        "large": (pa.array([2**62 + 1, 1]), [str(2**62 + 1), "1"]),
    }
    for name, (column, expected) in columns.items():
        path = tmp_path / f"{name}.parquet"
        write_table(pa.table({"q": ["0", "1"], "a": column, "n": column}), path)
        rows, _ = load_rows(spec(path, columns=["n"]))
        assert [row["answer"] for row in sorted(rows, key=lambda row: row["question"])] == expected
        assert sorted(map(repr, (row["n"] for row in rows))) == sorted(map(repr, column.to_pylist()))  # as it is


REFUSED = {
    "true": "true or false",
    '{"ground_truth": "5", "style": "rule"}': r"name one of its entries: a\.ground_truth, a\.style",
    "[[1]]": "type list",
    '["1", true]': "true or false",
    '["1", ""]': "one of its answers is blank",
    "NaN": "'a' is empty|not finite",
    "1e999": "not finite",
    '"\\ud800"': "surrogate",
}


@pytest.mark.parametrize("written", REFUSED)
def test_golds_of_other_types_are_refused_by_file_row_and_field(tmp_path, written):
    with pytest.raises(DataError, match=REFUSED[written]) as error:
        one(tmp_path, f'{{"q": "?", "a": {written}}}')
    assert "x.jsonl row 1: " in str(error.value) and "remedy: " in str(error.value)


def test_binary_is_refused_with_the_remedy(tmp_path):
    path = write(tmp_path / "x.parquet", [{"q": "?", "a": b"5"}])
    with pytest.raises(DataError, match=r"row 1: a=b'5'\n.*binary, not text\n.*column.cast"):
        load_rows(spec(path))


NOTHING = ['{"q": "?"}', '{"q": "?", "a": null}', '{"q": "?", "a": ""}', '{"q": "?", "a": " "}', '{"q": "?", "a": []}']
NOTHING += ['{"q": null, "a": "1"}', '{"q": "", "a": "1"}', '{"a": "1"}', '{"q": [], "a": "1"}']


@pytest.mark.parametrize("row", NOTHING)
def test_what_is_missing_is_refused_or_dropped_and_counted(tmp_path, row):
    path = lines(tmp_path / "x.jsonl", '{"q": "good", "a": "1"}', row, row)
    with pytest.raises(DataError, match=r"x.jsonl row 2: (no )?field '[qa]'"):
        load_rows(spec(path))
    problems = load_problems(spec(path, on_missing="drop"))
    assert problems.train == [{"question": "good", "answer": "1"}]
    assert list(problems.dropped.values()) == [2]
    assert problems.notes == [f"2 rows of the data dropped ({next(iter(problems.dropped))}: 2)"]


def test_further_fields_are_not_missing_either(tmp_path):
    path = lines(
        tmp_path / "x.jsonl", '{"q": "1", "a": "1", "n": 0, "g": "x"}', '{"q": "2", "a": "1", "n": null, "g": 1}'
    )
    for changes in ({"columns": ["n"]}, {"group": "n"}):
        with pytest.raises(DataError, match=r"row 2: field 'n' is null"):
            load_rows(spec(path, **changes))
        problems = load_problems(spec(path, **changes, on_missing="drop"))
        assert problems.dropped == {"n: null": 1} and len(problems.train) == 1


def test_a_field_in_no_row_is_refused_whatever_is_dropped(tmp_path):
    path = lines(tmp_path / "x.jsonl", '{"q": "1", "gold": {"value": "1"}}')
    for changes in ({}, {"on_missing": "drop"}):
        with pytest.raises(DataError, match=r"no field 'a'\n.*its fields are q, gold, gold.value"):
            load_rows(spec(path, **changes))
    with pytest.raises(DataError, match="no field 'split'"):
        load_rows(spec(path, answer="gold.value", where={"split": ["test"]}))


def test_dotted_names_reach_into_objects(tmp_path):
    row = {
        "q": "?",
        "a.b": "own name",
        "reward_model": {"ground_truth": "5", "style": "rule"},
        "extra": {"k": 1, "g": "u"},
    }
    for name in ("x.jsonl", "x.parquet"):
        path = write(tmp_path / name, [row])
        ((found,), _) = load_rows(
            spec(path, answer="reward_model.ground_truth", where={"extra.k": [1]}, columns=["extra.g"], group="extra.g")
        )
        assert found == {"question": "?", "answer": "5", "extra.g": "u"}
        assert load_rows(spec(path, answer="a.b"))[0][0]["answer"] == "own name"


def test_messages_stay_messages(tmp_path):
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "2+1?"}]
    for name in ("x.jsonl", "x.parquet"):
        ((found,), _) = load_rows(spec(write(tmp_path / name, [{"q": chat, "a": "3"}])))
        assert found["question"] == chat
    parts = [{"role": "user", "content": [{"type": "text", "text": "2+1"}, {"type": "text", "text": "?"}]}]
    ((found,), _) = load_rows(spec(write(tmp_path / "y.jsonl", [{"q": parts, "a": "3"}])))
    assert found["question"] == [{"role": "user", "content": "2+1?"}]
    assert one(tmp_path, '{"q": ["2+1?"], "a": "3"}')["question"] == "2+1?"


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"role": "tool", "content": "x"}], "its role is 'tool'"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            "last message is of role assistant",
        ),
        ([{"role": "user", "content": None}], "'q' is empty"),
        ([{"role": "system", "content": None}, {"role": "user", "content": "x"}], "its content is no text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "its content is no text"),
        ([{"text": "x"}], "its role is None"),
        (["a", "b"], "no list of messages"),
        ([[{"role": "user", "content": "x"}]], "no list of messages|its role"),
        ({"text": "x"}, r"name one of its entries: q\.text"),
        (True, "true or false"),
    ],
)
def test_questions_that_are_neither_text_nor_messages_are_refused(tmp_path, messages, says):
    if messages == [[{"role": "user", "content": "x"}]]:
        assert one(tmp_path, json.dumps({"q": messages, "a": "3"}))["question"] == messages[0]
        return
    with pytest.raises(DataError, match=says):
        one(tmp_path, json.dumps({"q": messages, "a": "3"}))


def test_texts_beside_messages_are_refused(tmp_path):
    rows = [{"q": "a", "a": "1"}, {"q": [{"role": "user", "content": "b"}], "a": "1"}]
    with pytest.raises(DataError, match=r"row 2: q is a list of messages"):
        load_rows(spec(write(tmp_path / "x.jsonl", rows)))


def test_columns_keep_their_types(tmp_path):
    row = {"q": "?", "a": "1", "f": 0.1, "i": 10**30, "b": False, "l": [1, "x", None], "d": {"k": 2.5}, "e": "", "z": 0}
    ((found,), _) = load_rows(spec(write(tmp_path / "x.jsonl", [row]), columns=list("fibldez")))
    assert found == {"question": "?", "answer": "1", **{name: row[name] for name in "fibldez"}}
    assert type(found["f"]) is float and type(found["d"]["k"]) is float


def test_rows_reach_the_trainer_as_they_are():
    rows = [{"answer": "1", "n": 2**60 + 1}, {"answer": ["1", "2"], "n": 0.5}, {"answer": "x", "n": 10**30}]
    dataset = exact_dataset(rows)
    assert [dataset[index] for index in range(3)] == rows and len(dataset) == 3
    assert dataset[[0, 2]] == {"answer": ["1", "x"], "n": [2**60 + 1, 10**30]}


def test_folders_patterns_and_packed_files_of_all_kinds(tmp_path):
    folder = tmp_path / "set.jsonl"  # a folder may be called as it likes
    folder.mkdir()
    rows = [{"q": str(n), "a": str(n)} for n in range(6)]
    write(folder / "a.jsonl", rows[:1])
    write(folder / "b.parquet", rows[1:2])
    write(folder / "c.json", rows[2:3])
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(json.dumps(rows[3]).encode() + b"\n"))
    (folder / "e.json.gz").write_bytes(gzip.compress(json.dumps(rows[4:5]).encode()))
    (folder / "f.JSONL").write_text(json.dumps(rows[5]))
    (folder / "notes.txt").write_text("not data")
    (folder / "annotation.json").write_text("{}")
    found, _ = load_rows(spec(folder))
    assert sorted(row["question"] for row in found) == list("012345")
    found, _ = load_rows(spec(f"{folder}/[ab].*"))
    assert sorted(row["question"] for row in found) == ["0", "1"]
    ((row,), _) = load_rows(spec(folder / "d.jsonl.gz"))
    assert row["question"] == "3"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data"):
        load_rows(spec(tmp_path / "empty"))


def test_hub_datasets_go_through_datasets(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, name, split):
        asked.append((path, name, split))
        return datasets.Dataset.from_list([{"q": "?", "a": 3}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ((row,), _) = load_rows(spec("owner/set", name="main", split="test"))
    assert row == {"question": "?", "answer": "3"} and asked == [("owner/set", "main", "test")]
    monkeypatch.undo()
    with pytest.raises(DataError, match="dataset 'owner/set'"):
        load_rows(spec("owner/set"))


def asked(content) -> str:
    return json.dumps([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    "row",
    [
        *(f'{{"q": {asked(content)}, "a": "1"}}' for content in ("", " ", None, [{"type": "text", "text": " "}])),
        *(f'{{"q": {asked("?")}, "a": {answer}}}' for answer in ("[null]", '[""]', "[NaN, null]")),
    ],
)
def test_messages_and_lists_that_hold_nothing_are_missing(tmp_path, row):
    path = lines(tmp_path / "x.jsonl", row, f'{{"q": {asked("ok")}, "a": "1"}}')
    with pytest.raises(DataError, match=r"row 1: field '[qa]' is empty"):
        load_rows(spec(path))
    problems = load_problems(spec(path, on_missing="drop"))
    assert len(problems.train) == 1 and sum(problems.dropped.values()) == 1


def test_a_null_among_answers_is_refused_as_such(tmp_path):
    with pytest.raises(DataError, match="one of its answers is blank or null"):
        one(tmp_path, '{"q": "?", "a": ["1", null]}')


def test_entries_of_null_are_null_and_nan_is(tmp_path):
    path = lines(tmp_path / "x.jsonl", '{"q": "?", "a": {"b": 1}, "c": 1}', '{"q": "?", "a": null, "c": 1}',
                 '{"q": "?", "a": {"b": 1}, "c": NaN}')  # fmt: skip
    problems = load_problems(spec(path, answer="a.b", columns=["c"], on_missing="drop"))
    assert len(problems.train) == 1 and problems.dropped == {"a.b: null": 1, "c: empty": 1}
    with pytest.raises(DataError, match=r"row 2: field 'a.b' is null"):
        load_rows(spec(path, answer="a.b"))


def test_a_misspelt_entry_is_told_the_entries_of_parquet_too(tmp_path):
    path = write(tmp_path / "x.parquet", [{"q": "?", "reward_model": {"ground_truth": "5", "style": "rule"}}])
    with pytest.raises(DataError, match=r"did you mean `reward_model\.ground_truth`"):
        load_rows(spec(path, answer="reward_model.groundtruth"))


def test_messages_as_sharegpt_has_them(tmp_path):
    said = [{"from": "system", "value": "S"}, {"from": "human", "value": "1+1"}, {"from": "gpt", "value": "2"}]
    row = one(tmp_path, json.dumps({"q": [*said, {"from": "human", "value": "and 2+2?"}], "a": 4}))
    assert [message["role"] for message in row["question"]] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in row["question"]] == ["S", "1+1", "2", "and 2+2?"]
    with pytest.raises(DataError, match="role is 'observation'"):
        one(tmp_path, json.dumps({"q": [{"from": "observation", "value": "x"}], "a": 4}))


@pytest.mark.parametrize(
    ("name", "wanted", "kept"),
    [
        ("b", [True], ["true"]),
        ("b", [1], ["one"]),
        ("n", [1.5], ["true", "one"]),
        ("d", ["2024-03-05"], ["one"]),
        ("b", [False, "x"], ["text"]),
    ],
)
def test_rows_are_kept_by_values_of_every_type(tmp_path, name, wanted, kept):
    path = lines(
        tmp_path / "x.jsonl",
        '{"q": "true", "a": 1, "b": true, "n": 1.5, "d": null}',
        '{"q": "one", "a": 1, "b": 1, "n": 1.50, "d": "2024-03-05"}',
        '{"q": "text", "a": 1, "b": "x", "n": "1.5", "d": "x"}',
    )
    rows, _ = load_rows(spec(path, where={name: wanted}))
    assert sorted(row["question"] for row in rows) == sorted(kept)
