"""The cache on disk: several writers, killed writers, foreign files."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ixt_rl.errors import DataError
from ixt_rl.judging import JudgeCache, Reply, Request, load_rubric
from ixt_rl.types import SamplingParams

ROOT = Path(__file__).resolve().parents[3]
REQUEST = Request(({"role": "user", "content": "hi"},), load_rubric("safety"), {"prefix": "a"}, SamplingParams(5))

WRITER = """
import sys
from ixt_rl.judging import JudgeCache, Reply
cache = JudgeCache(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    cache.put(number.to_bytes(32), Reply(f"{number}" * 500, "stop", number))
    print(number, flush=True)
"""


def write(file: Path, start: int, end: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(file), str(start), str(end)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def intact(cache: JudgeCache, number: int) -> bool:
    reply = cache.get(number.to_bytes(32))
    return reply == Reply(f"{number}" * 500, "stop", number)


def test_replies_come_back(tmp_path):
    file = tmp_path / "new folder" / "cache.sqlite"
    reply = Reply("té\x00xt\n", "length", 3, 4, 0.5, "", 1)
    cache = JudgeCache(file)
    key = cache.key("judge", REQUEST)
    assert cache.get(key) is None
    cache.put(key, reply)
    cache.put(key, replace(reply, text="other"))  # the first one stays
    cache.put(b"f" * 32, Reply("", "failed"))
    cache.put(b"r" * 32, Reply("", "refused"))
    cache.close()
    again = JudgeCache(file)
    assert again.get(key) == reply
    assert len(again) == 1


def test_the_key_has_everything_an_answer_depends_on():
    variants = [
        ("other judge", REQUEST),
        ("judge", replace(REQUEST, messages=({"role": "user", "content": "ho"},))),
        ("judge", replace(REQUEST, rubric=load_rubric("web-text"))),
        ("judge", replace(REQUEST, fields={"prefix": "b"})),
        ("judge", replace(REQUEST, sampling=SamplingParams(5, temperature=0.5))),
        ("judge", replace(REQUEST, sample=1)),
        ("judge", REQUEST),
    ]
    keys = {JudgeCache.key(judge, request) for judge, request in variants}
    assert len(keys) == len(variants)
    assert JudgeCache.key("judge", replace(REQUEST, fields=dict(REQUEST.fields))) in keys


def test_kill_9_loses_nothing_that_was_kept(tmp_path):
    """Ten times: a writer is killed somewhere, and the next goes on; every reply it had announced is there, whole."""
    file, rng, done = tmp_path / "cache.sqlite", random.Random(0), 0
    for _ in range(10):
        writer = write(file, done, 1 << 30)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.1))
        writer.send_signal(signal.SIGKILL)
        announced = [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        cache = JudgeCache(file)
        last = max(announced, default=done)
        assert len(cache) in (last + 1, last + 2)  # at most one was kept and not yet announced
        assert all(intact(cache, number) for number in range(len(cache)))
        cache.put((last + 1).to_bytes(32), Reply(f"{last + 1}" * 500, "stop", last + 1))
        done = last + 2
        cache.close()
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_half_written_end_of_the_log_is_ignored_and_written_over(tmp_path):
    file = tmp_path / "cache.sqlite"
    writer = write(file, 0, 20)
    assert writer.wait(60) == 0
    source = JudgeCache(file)
    source.put((20).to_bytes(32), Reply("20" * 500, "stop", 20))
    log = file.with_name(file.name + "-wal")
    torn = tmp_path / "torn.sqlite"
    torn.write_bytes(file.read_bytes())
    torn.with_name("torn.sqlite-wal").write_bytes(log.read_bytes()[:-100])
    source.close()
    cache = JudgeCache(torn)
    assert len(cache) == 20 and cache.get((20).to_bytes(32)) is None
    cache.put((20).to_bytes(32), Reply("20" * 500, "stop", 20))
    assert all(intact(cache, number) for number in range(21))


def test_several_processes_write_at_once(tmp_path):
    file = tmp_path / "cache.sqlite"
    writers = [write(file, start, start + 400) for start in (0, 200, 400)]  # each overlaps the next
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    cache = JudgeCache(file)
    assert len(cache) == 800
    assert all(intact(cache, number) for number in range(800))


def test_a_forked_process_gets_its_own_connection(tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    cache.put(b"a" * 32, Reply("parent", "stop"))
    child = os.fork()
    if child == 0:
        cache.put(b"b" * 32, Reply("child", "stop"))
        os._exit(0 if cache.get(b"a" * 32) == Reply("parent", "stop") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get(b"b" * 32) == Reply("child", "stop")


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(DataError, match="SQLite cannot open it"):
        JudgeCache(tmp_path / "text")
    connection = sqlite3.connect(tmp_path / "newer")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DataError, match="format 7, not 1"):
        JudgeCache(tmp_path / "newer")


def test_a_cache_that_was_damaged_after_it_was_opened_is_named(tmp_path):
    file = tmp_path / "cache.sqlite"
    cache = JudgeCache(file)
    cache.put(b"k" * 32, Reply("text", "stop", 1, 1))
    cache.close()
    again = JudgeCache(file)
    size = file.stat().st_size
    with file.open("r+b") as there:  # all but the head, under the connection
        there.seek(4096)
        there.write(b"\xff" * (size - 4096))
    with pytest.raises(DataError, match=r"judge cache .*cache\.sqlite"):
        again.get(b"k" * 32)
    again.close()
