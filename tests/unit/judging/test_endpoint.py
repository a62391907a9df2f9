"""The endpoint's policy against a real HTTP server that fails in all the usual ways."""

from __future__ import annotations

import gzip
import json
import sqlite3
import time
from dataclasses import replace

import pytest

from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.judging import Endpoint, EndpointBackend, Judge, JudgeCache, Question, load_rubric
from ixt_rl.judging import endpoint as endpoint_module
from ixt_rl.judging.completion import ServerError, read_completion
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


GARBAGE = [
    b"<html>gateway</html>", b"{", b"[]", b'"text"', b"null", b"", b"\xff\xfe", b"[" * 100_000, {}, {"choices": []},
    {"choices": [{"message": None}]}, {"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]},
    {"choices": [{"message": {"content": [3]}}]}, {"choices": "many"}, {"choices": [None]}, {"choices": {"0": 1}},
    json.dumps(completion(YES)).encode()[:60],
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_completion_is_tried_again(body):
    with serve(lambda request, number: (200, body, {}) if number < 2 else YES) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.score == 1
    assert (len(served.bodies), tally.retries, tally.failed) == (3, 2, 0)


def test_what_never_is_a_completion_is_undecided():
    with serve(lambda request, number: (200, b"<html>gateway</html>", {"Content-Type": "text/html"})) as served:
        (answer,), tally = ask(served, retries=2)
    assert answer.verdict.score is None
    assert answer.verdict.evidence.startswith("failed: not a chat completion")
    assert (len(served.bodies), tally.failed) == (3, 1)


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


ERRORS = [
    {"code": 429}, {"code": "429"}, {"code": 503, "message": "busy"}, {"type": "rate_limit_error"}, "overloaded",
    {"code": "server_error"}, {"type": "overloaded_error", "message": "x"}, {"message": "?"}, {"code": 0}, ["?"],
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("where", ["body", "choice"])
def test_an_error_in_a_response_of_200_is_retried_as_its_status_is(error, where):
    wrong = (
        {"error": error} if where == "body" else {"choices": [completion("", "error")["choices"][0] | {"error": error}]}
    )
    with serve(lambda request, number: (200, wrong, {}) if number == 0 else YES) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.score == 1
    assert (len(served.bodies), tally.retries) == (2, 1)


BODIES = [
    {"object": "error", "message": "overloaded", "code": 503}, {"detail": "Too many requests"},
    {"errors": [{"message": "x", "code": 429}]}, {"message": "Rate exceeded"}, {"error": [{"code": 429.0}]},
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_an_error_in_a_response_of_200_is_one_under_whatever_key_it_stands(body):
    with pytest.raises(ServerError) as failed:
        read_completion(json.dumps(body).encode())
    assert failed.value.status in (429, 500, 503)


def test_an_error_in_a_response_of_200_can_be_final():
    refused = {"error": {"code": 401, "message": "no"}}
    with serve(lambda body, number: (200, refused, {})) as served, pytest.raises(BackendFailed, match="401"):
        ask(served)
    message = "maximum context length is 5 tokens"
    with serve(lambda body, number: (200, {"error": {"code": 400, "message": message}}, {})) as served:
        _, tally = ask(served)
    assert (len(served.bodies), tally.refused) == (1, 1)


STOPS = [
    "stop", "eos", "eos_token", "end_turn", "", None, "stop_sequence", "STOP", "COMPLETE", {"type": "stop"}, "end",
    "reached_eos", "unknown", "OTHER", "<|im_end|>", 1,
]  # fmt: skip
CUTS = ["length", "max_tokens", "MAX_TOKENS", "max_new_tokens", "model_length", {"type": "length", "length": 5}]
LOOPS = ["repetition", "REPETITION_DETECTED", "loop"]
REFUSALS = [
    "content_filter",
    "SAFETY",
    "refusal",
    "RECITATION",
    "content_filtered",
    "guardrail_intervened",
    "tool_calls",
]


@pytest.mark.parametrize("reason", STOPS, ids=str)
def test_a_judge_that_ended_has_ended_whatever_the_server_calls_it(reason):
    with serve(lambda body, number: (200, completion(YES, reason), {})) as served:
        (answer,), tally = ask(served)
    assert (answer.verdict.score, len(served.bodies), tally.refused) == (1, 1, 0)


def test_no_finish_reason_at_all_is_an_end():
    body = completion(YES)
    del body["choices"][0]["finish_reason"]
    with serve(lambda request, number: (200, body, {})) as served:
        (answer,), _ = ask(served)
    assert answer.verdict.score == 1


@pytest.mark.parametrize("reason", CUTS, ids=str)
def test_an_answer_cut_at_the_limit_is_cut_whatever_the_server_calls_it(reason):
    with serve(lambda body, number: (200, completion(YES, reason), {})) as served:
        (answer,), _ = ask(served)
    assert answer.verdict.evidence.startswith("cut off") and len(served.bodies) == 2  # the second is the repair


@pytest.mark.parametrize("reason", LOOPS)
def test_an_answer_that_the_server_cut_in_a_loop_is_looped(reason):
    with serve(lambda body, number: (200, completion(YES, reason), {})) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.evidence.startswith(f"looped: finish reason {reason!r}")
    assert (tally.looped, len(served.bodies)) == (2, 2)  # the second is the repair


def test_what_looped_is_shown_back_without_its_repeats():
    said = "Let me see." + " Again it is safe;" * 300
    with serve(lambda body, number: (200, completion(said, "repetition"), {})) as served:
        ask(served)
    *_, own, _demand = served.bodies[1]["messages"]
    assert own == {"role": "assistant", "content": "Let me see. Again it is safe;"}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_filtered_answer_is_refused_whatever_the_server_calls_it(reason):
    with serve(lambda body, number: (200, completion(YES, reason), {})) as served:
        (answer,), tally = ask(served)
    assert (answer.verdict.score, tally.refused, len(served.bodies)) == (None, 1, 1)
    assert answer.verdict.evidence == f"refused: finish reason {reason!r}"


def test_a_refusal_in_a_message_of_its_own_is_refused():
    with serve(lambda body, number: (200, completion(None, "stop", refusal="I won't."), {})) as served:
        (answer,), tally = ask(served)
    assert answer.verdict.evidence == "refused: I won't." and tally.refused == 1


PARTS = [
    [{"type": "text", "text": YES}],
    [{"type": "thinking", "thinking": [{"type": "text", "text": '{"verdict": "no"}'}]}, {"type": "text", "text": YES}],
    [{"type": "text", "text": YES[:9]}, {"type": "text", "text": YES[9:]}],
    [{"type": "reasoning", "text": '{"verdict": "no"}'}, {"type": "output_text", "text": YES}],
    [YES[:9], YES[9:]],
    [{"type": "text", "text": {"value": YES}}],
    {"type": "text", "text": YES},
    [{"type": "text", "text": None}, {"type": "text", "text": YES}],
    [{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": YES}, None],
    [{"type": "text", "text": '{"verdict": "no"}', "thought": True}, {"type": "text", "text": YES}],
]


@pytest.mark.parametrize("parts", PARTS, ids=range(len(PARTS)))
def test_content_in_parts_is_their_text(parts):
    with serve(lambda body, number: (200, completion(parts), {})) as served:
        (answer,), _ = ask(served)
    assert (answer.verdict.score, answer.text, len(served.bodies)) == (1, YES, 1)


USAGES = [
    None, {}, [], "many", {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": 5},
    {"prompt_tokens": -(10**30), "completion_tokens": 1e300}, {"prompt_tokens": 1e400, "completion_tokens": 10**18},
    {"prompt_tokens": "100", "completion_tokens": "20"}, {"prompt_tokens": True, "completion_tokens": 2.5},
]  # fmt: skip


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_impossible_token_counts_are_uncounted_and_cost_no_verdict(usage, tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    question = Question(SAFETY, {"prefix": "p", "continuation": "c"})
    with serve(lambda request, number: (200, completion(YES) | {"usage": usage}, {})) as served:
        backend = EndpointBackend(served.endpoint())
        judge = Judge(backend, SAMPLING, cache=cache, prices=(1.0, 1.0))
        (answer,) = judge.ask([question])
        backend.close()
    assert (answer.verdict.score, backend.uncounted) == (1, 1)
    assert 0 <= judge.tally.prompt_tokens <= 5 and judge.tally.completion_tokens == 0
    assert len(cache) == 1


def test_a_cache_with_impossible_counts_in_it_goes_on(tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    question = Question(SAFETY, {"prefix": "p", "continuation": "c"})

    def asked():
        with serve(lambda request, number: YES) as served:
            judge = Judge(EndpointBackend(served.endpoint()), SAMPLING, cache=cache)
            (answer,) = judge.ask([question])
            judge.close()
            return answer, len(served.bodies)

    asked()
    for poison, requests in (
        ({"prompt_tokens": -(10**30), "completion_tokens": 1e300, "seconds": 1e400, "retries": -1}, 0),
        ({"text": 5}, 1),
        ({"unknown": 5}, 1),
    ):
        connection = sqlite3.connect(tmp_path / "cache.sqlite")
        kept = json.loads(connection.execute("SELECT reply FROM replies").fetchone()[0])
        connection.execute("UPDATE replies SET reply = ?", (json.dumps(kept | poison),))
        connection.commit()
        connection.close()
        answer, sent = asked()
        assert (answer.verdict.score, sent, len(cache)) == (1, requests, 1)
        assert 0 <= answer.prompt_tokens + answer.completion_tokens <= 120
        assert asked()[1] == 0


def test_one_forbidden_text_is_refused_and_the_others_are_judged():
    def respond(body, number):
        flagged = "<continuation>\n3\n" in body["messages"][0]["content"]
        return (403, {"error": {"message": "this input was flagged"}}, {}) if flagged else YES

    with serve(respond) as served:
        answers, tally = ask(served, count=40)
        assert [answer.verdict.score for answer in answers] == [1] * 3 + [None] + [1] * 36
        assert answers[3].verdict.evidence.startswith("refused: status 403") and tally.refused == 1
        (first,), _ = ask(served, count=1, retries=0)
        assert first.verdict.score == 1


def test_a_flagged_first_text_does_not_end_the_job():
    def respond(body, number):
        return (403, {"error": {"code": 403, "message": "your input was flagged"}}, {}) if number == 0 else YES

    with serve(respond) as served:
        answers, _ = ask(served, count=3, concurrency=1)
    assert [answer.verdict.score for answer in answers] == [None, 1, 1]


def test_forbidden_again_and_again_is_the_key():
    def respond(body, number):
        return YES if number < 3 else (403, {"error": {"message": "no"}}, {})

    with serve(respond) as served, pytest.raises(BackendFailed, match="the key may not do this"):
        ask(served, count=100, concurrency=1)
    assert len(served.bodies) == 3 + 16


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


UNSUPPORTED = [
    ("temperature", "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value"
     " is supported."),
    ("temperature", "temperature is not supported by this model"),
    ("temperature", "`temperature` is deprecated for this model."),
    ("top_p", "top_p: Extra inputs are not permitted"),
    ("top_p", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
    ("temperature,top_p", "Unsupported parameters: temperature, top_p"),
    ("top_p", "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled"),
    ("temperature", "temperature is not supported in this context"),
    ("temperature", "body.temperature: Extra inputs are not permitted"),
    ("temperature,top_p", "Neither temperature nor top_p may be set for reasoning models"),
    ("top_p", "top_p cannot be set when temperature is set"),
    ("top_p", "you can only set one of top_p and temperature"),
    ("top_p", "The value of top_p is fixed at 0.95 for this model"),
    ("seed", "Unknown name \"seed\": Cannot find field."),
    ("seed", "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"),
    ("top_k", "Unrecognized request argument supplied: top_k"),
    ("response_format", "This model does not support json_schema"),
    ("response_format", "structured outputs are not supported"),
    ("stop", "Unsupported parameter: 'stop' is not supported with this model."),
    ("max_tokens", "Unsupported parameter: max_tokens"),
    ("chat_template_kwargs", "unexpected keyword argument 'chat_template_kwargs'"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), UNSUPPORTED)
@pytest.mark.parametrize("status", [400, 422, 200])
def test_a_field_that_the_server_does_not_take_is_left_out_from_then_on(fields, message, status):
    """The message says it, whatever its words; what else was asked stays."""
    out = set(fields.split(","))

    def respond(body, number):
        error = {"message": message} | ({"code": 400} if status == 200 else {})
        return (status, {"error": error}, {}) if out & body.keys() else YES

    settings = {"extra_body": {"stop": ["\n\n"], "chat_template_kwargs": {"enable_thinking": True}}, "concurrency": 1}
    with serve(respond) as served:
        backend = EndpointBackend(served.endpoint(**settings))
        judge = Judge(backend, replace(SAMPLING, seed=1))
        answers = judge.ask(Question(SAFETY, {"prefix": "p", "continuation": str(n)}) for n in range(3))
        judge.close()
    assert [answer.verdict.score for answer in answers] == [1, 1, 1]
    assert len(served.bodies) == 4 and judge.tally.retries == 0
    assert served.bodies[0].keys() - served.bodies[1].keys() == out
    assert len(backend.notes) == len(out) and all(name in " ".join(backend.notes) for name in out)


def test_the_field_that_the_error_object_names_is_left_out():
    def respond(body, number):
        error = {"message": "This is not supported.", "param": "temperature", "code": "unsupported_value"}
        return (400, {"error": error}, {}) if "temperature" in body else YES

    with serve(respond) as served:
        (answer,), _ = ask(served)
    assert answer.verdict.score == 1 and len(served.bodies) == 2


@pytest.mark.parametrize(
    "message",
    ["temperature must be between 0 and 0.5", "temperature cannot be greater than 0.5", "top_p: 3 is too large",
     "max_tokens is too large: 50. This model supports at most 9 completion tokens", "invalid model"],
)  # fmt: skip
def test_a_bad_value_is_not_a_field_to_leave_out(message):
    with serve(lambda body, number: (400, {"error": {"message": message}}, {})) as served:
        (answer,), tally = ask(served)
    assert (len(served.bodies), tally.failed) == (1, 1)
    assert message[:20] in answer.verdict.evidence


def test_a_prompt_that_is_too_long_is_not_asked_in_another_dialect():
    message = (
        "'max_tokens' or 'max_completion_tokens' is too large: 50. This model's maximum context length is 40 tokens"
    )
    with serve(lambda body, number: (400, {"error": {"message": message}}, {})) as served:
        _, tally = ask(served)
    assert (len(served.bodies), tally.refused) == (1, 1)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # another name, the same with another port
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_refused_and_nothing_goes_there(status, name):
    with serve(lambda body, number: YES) as other:
        target = other.base_url.replace("127.0.0.1", name) + "/chat/completions"
        with (
            serve(lambda body, number: (status, b"", {"Location": target})) as served,
            pytest.raises(BackendFailed, match="redirect to http://") as failed,
        ):
            ask(served, count=50, concurrency=2)
    assert "base_url" in str(failed.value) and len(served.bodies) <= 6
    assert other.bodies == [] and other.others == 0


def test_a_redirect_on_the_same_host_is_followed_with_the_whole_request():
    with serve(
        lambda body, number: (308, b"", {"Location": served.base_url + "/new/chat/completions"}) if number == 0 else YES
    ) as served:
        (answer,), _ = ask(served)
    assert answer.verdict.score == 1
    assert served.bodies[0] == served.bodies[1]


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_reply_beyond_the_limit_is_not_read(status, tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    large = json.dumps(completion("x" * 1_000_000)).encode()
    with serve(lambda body, number: (status, large, {})) as served:
        judge = Judge(EndpointBackend(served.endpoint(max_reply_bytes=100_000)), SAMPLING, cache=cache)
        (answer,) = judge.ask([Question(SAFETY, {"prefix": "p", "continuation": "c"})])
        judge.close()
    assert answer.verdict.evidence == "failed: a reply of more than 100000 bytes"
    assert (len(served.bodies), len(cache)) == (1, 0)


def test_a_compressed_reply_is_not_unpacked():
    bomb = gzip.compress(b" " * 50_000_000)
    with serve(lambda body, number: (200, bomb, {"Content-Encoding": "gzip"})) as served:
        (answer,), _ = ask(served)
    assert served.headers[0]["Accept-Encoding"] == "identity"
    assert answer.verdict.evidence.startswith("failed: a compressed reply")


@pytest.mark.parametrize(
    "settings",
    [{"concurrency": 0}, {"retries": -1}, {"deadline": 0}, {"deadline": float("inf")}, {"requests_per_minute": 0},
     {"max_reply_bytes": 10}, {"base_url": "127.0.0.1:8000/v1"}, {"base_url": "ftp://host/v1"},
     {"base_url": "http://host:port/v1"}, {"base_url": "http:///v1"}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Endpoint("m", **settings)


@pytest.mark.parametrize(
    "settings",
    [{"base_url": "http://host/v1?api_key=hunter2hunter2"}, {"base_url": "http://host/v1#hunter2hunter2"},
     {"base_url": "user:hunter2hunter2@host/v1"}, {"api_key_env": "sk-hunter2hunter2"},
     {"api_key_env": "hunter2hunter2ofTheEnvironment"}, {"extra_body": {"a": [{"api_key": "hunter2hunter2"}]}},
     {"extra_body": {"openai_api_key": "hunter2hunter2"}}, {"extra_body": {"bearer": "hunter2hunter2"}},
     {"extra_body": {"user": "hunter2hunter2ofTheEnvironment"}}],
    ids=str,
)  # fmt: skip
def test_a_key_among_the_settings_is_refused_and_not_shown(settings, monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "hunter2hunter2ofTheEnvironment")
    with pytest.raises(ConfigError, match=next(iter(settings))) as failed:
        Endpoint("m", **settings)
    assert "hunter2" not in str(failed.value)


def test_requests_under_way_are_limited():
    def respond(body, number):
        time.sleep(0.05)
        return YES

    with serve(respond) as served:
        answers, _ = ask(served, count=12, concurrency=3)
    assert len(answers) == 12
    assert served.most_under_way == 3


def test_requests_a_minute_are_limited():
    begun = time.monotonic()
    with serve(lambda body, number: YES) as served:
        ask(served, count=5, requests_per_minute=600)
    # a busy machine may hold any of them up, and lets none come early
    assert all(came - begun >= 0.1 * place for place, came in enumerate(served.times))


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
