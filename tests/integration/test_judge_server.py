"""A real OpenAI-compatible vLLM server as the judge: answers, a deadline, a killed server, a new one and the cache.

The tests share one server and run in the order of the file; the last one kills it and starts it again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from transformers import AutoTokenizer

from ixt_rl.backends import is_installed
from ixt_rl.errors import BackendFailed
from ixt_rl.judging import Endpoint, EndpointBackend, Judge, JudgeCache, Question, load_rubric, parse_answer
from ixt_rl.judging import endpoint as endpoint_module
from ixt_rl.types import SamplingParams
from tests.integration.judge_model import POSITIONS, save_judge

pytestmark = [
    pytest.mark.long(
        "tests/unit/judging/test_endpoint.py",
        "tests/unit/judging/test_client.py",
        "tests/integration/test_constrained_judge.py",
    ),
    pytest.mark.skipif(not (is_installed("vllm") and is_installed("openai")), reason="needs vllm and openai"),
]
START = 400.0  # seconds; about 40 on two idle cores, far more beside other work
LONGEST = 400  # tokens of an answer; about two in three end before
WEB, SAFETY = load_rubric("web-text"), load_rubric("safety")
SAMPLING = SamplingParams(LONGEST, 1.0, seed=0)


class Server:
    """vLLM's own server on a free port, with all of its processes in one group."""

    def __init__(self, folder: str, log: Path):
        self.folder, self.log = folder, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", self.folder]
        command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8", "--max-model-len", str(POSITIONS)]
        command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        # a seeded prompt that is prefilled in parts ends vLLM on a CPU: see VLLMEngine
        command += ["--no-enable-chunked-prefill"]
        settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
        settings |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        # one process less to start: the engine's own computes
        command += ["--distributed-executor-backend", "uni"]
        settings |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START
        while not self._answers():
            text = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
            assert self.process.poll() is None, f"the server ended:\n{text}"
            assert time.monotonic() < deadline, f"no answer within {START:g} s:\n{text}"
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to the server and all that it started, also where that left the group."""
        if self.process is None:
            return
        family = []
        if psutil.pid_exists(self.process.pid):
            family = psutil.Process(self.process.pid).children(recursive=True)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended by itself
            assert self.process.poll() is not None
        for child in family:
            if child.is_running():
                child.kill()
        self.process.wait(timeout=30)
        assert psutil.wait_procs(family, timeout=30)[1] == []
        self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def backend(self, **settings) -> EndpointBackend:
        settings = {"concurrency": 8, "deadline": 120.0, **settings}
        return EndpointBackend(Endpoint("tiny", f"{self.url}/v1", **settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = Server(save_judge(folder / "model"), folder / "log")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(endpoint_module, "_BACKOFF", (0.05, 0.2))


def texts(count: int, rubric=WEB) -> list[Question]:
    return [Question(rubric, {name: f"{name} {number}" for name in rubric.fields}) for number in range(count)]


@pytest.mark.parametrize("rubric", [WEB, SAFETY], ids=lambda rubric: rubric.name)
def test_answers_keep_to_the_rubrics_schema_and_are_counted(server, rubric):
    tokenizer = AutoTokenizer.from_pretrained(server.folder)
    backend = server.backend()
    judge = Judge(backend, SAMPLING)
    answers = judge.ask(texts(12, rubric))
    judge.close()
    firsts = [answer.votes[0].replies[0] for answer in answers]
    ended = [reply for reply in firsts if reply.finish == "stop"]
    assert len(ended) >= 4, "too few answers ended for this test to mean much"
    for reply in ended:
        assert list(json.loads(reply.text)) == [rubric.comment_key, *rubric.axes]
        assert parse_answer(reply.text, rubric).undecided == 0
    for question, reply in zip(texts(12, rubric), firsts, strict=True):
        chat = rubric.messages(question.fields, as_json=True)
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert reply.prompt_tokens == len(ids)
        assert 0 < reply.completion_tokens <= LONGEST
        assert reply.finish == "stop" or reply.completion_tokens == LONGEST
    whole = [reply for reply in ended if "\ufffd" not in reply.text]  # the bytes of the others cannot be told
    for reply in whole:
        written = len(tokenizer(reply.text, add_special_tokens=False)["input_ids"])
        special = reply.completion_tokens - written  # EOS, and <bos> and <pad>, which the server leaves out of the text
        assert 1 <= special < 10
    assert whole
    assert backend.uncounted == 0 and backend.notes == []  # the schema was taken
    assert judge.tally.completion_tokens == sum(answer.completion_tokens for answer in answers) > 0
    assert judge.tally.decided >= len(ended) and judge.tally.retries == judge.tally.failed == 0


def test_a_seeded_answer_is_the_same_alone(server):
    """One token of some hundred could differ, where the two best are within the rounding of batched arithmetic."""
    judge = Judge(server.backend(), SAMPLING)
    together = judge.ask(texts(8))
    alone = judge.ask(texts(1))
    other = Judge(judge.backend, SamplingParams(LONGEST, 1.0, seed=1)).ask(texts(1))
    judge.close()
    assert alone[0].votes[0].replies[0].text == together[0].votes[0].replies[0].text
    assert other[0].votes[0].replies[0].text != alone[0].votes[0].replies[0].text


def test_a_deadline_that_is_hit_costs_its_retries_and_its_question_alone(server):
    endless = server.backend(deadline=0.5, retries=1, constrain=False, extra_body={"ignore_eos": True})
    judge = Judge(endless, SamplingParams(1500, 1.0, seed=0))
    (answer,) = judge.ask(texts(1))
    judge.close()
    assert answer.verdict.score is None and answer.verdict.evidence == "failed: no answer within 0.5 s"
    assert (judge.tally.requests, judge.tally.retries, judge.tally.failed, judge.tally.repairs) == (1, 1, 1, 0)
    judge = Judge(server.backend(), SAMPLING)
    assert judge.ask(texts(1))[0].votes[0].replies[0].finish in ("stop", "length")  # the server goes on
    judge.close()


def test_a_prompt_that_is_too_long_is_refused(server):
    judge = Judge(server.backend(), SAMPLING)
    answer, other = judge.ask([Question(WEB, {"text": "x" * 2 * POSITIONS}), *texts(1)])
    judge.close()
    assert answer.verdict.evidence.startswith("refused: status 400")
    assert other.votes[0].replies[0].completion_tokens > 0
    assert (judge.tally.refused, judge.tally.retries) == (1, 0)


def test_a_killed_server_stops_the_job_and_the_cache_carries_it_on(server, tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    judge = Judge(server.backend(concurrency=4, retries=2), SAMPLING, cache=cache, patience=6)
    before = {}
    with pytest.raises(BackendFailed, match=r"6 requests failed in a row(.|\n)*no connection"):
        for index, answer in judge.stream(texts(24)):
            before[index] = answer
            if len(before) == 8:
                server.kill()
    # a question whose repair turn failed has an answer too, but another one once the server is back
    answered = {i: answer for i, answer in before.items() if all(one.finish != "failed" for one in answer.replies)}
    failed = [answer for answer in before.values() if answer.replies[0].finish == "failed"]
    assert len(answered) >= 8 and len(before) < 24
    assert all(answer.verdict.evidence.startswith("failed: no connection") for answer in failed)
    assert judge.tally.failed == 6 and judge.tally.retries == 12
    kept, asked = len(cache), judge.tally.requests

    patient = Judge(server.backend(retries=1), SAMPLING)  # without a limit in reach, a dead server is undecided
    assert [answer.verdict.evidence[:21] for answer in patient.ask(texts(3))] == ["failed: no connection"] * 3
    assert (patient.tally.decided, patient.tally.failed, patient.tally.retries) == (0, 3, 3)
    patient.close()

    server.start()
    answers = judge.ask(texts(24))
    judge.close()
    assert judge.tally.cached == kept
    assert all(answers[index].text == answer.text for index, answer in answered.items())
    replies = sum(len(answer.replies) for answer in answers)
    assert judge.tally.requests - asked == replies - kept
    assert not any(reply.finish == "failed" for answer in answers for reply in answer.replies)
    assert sum(answer.level is not None for answer in answers) >= 8
