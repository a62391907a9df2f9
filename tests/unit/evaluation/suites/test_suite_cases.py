"""LiveCodeBench's layout: tests are read without loading a pickle, programs are judged by what they give."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections import OrderedDict

import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.suites import SuiteGrader, case_runs, cases, find_rows
from ixt_rl.evaluation.suites.case_runs import run_on_cases, same_output
from ixt_rl.evaluation.suites.cases import tests_of as read_tests
from ixt_rl.evaluation.suites.programs import run_programs
from ixt_rl.suites import load_preset, load_suite


def packed(value: object, protocol: int = 4) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def test(given: str, expected: str, kind: str = "stdin") -> dict[str, str]:
    return {"input": given, "output": expected, "testtype": kind}


test.__test__ = False  # type: ignore[attr-defined]
SUM = [test("2\n1 2\n", "3"), test("1\n5\n", "5\n")]
PAIR = [test("[1, 2]\n3", "[4, 5]", "functional")]


def row(public: list, private: object, name: str | None = None, **more: object) -> dict:
    metadata = json.dumps({"func_name": name} if name else {})
    return {
        "question_content": "Add them.",
        "question_id": "a1",
        "contest_date": "2024-08-03T00:00:00",
        "starter_code": "class Solution:\n    def shift(self, a, b):\n        " if name else "",
        "public_test_cases": json.dumps(public),
        "private_test_cases": private,
        "metadata": metadata,
        **more,
    }


def gold(tests: list, entry: str = "") -> str:
    return json.dumps({"entry": entry, "tests": [{key: one[key] for key in ("input", "output")} for one in tests]})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_a_list_or_a_packed_string(protocol):
    for private in (json.dumps(SUM[1:]), packed(json.dumps(SUM[1:]), protocol)):
        entry, tests = read_tests(row(SUM[:1], private))
        assert entry == "" and tests == json.loads(gold(SUM))["tests"]
    long = [test("x" * 70_000, "é")]  # another instruction of the pickle, and a frame
    assert read_tests(row([], packed(json.dumps(long, ensure_ascii=False), protocol)))[1][0]["output"] == "é"


@pytest.mark.parametrize(
    ("private", "reason"),
    [
        (packed(OrderedDict(a=1)), "a pickle of something else"),
        (packed([json.dumps(SUM)]), "a pickle of something else"),
        (packed(7), "a pickle of something else"),
        (base64.b64encode(zlib.compress(b"no pickle")).decode(), "neither JSON nor a packed string"),
        (base64.b64encode(zlib.compress(pickle.dumps("[]"))[:-3]).decode(), "is cut"),
        ("neither", "neither JSON nor a packed string"),
        (None, "no private_test_cases"),
        ("[1]", "is no list of input, output and testtype"),
        (json.dumps(PAIR), "not all of one kind"),
    ],
)
def test_other_tests_are_refused(private, reason):
    with pytest.raises(DataError, match=reason):
        read_tests(row(SUM, private))


def test_rows_that_are_refused_are_counted(tmp_path):
    rows = [row(SUM, "[]"), row(SUM, packed(7), question_id="a2"), row(PAIR, "[]", "shift", question_id="a3")]
    rows.append(row([test("[1", "2", "functional")], "[]", "shift", question_id="a4"))
    (tmp_path / "livecodebench.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = find_rows(load_suite("livecodebench"), tmp_path)
    assert [one["id"] for one in found.rows] == ["a1", "a3"]
    assert "reads the input from stdin" in found.rows[0]["question"]
    assert "class Solution" in found.rows[1]["question"] and "stdin" not in found.rows[1]["question"]
    assert "private_test_cases" not in found.rows[0]["fields"]
    (note,) = [note for note in found.notes if "left out" in note]
    assert "a pickle of something else" in note and "a test's input is no JSON: 1" in note


def test_the_files_of_each_release_are_one_set(tmp_path):
    for number in ("2", "", "3"):
        file = tmp_path / "code_generation_lite" / f"test{number}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(row(SUM, "[]", question_id=f"q{number}")))
    assert [one["id"] for one in find_rows(load_suite("livecodebench"), tmp_path).rows] == ["q", "q2", "q3"]


def test_rows_by_date(tmp_path):
    rows = [row(SUM, "[]", contest_date=f"2024-0{month}-01T00:00:00", question_id=str(month)) for month in (6, 7, 8)]
    (tmp_path / "livecodebench.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skip = [{"field": "contest_date", "matches": "^(2023|2024-0[1-7])", "why": "before August 2024"}]
    suite = load_suite("livecodebench")
    found = find_rows(type(suite).model_validate({**suite.model_dump(), "skip": skip}), tmp_path)
    assert [one["id"] for one in found.rows] == ["8"] and "before August 2024: 2" in found.notes[0]


def test_outputs_are_compared_line_by_line():
    assert same_output("1 \n 2\n\n", "1\n2") and same_output("1.0  2", "1 2.00") and same_output("yes", "yes\n")
    assert not same_output("1 2", "1\n2") and not same_output("yes", "Yes") and not same_output("1\n\n2", "1\n2")
    assert not same_output("50000000000000001", "50000000000000000") and not same_output("0.3000001", "0.3")
    assert not same_output("a  b", "a b") and not same_output("", "1") and not same_output("1 a", "1.0 a")
    assert not same_output("nan", "1") and not same_output("sNaN", "1") and not same_output("1", "1 1")


@pytest.fixture(scope="module")
def children():
    try:
        run_programs(["pass"], 5)
    except ConfigError as error:
        pytest.skip(str(error))


STDIN = {
    "n = int(input())\nprint(sum(map(int, input().split())))": ("right", "all 2 tests pass"),
    "Text.\n```python\nprint(0)\n```\nBetter:\n```python\nimport sys\ndef main():\n"
    "    words = sys.stdin.read().split()\n    print(sum(map(int, words[1:])))\n"
    "if __name__ == '__main__':\n    main()\n```": ("right", "all 2"),
    "n, *a = map(int, open(0).read().split())\nsys.stdout.buffer.write(b'%d' % sum(a))\nexit()": ("right", "all 2"),
    "import atexit, io, os, sys, threading\nout = io.StringIO()\natexit.register(lambda: os.write(1, "
    "out.getvalue().encode()))\ndef main():\n    input()\n    print(sum(map(int, input().split())), file=out)\n"
    "threading.Thread(target=main).start()": ("right", "all 2"),
    "import numpy as np\nprint(np.array(open(0).read().split()[1:], int).sum())": ("right", "all 2"),
    "@cache\ndef f(n):\n    return n and 1 + f(n - 1)\nn = int(input()) + f(10_000) - 10_000\n"
    "print(sum(map(int, input().split())))": ("right", "all 2"),
    "print(3)": ("wrong", "test 2 of 2: it gives '3'"),
    "print(input(), input(), input(), input())": ("wrong", "test 1 of 2: EOFError"),
    "print(": ("wrong", "test 1 of 2: SyntaxError"),
    "print('x' * (3 << 20))": ("wrong", "test 1 of 2: OSError: [Errno 27]"),
    "import os\nos._exit(0)": ("wrong", "test 1 of 2: it ended before"),
    "import socket; socket.socket()": ("undecided", "test 1 of 2: refused: socket"),
    "try:\n    open('x', 'w')\nexcept OSError:\n    print(0)": ("undecided", "test 1 of 2: refused: open"),
}


def graded(texts, answer):
    grade = SuiteGrader(load_suite("livecodebench"), load_preset("paper"))
    return grade([{"question": "q", "answer": answer, "choices": None, "bad_gold": None}] * len(texts), [*texts])


def test_programs_that_read_stdin(children):
    for one, (text, (verdict, why)) in zip(graded(STDIN, gold(SUM)), STDIN.items(), strict=True):
        assert one.verdict == verdict and one.why.startswith(why), (text, one)


SHIFT = "class Solution:\n    def shift(self, a: List[int], b: int):\n        "
FUNCTIONS = {
    SHIFT + "return [x + b for x in a]": ("right", "all 1 tests pass"),
    SHIFT + "print('seen'); return tuple(x + float(b) for x in a)": ("right", "all 1"),
    "def shift(a, b):\n    return [x + b for x in a]": ("right", "all 1"),
    SHIFT + "return a": ("wrong", "test 1 of 1: it gives [1, 2]"),
    SHIFT + "return [(4,), 5]": ("wrong", "test 1 of 1: it gives a tuple"),
    SHIFT + "return {4, 5}": ("wrong", "test 1 of 1: it gives a set"),
    SHIFT + "return a[b]": ("wrong", "test 1 of 1: IndexError"),
    "def move(a, b):\n    return 1": ("wrong", "test 1 of 1: NameError: no function shift"),
    SHIFT + "exit()": ("wrong", "test 1 of 1: SystemExit"),
}


def test_programs_that_are_called(children):
    found = graded(FUNCTIONS, gold(PAIR, "shift"))
    for one, (text, (verdict, why)) in zip(found, FUNCTIONS.items(), strict=True):
        assert one.verdict == verdict and one.why.startswith(why), (text, one)


def test_a_program_that_takes_too_long_is_wrong(children):
    (found,) = run_on_cases([("while True: pass", gold(SUM))], 1)
    assert (found.passed, found.why) == (False, "test 1 of 2: over 1 s of processor time")


def test_large_tests_stay_in_their_file(children, tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "LARGEST_KEPT", 75)
    file = tmp_path / "livecodebench.jsonl"
    text = "\n".join(["", *(json.dumps(row(tests, "[]", question_id=str(len(tests)))) for tests in (SUM[1:], SUM))])
    file.write_text(text)
    found = find_rows(load_suite("livecodebench"), tmp_path)
    small, large = (json.loads(one["answer"]) for one in found.rows)
    assert "tests" in small and large["file"] == str(file) and large["row"] == 1
    (right, wrong) = graded(
        ["print(sum([*map(int, open(0).read().split())][1:]))", "print(5)"], found.rows[1]["answer"]
    )
    assert right.verdict == "right" and wrong.why == "test 1 of 2: it gives '5'"
    file.write_text(text.replace("1 2", "1 3"))
    with pytest.raises(DataError, match="they are others now"):
        graded(["print(3)"], found.rows[1]["answer"])
    file.unlink()
    with pytest.raises(DataError, match="put the file there again"):
        graded(["print(3)"], found.rows[1]["answer"])


def test_large_tests_of_other_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "LARGEST_KEPT", 10)
    (tmp_path / "livecodebench.json").write_text(json.dumps([row(SUM, "[]")]))
    with pytest.raises(DataError, match=r"read from \.jsonl files alone"):
        find_rows(load_suite("livecodebench"), tmp_path)


def test_the_child_is_not_told_the_answer(monkeypatch):
    """What a child is given has the inputs alone."""
    given = []

    def run(*what):
        given.append(what)
        raise KeyboardInterrupt

    monkeypatch.setattr(case_runs, "run_child", run)
    for answer in (gold([test("12", "3456")]), gold([test("12", "3456", "functional")], "f")):
        with pytest.raises(KeyboardInterrupt):
            run_on_cases([("pass", answer)], 1)
    assert len(given) == 2 and "3456" not in str(given)
