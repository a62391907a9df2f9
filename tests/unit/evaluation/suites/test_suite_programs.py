"""Programs run with their tests: what counts as the code, what is right, wrong and undecided, what is refused."""

from __future__ import annotations

import json

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.suites import SuiteGrader, programs
from ixt_rl.evaluation.suites.programs import code_of, program_of, run_programs
from ixt_rl.suites import load_preset, load_suite


@pytest.fixture(scope="module", autouse=True)
def child_processes_can_leave_the_network():
    try:
        run_programs(["pass"], 5)
    except ConfigError as error:
        pytest.skip(str(error))


PROMPT = "from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    '''The sum.'''\n"
TESTS = "def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\n\ncheck(total)"
ROW = {
    "question": PROMPT,
    "answer": json.dumps({"prompt": PROMPT, "entry": "total", "tests": TESTS}),
    "choices": None,
    "bad_gold": None,
}
WHOLE = "def total(numbers: List[int]) -> int:\n    return sum(numbers)\n"


def test_what_counts_as_the_code():
    assert code_of("    return sum(numbers)\n", "total") == "    return sum(numbers)\n"
    assert code_of(f"Here:\n```python\n{WHOLE}```\nUse it:\n```python\ntotal([1])\n```", "total") == WHOLE
    assert code_of(f"<think>\n```python\nx\n```</think>```py\n{WHOLE}", "total") == WHOLE
    assert code_of("a\n```\n    return 1\n```", "total") == "    return 1\n"
    assert program_of(WHOLE, PROMPT, "total", "T").startswith("from typing import List\n\n\ndef total")  # imports stay
    assert program_of("    return 1\n", PROMPT, "total", "T") == PROMPT + "    return 1\n\nT\n"


def test_verdicts_of_programs():
    texts = {
        "    return sum(numbers)\n": ("right", "all tests pass"),
        f"```python\n{WHOLE}```": ("right", "all tests pass"),
        "    return 3\n": ("wrong", "AssertionError"),
        "    return sum(numbers": ("wrong", "SyntaxError"),
        "    import sys; sys.exit(0)\n": ("wrong", "SystemExit"),
        "    import os; os._exit(0)\n": ("wrong", "it ended before its tests"),
        "    import socket; socket.socket()\n": ("undecided", "refused: socket"),
        "    open('here', 'w')\n": ("undecided", "refused: open"),
        "    import os; os.system('true')\n": ("undecided", "refused: os.system"),
        "    import os; os.remove('nothing')\n": ("undecided", "refused: os.remove"),
    }
    found = SuiteGrader(load_suite("humaneval"), load_preset("paper"))([ROW] * len(texts), [*texts])
    for one, (text, (verdict, why)) in zip(found, texts.items(), strict=True):
        assert one.verdict == verdict and one.why.startswith(why), (text, one)
    assert found[1].extracted == WHOLE


def test_no_network_is_there():
    """Of the interfaces, the kernel shows the child a loopback of its own alone."""
    names = "[line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]"
    (found,) = run_programs([f"assert set({names}) <= {{'lo', 'sit0', 'tunl0', 'ip6tnl0'}}, {names}"], 5)
    assert found.passed, found


def test_limits(monkeypatch):
    (busy, memory) = run_programs(["while True: pass", "x = bytearray(8 << 30)"], 1)
    assert (busy.passed, busy.why) == (False, "over 1 s of processor time")
    assert (memory.passed, memory.why) == (False, "MemoryError: ")
    monkeypatch.setattr(programs, "WALL", 0)
    monkeypatch.setattr(programs, "START_S", 0.5)
    (waiting,) = run_programs(["import time; time.sleep(30)"], 1)
    assert waiting.passed is None and waiting.why.startswith("not finished in 0.5 s")


def test_nothing_is_run_where_the_network_cannot_be_left(monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("""print('{"unprotected": "Operation not permitted"}')""")
    monkeypatch.setattr(programs, "CHILD", child)
    with pytest.raises(ConfigError, match="lets no child process leave the network"):
        run_programs(["pass"], 1)
