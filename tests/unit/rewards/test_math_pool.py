"""Workers that compare answers: time, memory, deaths, and callers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ixt_rl.rewards import MathReward
from ixt_rl.rewards.math import worker as math_worker
from ixt_rl.rewards.math.pool import Check, MathPool, shared_pool

EQUAL = Check(r"\sqrt{8}", r"2\sqrt{2}")
UNEQUAL = Check(r"\sqrt{8}", r"3\sqrt{2}")
SLOW = Check("5", "slow")
SLOW_WORKER = (sys.executable, str(Path(__file__).with_name("slow_worker.py")))
LARGE = r"3^{9000}\sqrt{2}"
"""A constant that the trainer process leaves to a worker."""


@pytest.fixture
def pool():
    pool = MathPool(workers=1, deadline_s=10.0)
    yield pool
    pool.close()


@pytest.fixture
def slow_pool(pool):
    """A pool whose checker sleeps over the answer `slow`."""
    pool.worker_command = SLOW_WORKER
    return pool


@pytest.fixture(scope="module")
def unharmed():
    """One worker for the tests that do it no harm: starting one takes a second or two."""
    pool = MathPool(workers=1, deadline_s=10.0)
    yield pool
    pool.close()


def test_order_is_kept_over_several_workers():
    pool = MathPool(workers=2, deadline_s=10.0)
    try:
        tasks = [EQUAL, UNEQUAL, UNEQUAL, EQUAL] * 3
        assert [result.right for result in pool.judge(tasks)] == [True, False, False, True] * 3
        assert pool.counts["tasks"] == 12 and len(pool.pids()) == 2
    finally:
        pool.close()


def test_a_task_past_its_deadline_is_killed_and_the_next_one_gets_a_new_worker(slow_pool):
    pool = slow_pool
    pool.judge([UNEQUAL])
    (before,) = pool.pids()
    pool.deadline_s = 0.3
    (result,) = pool.judge([SLOW])
    assert result.right is None and result.reason.startswith("timeout") and result.seconds < 3
    assert pool.counts["respawns"] == 1 and pool.pids() == []
    pool.deadline_s = 10.0
    assert pool.judge([EQUAL])[0].right is True
    assert pool.pids() != [before]


def test_a_worker_killed_at_work_costs_one_task(slow_pool, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOW_BEGUN", str(tmp_path / "begun"))
    pool = slow_pool
    pool.judge([EQUAL])
    (pid,) = pool.pids()

    def kill_at_work():
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill_at_work, daemon=True).start()
    results = pool.judge([SLOW, EQUAL])
    assert results[0].right is None and results[0].reason.startswith("crash")
    assert results[1].right is True
    assert pool.counts["crashes"] == 1 and pool.counts["respawns"] == 1


@pytest.mark.parametrize("wait_s", [0.1, 0.0])
def test_a_worker_killed_while_idle_costs_one_retry_and_no_answer(pool, wait_s):
    """Without a wait the task may still be sent to the process that is about to end."""
    pool.judge([EQUAL])
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    time.sleep(wait_s)
    assert [result.right for result in pool.judge([EQUAL, UNEQUAL])] == [True, False]
    assert pool.counts["respawns"] == 1


def test_a_worker_that_dies_between_the_check_and_the_task_costs_one_retry(pool, monkeypatch):
    """The message arrives in the pipe of a process that is stopped, and is then killed before it begins."""
    pool.judge([EQUAL])
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert [result.right for result in pool.judge([EQUAL])] == [True]
    assert pool.counts["respawns"] == 1 and pool.counts["timeouts"] == 0


def test_workers_are_recycled():
    pool = MathPool(workers=1, deadline_s=10.0, tasks_per_worker=2)
    try:
        assert all(result.right for result in pool.judge([EQUAL] * 3))
        assert pool.counts["recycled"] == 1
    finally:
        pool.close()


def test_memory_is_limited(unharmed):
    unharmed.judge([EQUAL])
    (pid,) = unharmed.pids()
    limits = Path(f"/proc/{pid}/limits")
    if not limits.exists():
        pytest.skip("no /proc on this system")
    (line,) = [line for line in limits.read_text().splitlines() if line.startswith("Max address space")]
    assert line.split()[3] == str(1024 * 2**20)


def test_many_threads_share_one_pool(unharmed):
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(unharmed.judge, [[EQUAL, UNEQUAL]] * 8))
    assert all([result.right for result in batch] == [True, False] for batch in batches)


def test_a_forked_child_gets_its_own_pool():
    reward = MathReward(deadline_s=10.0, workers=1)
    call = ([""], [r"\boxed{3^{8999}\sqrt{18}}"], [LARGE])
    assert reward(*call) == [1.0]
    parent_pids = reward.pool.pids()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fine = reward(*call) == [1.0] and reward.pool.pids() != parent_pids
            os.write(write, b"1" if fine else b"0")
            reward.pool.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1) == b"1"
    assert reward(*call) == [1.0] and reward.pool.pids() == parent_pids


def test_the_shared_pool_is_one_per_settings():
    assert shared_pool(workers=1, deadline_s=7.0) is shared_pool(workers=1, deadline_s=7.0)
    assert shared_pool(workers=1, deadline_s=7.0) is not shared_pool(workers=1, deadline_s=8.0)


def test_workers_and_the_import_stay_free_of_torch_and_end_with_the_process():
    code = """
import sys
from ixt_rl.rewards import math_reward, MathReward
import ixt_rl.rewards.math.worker
assert "torch" not in sys.modules and "sympy" not in sys.modules, sorted(sys.modules)
r = MathReward(workers=1)
assert r([""], [r"\\\\boxed{3^{8999}\\\\sqrt{18}}"], [r"3^{9000}\\\\sqrt{2}"]) == [1.0]
print(*r.pool.pids())
""".replace("\\\\\\\\", "\\\\").replace("\\\\", "\\")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (pid,) = map(int, done.stdout.split())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_second_checker_alone_is_not_believed_where_it_rounds():
    """math-verify accepts these; the exact rules do not, and the disagreement is seen."""
    for gold, answer in [("1/2004!", "1/2006!"), ("1/2^99", "1/2^98")]:
        assert math_worker.second_check(gold, answer) == {"right": True, "confirmed": False}
        assert math_worker.exact_check(gold, answer)["right"] is False


def test_disagreements_are_counted(unharmed):
    (result,) = unharmed.judge([Check(r"\sqrt{2}\cdot\frac{1}{2004!}", r"\sqrt{2}\cdot\frac{1}{2006!}")])
    assert result.second is True and result.right is False and unharmed.counts["disagreements"] >= 1


def test_a_confirmed_right_of_the_second_checker_against_the_rules_is_undecided(unharmed):
    combined = unharmed._combine(
        {"right": False, "reason": "rule", "settled": True}, {"right": True, "confirmed": True}, "", 0.0
    )
    assert combined.right is None and combined.reason.startswith("disagreement")
