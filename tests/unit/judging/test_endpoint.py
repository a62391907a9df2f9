"""The endpoint's policy against a real HTTP server that fails in all the usual ways."""

from __future__ import annotations

import json
import time

import pytest

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.judging import Endpoint, EndpointBackend, Judge, Question, load_rubric
from ixt_rl.judging import endpoint as endpoint_module
from ixt_rl.types import SamplingParams
from tests.unit.judging.server import completion, serve

SAMPLING = SamplingParams(max_new_tokens=50, temperature=0.7, top_p=0.9, top_k=20)
SAFETY = load_rubric("safety")
YES = '{"reason": "fine", "verdict": "yes"}'


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(endpoint_module, "_BACKOFF", (0.02, 0.2))


def ask(served, count=1, prices=(0.0, 0.0), **settings):
    """(answers, tally) of `count` different questions."""
    judge = Judge(EndpointBackend(served.endpoint(**settings)), SAMPLING, prices=prices)
    try:
        questions = (Question(SAFETY, {"prefix": "p", "continuation": str(number)}) for number in range(count))
        return judge.ask(questions), judge.tally
    finally:
        judge.close()


def test_what_is_sent():
    with serve(lambda body, number: YES) as served:
        (answer,), tally = ask(served, extra_body={"chat_template_kwargs": {"x": 1}}, prices=(10.0, 100.0))
    (body,) = served.bodies
    assert body["model"] == "judge-1"
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.7, 0.9, 20, 50)
    assert body["chat_template_kwargs"] == {"x": 1}
    assert body["response_format"]["json_schema"]["schema"] == SAFETY.answer_schema()
    assert "seed" not in body
    assert answer.verdict.score == 1 and answer.text == YES and answer.critique == "fine"
    assert (tally.prompt_tokens, tally.completion_tokens) == (100, 20)
    assert tally.cost == pytest.approx((100 * 10 + 20 * 100) / 1e6)
    assert answer.replies[0].seconds > 0


@pytest.mark.parametrize(
    "failure",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}),
        (500, b"oops", {}),
        (503, {}, {}),
        (408, {}, {}),
        None,
    ],
    ids=["429", "500", "503", "408", "broken connection"],
)
def test_transport_errors_are_retried(failure):
    with serve(lambda body, number: failure if number < 2 else YES) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.score == 1
    assert len(served.bodies) == 3
    assert (tally.retries, tally.failed, tally.requests) == (2, 0, 1)


def test_pauses_grow_and_heed_retry_after():
    with serve(lambda body, number: (429, {}, {"Retry-After": "0.15"}) if number < 2 else YES) as served:
        ask(served)
    first, second, third = served.times
    assert second - first >= 0.15 and third - second >= 0.15


def test_after_the_last_retry_it_is_undecided_with_the_reason():
    with serve(lambda body, number: (500, {"error": {"message": "out of memory"}}, {})) as served:
        (answer,), tally = ask(served, retries=2)
    assert len(served.bodies) == 3
    assert answer.verdict.score is None and answer.verdict.label == "undecided"
    assert answer.verdict.evidence.startswith("failed: status 500") and "out of memory" in answer.verdict.evidence
    assert (tally.failed, tally.retries, tally.repairs) == (1, 2, 0)
    assert tally.undecided == {"failed": 1}


def test_the_deadline_holds_for_each_attempt():
    def respond(body, number):
        time.sleep(1.0 if number == 0 else 0.0)
        return YES

    with serve(respond) as served:
        (answer,), tally = ask(served, deadline=0.2)
        assert answer.verdict.score == 1 and tally.retries == 1
        (late,), _ = ask(served, deadline=1e-3, retries=1)
    assert late.verdict.evidence == "failed: no answer within 0.001 s"


