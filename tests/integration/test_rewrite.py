"""Rewriting that is killed, and by a model that knows nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.judging.opening import parse_judge
from ixt_rl.types import SamplingParams
from tests.integration.judge_model import save_judge
from tests.unit.annotation.helpers import read_rows, shards, write_lines
from tests.unit.annotation.rewriting import SUFFIX, make_rewriting, passages, policy_folder, rewriter_file

ROOT = Path(__file__).resolve().parents[2]
FORKS = """
import os, sys
from ixt_rl.cli.main import main

main(sys.stdin.readline().split(), standalone_mode=False)  # imports all that a session needs
for line in sys.stdin:  # a session a line; its process is told, then how it ended
    child = os.fork()
    if not child:
        main(line.split())
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
KILLS = 10
DOCUMENTS = 1000


class Sessions:
    """Processes that each run a command line, forked from one that has done so: imports take seconds."""

    def __init__(self, log: Path, *first: object):
        self.log = log
        self._parent = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "REWRITER_LOG": str(log),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._say(*first)

    def start(self, *words: object) -> int:
        """The process that runs this command line."""
        self._say(*words)
        return self._number()

    def end(self) -> int:
        """How the last one ended."""
        return self._number()

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    def close(self) -> None:
        self._parent.kill()
        self._parent.communicate()

    def _say(self, *words: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(" ".join(map(str, words)) + "\n")
        self._parent.stdin.flush()

    def _number(self) -> int:
        """The next line that is a number; the others are what sessions print."""
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            if line.strip().lstrip("-").isdigit():
                return int(line)
        raise AssertionError("the process that forks is gone")


@pytest.mark.slow
def test_kill_9_at_ten_moments_changes_nothing_and_repeats_next_to_nothing(tmp_path):
    """1,000 documents; every process but the last is killed, before its first question or up to 70 questions later."""
    rows = passages(DOCUMENTS)
    corpus, policy, file = write_lines(tmp_path / "c.jsonl", rows), policy_folder(tmp_path), rewriter_file(tmp_path)
    words = ("--rewriter", f"python:{file}:mend", "--prompt", "quality", "--tokenizer", policy, "--suffix-tokens",
             SUFFIX, "--shard-rows", 60)  # fmt: skip
    few = write_lines(tmp_path / "few.jsonl", [{"text": "In no document all is well: bad 999999"}])
    with closing(Sessions(tmp_path / "calls", "rewrite", few, tmp_path / "few", *words)) as sessions:
        assert sessions.start("rewrite", corpus, tmp_path / "once", *words) and sessions.end() == 0
        once = sessions.calls()[1:]
        different = {row["text"] for row in rows}
        assert len(once) == len(different)

        rng, out = random.Random(0), tmp_path / "often"
        for kill in range(KILLS):
            before = sessions.log.stat().st_size
            process = sessions.start("rewrite", corpus, out, *words)
            until = before + (0 if kill % 5 == 4 else len(once[0]) * rng.randrange(1, 70))
            deadline = time.monotonic() + 60
            while sessions.log.stat().st_size < until and time.monotonic() < deadline:
                time.sleep(0.0005)
            time.sleep(rng.uniform(0.0, 0.02))
            os.kill(process, signal.SIGKILL)
            assert sessions.end() == -signal.SIGKILL, "it was done before it was killed ten times"
        between = sessions.calls()[1 + len(once) :]
        assert 0 < len(set(between)) < len(different)
        assert sessions.start("rewrite", corpus, out, *words) and sessions.end() == 0
        calls = Counter(sessions.calls()[1 + len(once) :])
        assert sessions.start("rewrite", corpus, out, *words) and sessions.end() == 0
        assert Counter(sessions.calls()[1 + len(once) :]) == calls  # a finished job asks nothing
    assert set(calls) == set(once)
    assert calls.total() - len(different) <= KILLS  # one call of a function is under way at a time
    assert shards(out) == shards(tmp_path / "once")
    assert [row["id"] for row in read_rows(out)] == list(range(DOCUMENTS))
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    saved, undisturbed = (json.loads((tmp_path / name / "rewriting.json").read_text()) for name in ("often", "once"))
    assert {**saved, "spent": 0} == {**undisturbed, "spent": 0}


@pytest.mark.slow
def test_garbage_of_a_random_model_ends_undecided_and_is_counted(tmp_path):
    """A random model of bytes writes without end: every rewrite is cut off, none becomes a text."""
    model = save_judge(tmp_path / "model")
    rewriter = parse_judge(f"hf:{model}", {"batch_size": 4, "dtype": "float32"}, role="rewriter")
    job = make_rewriting(tmp_path, rewriter=rewriter, tokenizer=Path(model), sampling=SamplingParams(16, 0.0))
    spec = SourceSpec(str(write_lines(tmp_path / "c.jsonl", [*passages(12), {"text": "x"}])))
    summary = rewrite(job, spec, tmp_path / "out")
    assert (summary["undecided"], summary["skipped"], summary["copied"], summary["rewritten"]) == (12, 1, 0, 0)
    assert summary["undecided_reasons"] == {"cut off": 12}
    assert summary["spent"]["requests"] == 10  # two are duplicates
    assert summary["spent"]["flops"] == 2 * summary["rewriter"]["parameters"] * summary["spent"]["tokens"]
    rows = read_rows(tmp_path / "out")
    assert all(row["rewrite"] is None and row["suffix_ids"] and row["rewrite_tokens"] > 16 for row in rows[:12])
    assert "Nothing was decided" in (tmp_path / "out" / "rewriting.html").read_text()
