"""Suite and preset files: what ships is right, what is wrong in one's own is said, every problem of it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.suites import find_rows, plan_of, prompts_of
from ixt_rl.suites import load_preset, load_suite, preset_names, shipped_preset, shipped_suite, suite_names

OF_THE_PAPER = ("math500", "minerva", "olympiadbench", "college_math", "amc23", "aime24", "aime25")
WORDS = ("gsm8k", "svamp", "asdiv", "mawps", "tabmwp", "gaokao2023en", "mmlu_stem", "sat_math")


def test_all_that_ships_loads_and_is_called_as_its_file():
    assert {*OF_THE_PAPER, *WORDS} <= set(suite_names())
    for name in suite_names():
        suite = load_suite(name)
        assert (
            suite.name == name
            and suite.title
            and suite.about.endswith(".")
            and (suite.rows or name in ("tabmwp", "livecodebench"))
        )
        assert set(suite.settings) <= set(preset_names()), name
    assert set(preset_names()) == {"paper", "qwen25-math-cot", "qwen-boxed", "cot", "lm-eval", "lighteval"}
    for name in preset_names():
        assert load_preset(name).name == name and load_preset(name).about


def test_the_papers_setting():
    paper = load_preset("paper")
    assert (paper.temperature, paper.top_p) == (0.6, 0.95)
    samples = {name: plan_of(load_suite(name), paper).samples for name in suite_names()}
    assert {name for name, count in samples.items() if count == 32} == {"amc23", "aime24", "aime25"}
    assert set(samples.values()) == {1, 32}


def test_every_problem_of_a_file_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nnmaes: [x]\nnames: [x]\nrows: many\ngold:\n  - {field: a, froms: hashes}\nname: two\n")
    with pytest.raises(ConfigError) as error:
        load_suite(file)
    text = str(error.value)
    assert "4 problems" in text
    for part in (
        "nmaes (line 2): unknown key; did you mean `names`",
        "rows (line 4)",
        "did you mean `form`",
        "written twice",
    ):
        assert part in text, text
    file.write_text("name: mine\n")
    with pytest.raises(ConfigError, match="neither `names` nor `path`"):
        load_suite(file)
    file.write_text("name: mine\nprompt: no question\n")
    with pytest.raises(ConfigError, match=r"show \{question\}"):
        load_preset(file)
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="a suite is a block of keys"):
        load_suite(file)
    with pytest.raises(ConfigError, match="did you mean `paper`"):
        load_preset("papper")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_suite("nowhere.yaml")


def test_a_suite_of_ones_own_finds_files_beside_it(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text('{"q": "1+1?", "a": "2"}\n')
    (tmp_path / "shots.jsonl").write_text('{"q": "2+2?", "a": "4"}\n')
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\npath: rows.jsonl\nshots: shots.jsonl\nquestion: ['{q}']\ngold: [{field: a}]\n"
        "settings:\n  cot: {shots: 1}\n"
    )
    found = find_rows(load_suite(file))
    assert prompts_of(found.suite, load_preset("cot"), found.rows, found.shots) == [
        "Question: 2+2?\nAnswer: 4\n\n\nQuestion: 1+1?\nAnswer:"
    ]
    assert prompts_of(found.suite, load_preset("paper"), found.rows, found.shots) == ["1+1?\n"]


def test_shipped_files_are_copies_to_start_from(tmp_path):
    for name in suite_names():
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(shipped_suite(name).read_bytes())
        assert load_suite(file) == load_suite(name)
    for name in preset_names():
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(shipped_preset(name).read_bytes())
        assert load_preset(file) == load_preset(name)


def test_the_command_lists_prints_and_looks(tmp_path):
    def run(*words):
        return CliRunner().invoke(main, ["suites", *words])

    listed = run()
    assert listed.exit_code == 0
    assert all(name in listed.output for name in (*suite_names(), *preset_names()))
    assert run("amc23").output == shipped_suite("amc23").read_text()
    assert run("cot").output == shipped_preset("cot").read_text()
    assert run("gms8k").exit_code == 2 and "did you mean `gsm8k`" in run("gms8k").output
    (tmp_path / "amc23.jsonl").write_text('{"problem": "q", "answer": 27.0}\n')
    found = run("--data", str(tmp_path)).output
    assert "amc23.jsonl" in found and "1 rows, where 40 are expected" in found and "not there" in found


def test_a_field_by_mapping_may_hold_the_answer_in_any_form(tmp_path):
    (tmp_path / "minerva.jsonl").write_text('{"q": "p", "a": "4.5e33"}\n{"q": "p", "a": "so \\\\boxed{5}"}\n')
    found = find_rows(load_suite("minerva", ["question=q", "answer=a"]), tmp_path)
    assert [row["answer"] for row in found.rows] == ["4.5e33", "5"]


def test_no_torch_is_imported():
    code = (
        "import sys, ixt_rl.suites as s; [s.load_suite(n) for n in s.suite_names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_of_splits_is_its_test_split(tmp_path):
    """A dataset of the hub as it is downloaded: train beside test, in `data` or not."""
    for place in (tmp_path / "one", tmp_path / "two" / "data"):
        place.mkdir(parents=True)
        for split, count in (("train", 5), ("test", 2)):
            rows = [{"question": f"{split} {n}?", "answer": n} for n in range(count)]
            (place / f"{split}-00000-of-00001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("one", "two"):
        assert [row["question"] for row in find_rows(load_suite(str(tmp_path / name))).rows] == ["test 0?", "test 1?"]
    parts = tmp_path / "parts"
    parts.mkdir()
    for n in range(2):
        (parts / f"part-{n}.jsonl").write_text(json.dumps({"question": f"{n}?", "answer": n}) + "\n")
    assert len(find_rows(load_suite(str(parts))).rows) == 2


def test_tables_by_any_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("x.csv", "sub/X.CSV", "sub/x.tsv"):
        (tmp_path / name).write_text("question,answer\nWhat?,5\n")
    for word in ("x.csv", "./x.csv", "sub/X.CSV", str(tmp_path / "x.csv"), str(tmp_path)):
        assert [row["answer"] for row in find_rows(load_suite(word)).rows] == ["5"]
    with pytest.raises(DataError, match=r"(?s)ending in '\.tsv' are not read.*\.csv"):
        find_rows(load_suite("sub/x.tsv"))


ROWS = [{"question": "Six?", "answer": 6, "tags": ["a", "b"]}, {"question": "Half?", "answer": 0.50, "tags": []}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
@pytest.mark.parametrize(
    "value",
    [ROWS, {"a": ROWS[0], "b": ROWS[1]}, {"rows": ROWS, "version": 1}, COLUMNS,
     {name: {str(n): one for n, one in enumerate(column)} for name, column in COLUMNS.items()}],
    ids=["array", "by id", "in an entry", "columns", "columns by row"],
)  # fmt: skip
def test_rows_of_a_json_file(tmp_path, value, ending):
    file = tmp_path / f"x{ending}"
    text = json.dumps(value).encode("utf-8-sig")
    file.write_bytes(gzip.compress(text) if ending.endswith(".gz") else text)
    found = find_rows(load_suite(str(file))).rows
    assert [(row["question"], row["answer"]) for row in found] == [("Six?", "6"), ("Half?", "0.5")]