@pytest.mark.parametrize(
    "body",
    [b"<html>gateway</html>", b"{", b"[]", b'"text"', b"null", {}, {"choices": []}, {"choices": [{"message": None}]},
     {"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}, {"choices": "many"}, {"error": "no"}],
)  # fmt: skip
def test_garbage_with_status_200_is_undecided_and_not_retried(body):
    with serve(lambda request, number: (200, body, {})) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.score is None
    assert answer.verdict.evidence.startswith("failed: not a chat completion")
    assert (len(served.bodies), tally.failed) == (1, 1)


def test_other_refusals_are_not_retried():
    message = "This model's maximum context length is 4096 tokens"
    with serve(lambda body, number: (400, {"error": {"message": message}}, {})) as served:
        (answer,), tally = ask(served)
    assert (len(served.bodies), tally.refused, tally.failed) == (1, 1, 0)
    assert "maximum context length" in answer.verdict.evidence
    with serve(lambda body, number: (200, completion("", "content_filter"), {})) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.evidence == "refused: finish reason 'content_filter'"
    assert (len(served.bodies), tally.refused) == (1, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_at_once(status):
    with serve(lambda body, number: (status, {"error": {"message": "no"}}, {})) as served:
        with pytest.raises(BackendFailed, match=r"judge-1(.|\n)*OPENAI_API_KEY"):
            ask(served, count=50, concurrency=2)
        assert len(served.bodies) <= 6


def test_nobody_at_the_address():
    with serve(lambda body, number: YES) as served:
        pass
    (answer,), tally = ask(served, retries=1)
    assert answer.verdict.evidence.startswith("failed: no connection")
    assert (tally.failed, tally.retries) == (1, 1)


def test_dialects_are_learnt_once():
    def respond(body, number):
        if "response_format" in body:
            return 400, {"error": {"message": "response_format is not supported"}}, {}
        if "max_tokens" in body:
            return 400, {"error": {"message": "'max_tokens': use 'max_completion_tokens' instead"}}, {}
        return YES

    with serve(respond) as served:
        answers, tally = ask(served, count=3, concurrency=1)
    assert [answer.verdict.score for answer in answers] == [1, 1, 1]
    assert len(served.bodies) == 5
    assert tally.retries == 0


def test_requests_under_way_are_limited():
    def respond(body, number):
        time.sleep(0.05)
        return YES

    with serve(respond) as served:
        answers, _ = ask(served, count=12, concurrency=3)
    assert len(answers) == 12
    assert served.most_under_way == 3


def test_requests_a_minute_are_limited():
    with serve(lambda body, number: YES) as served:
        ask(served, count=5, requests_per_minute=600)
    gaps = [later - earlier for earlier, later in zip(served.times, served.times[1:], strict=False)]
    assert served.times[-1] - served.times[0] >= 0.38
    assert min(gaps) > 0.05


def test_answers_find_their_questions_whatever_the_order():
    def respond(body, number):
        safe = int(body["messages"][0]["content"].split("<continuation>\n")[1].split("\n")[0]) % 2 == 0
        time.sleep(0.03 if safe else 0.0)
        return json.dumps({"reason": "", "verdict": "yes" if safe else "no"})

    with serve(respond) as served:
        answers, _ = ask(served, count=20, concurrency=8)
    assert [answer.verdict.score for answer in answers] == [1, 0] * 10


def test_a_stream_left_early_does_not_answer_the_next():
    def respond(body, number):
        time.sleep(0.1)
        return YES if "old" not in body["messages"][0]["content"] else '{"verdict": "no"}'

    with serve(respond) as served:
        backend = EndpointBackend(served.endpoint(concurrency=4))
        stream = Judge(backend, SAMPLING).stream(
            Question(SAFETY, {"prefix": "old", "continuation": str(n)}) for n in range(9)
        )
        next(stream)
        stream.close()
        answers = Judge(backend, SAMPLING).ask([Question(SAFETY, {"prefix": "new", "continuation": "c"})] * 6)
        backend.close()
        backend.close()  # twice does no harm
    assert [answer.verdict.score for answer in answers] == [1] * 6


def test_missing_token_counts_are_counted():
    body = {key: value for key, value in completion(YES).items() if key != "usage"}
    with serve(lambda request, number: (200, body, {})) as served:
        backend = EndpointBackend(served.endpoint())
        Judge(backend, SAMPLING).ask([Question(SAFETY, {"prefix": "p", "continuation": "c"})])
        backend.close()
    assert backend.uncounted == 1


def test_lone_surrogates_survive_the_wire():
    with serve(
        lambda body, number: (200, json.dumps(completion('{"reason": "\ud800", "verdict": "yes"}')).encode(), {})
    ) as served:
        judge = Judge(EndpointBackend(served.endpoint()), SAMPLING)
        (answer,) = judge.ask([Question(SAFETY, {"prefix": "\udfff", "continuation": "c"})])
        judge.close()
    assert answer.verdict.score == 1
    answer.critique.encode("utf-8")
    answer.text.encode("utf-8")


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        EndpointBackend(Endpoint("gpt"))


def test_the_name_has_all_that_answers_depend_on():
    def name(**settings):
        backend = EndpointBackend(Endpoint("m", "http://127.0.0.1:1/v1", **settings))
        backend.close()
        return backend.name

    names = {name(), name(constrain=False), name(extra_body={"a": 1}), name(extra_body={"a": 2})}
    assert len(names) == 4
    assert name(concurrency=3) == name()
