"""The client over a Python function and over a server: votes, orders, repair, counts."""

from __future__ import annotations

import json

import pytest

from ixt_rl.errors import BackendFailed, DataError
from ixt_rl.judging import EndpointBackend, FunctionBackend, Judge, JudgeCache, Question, Reply, load_rubric
from ixt_rl.types import Feedback, SamplingParams, Verdict
from tests.unit.judging.malformed import malformed_answers
from tests.unit.judging.server import completion, serve

SAMPLING = SamplingParams(max_new_tokens=50, temperature=0.0)
VERIFIER = load_rubric("verifier")
PAIR = load_rubric("pairwise-quality")
WEB = load_rubric("web-text")


def problem(solution: str) -> Question:
    return Question(VERIFIER, {"problem": "1 + 1", "solution": solution, "reference": "2"})


def pair(a: str, b: str) -> Question:
    return Question(PAIR, {"prefix": "Once", "a": a, "b": b})


def text(words: str = "text") -> Question:
    return Question(WEB, {"text": words})


def scores(value: int = 4, **changes) -> str:
    return json.dumps({"critique": "why"} | dict.fromkeys(WEB.axes, value) | changes)


def test_a_function_as_judge():
    def verify(fields):
        if fields["solution"] == "broken":
            raise ZeroDivisionError("division by zero")
        if fields["solution"] == "verdict":
            return Verdict(1.0, "right", "2 = 2")
        return None if fields["solution"] == "?" else fields["solution"] == fields["reference"]

    judge = Judge(FunctionBackend(verify), SAMPLING)
    answers = judge.ask(problem(solution) for solution in ["2", "3", "?", "broken", "verdict"])
    assert [answer.verdict.score for answer in answers] == [1, 0, None, None, 1]
    assert [answer.verdict.label for answer in answers] == ["right", "wrong", "undecided", "undecided", "right"]
    assert [answer.level for answer in answers] == [5, 1, None, None, 5]
    assert "ZeroDivisionError: division by zero" in answers[3].verdict.evidence
    assert answers[4].feedback == Feedback(5, {}, "2 = 2", judge.backend.name)
    tally = judge.tally
    assert (tally.questions, tally.decided, tally.requests, tally.failed, tally.repairs) == (5, 3, 5, 1, 0)
    assert tally.undecided == {"no label": 1, "failed": 1}


def test_a_function_that_scores_axes_is_checked_like_any_judge():
    def rate(fields):
        return dict.fromkeys(WEB.axes, len(fields["text"])) | {"critique": "by length", "expertise": Verdict(0.5, "")}

    good, bad = Judge(FunctionBackend(rate, "length"), SAMPLING).ask([text("1234"), text("123456")])
    assert good.level == 4 and good.judge == "length"
    assert good.scores["expertise"] == 3 and good.axes["expertise"].score == 0.5 and good.axes["overall"].score == 0.75
    assert bad.level is None and bad.scores == {"expertise": 3}
    assert bad.feedback == Feedback(None, {"expertise": 3}, "by length", "length")


def test_a_stream_draws_no_more_questions_than_it_has_room_for():
    drawn = []

    def questions():
        for number in range(1000):
            drawn.append(number)
            yield problem(str(number))

    backend = FunctionBackend(lambda fields: True)
    stream = Judge(backend, SAMPLING).stream(questions())
    next(stream)
    assert len(drawn) == backend.capacity
    stream.close()


@pytest.mark.parametrize(
    ("prefers", "score", "label", "consistent"),
    [
        (lambda a, b: "A" if len(a) > len(b) else "B", 1.0, "A", True),
        (lambda a, b: "A", 0.5, "tie", False),  # whatever stands first
        (lambda a, b: "tie", 0.5, "tie", True),
        (lambda a, b: "A" if len(a) > len(b) else "tie", 0.75, "A", False),
        (lambda a, b: "A" if len(a) > len(b) else None, None, "undecided", None),
    ],
)
def test_both_orders_of_a_pair(prefers, score, label, consistent):
    judge = Judge(FunctionBackend(lambda fields: prefers(fields["a"], fields["b"])), SAMPLING)
    (answer,) = judge.ask([pair("long", "b")])
    assert (answer.verdict.score, answer.verdict.label, answer.consistent) == (score, label, consistent)
    assert (judge.tally.pairs, judge.tally.disagreed) == (consistent is not None, consistent is False)
    (other,) = judge.ask([pair("b", "long")])
    if score is not None:
        assert other.verdict.score == 1 - score


def test_repeats_are_averaged_over_the_decided():
    replies = ["4", "5", "oops", "oops", "3"]
    with serve(lambda body, number: scores(overall=replies[number]) if number < 5 else "oops") as served:
        backend = EndpointBackend(served.endpoint(concurrency=1))
        judge = Judge(backend, SamplingParams(50, 1.0, seed=10), repeats=4)
        (answer,) = judge.ask([text()])
        judge.close()
    assert [vote.reading.values["overall"] for vote in answer.votes] == [4, 5, 3, None]
    assert answer.scores["overall"] == pytest.approx(4.0)
    assert answer.level == 4
    assert len({body["seed"] for body in served.bodies}) == len(served.bodies)  # repeats are other samples


def test_one_repair_turn():
    def respond(body, number):
        if len(body["messages"]) == 1:
            return "<think>hm, 3?</think>I like it."
        assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
        assert body["messages"][1]["content"] == "I like it."
        assert "no verdict: there is no JSON object" in body["messages"][2]["content"]
        assert WEB.answer_format() in body["messages"][2]["content"]
        return scores(2)

    with serve(respond) as served:
        judge = Judge(EndpointBackend(served.endpoint(constrain=False)), SAMPLING)
        (answer,) = judge.ask([text()])
        judge.close()
    assert answer.level == 2
    assert (answer.prompt_tokens, answer.completion_tokens) == (200, 40)
    assert [reply.text for reply in answer.replies] == ["<think>hm, 3?</think>I like it.", scores(2)]
    assert (judge.tally.repairs, judge.tally.repaired, judge.tally.requests) == (1, 1, 2)


def test_a_repair_that_is_no_better_leaves_the_first_reading():
    with serve(lambda body, number: scores(4, overall=9) if len(body["messages"]) == 1 else "no") as served:
        judge = Judge(EndpointBackend(served.endpoint()), SAMPLING)
        (answer,) = judge.ask([text()])
        judge.close()
    assert answer.scores == dict.fromkeys([name for name in WEB.axes if name != "overall"], 4)
    assert answer.verdict.score is None and answer.verdict.evidence.startswith("out of range: 9 ")
    assert (judge.tally.repairs, judge.tally.repaired) == (1, 0)
    assert judge.tally.undecided == {"out of range": 1}


def test_garbage_from_a_server_is_undecided_and_counted():
    """Every tenth of the malformed answers through the wire; the repair gets the next one."""
    answers = [answer for _, answer in malformed_answers(WEB, 0)][::10]
    with serve(lambda body, number: answers[number % len(answers)]) as served:
        judge = Judge(EndpointBackend(served.endpoint()), SAMPLING)
        found = judge.ask(text(str(number)) for number in range(100))
        judge.close()
    assert all(answer.level is None and answer.scores == {} for answer in found)
    assert (judge.tally.questions, judge.tally.decided, judge.tally.repairs, judge.tally.requests) == (100, 0, 100, 200)
    assert sum(judge.tally.undecided.values()) == 100 * len(WEB.axes)


@pytest.mark.parametrize("rubric", [WEB, PAIR], ids=lambda rubric: rubric.name)
def test_a_thousand_malformed_answers_leave_the_client_with_a_thousand_undecided(rubric):
    """Every one of them, and its repair no better: nothing raises, nothing becomes a score, all are counted."""
    answers = malformed_answers(rubric, seed=1)

    class Garbage(FunctionBackend):
        converses = True

        def _call(self, request):
            return Reply(answers[int(request.fields["text" if rubric is WEB else "a"])][1], "stop", 1, 1)

    fields = [{"text": str(n)} if rubric is WEB else {"prefix": "", "a": str(n), "b": str(n)} for n in range(1000)]
    judge = Judge(Garbage(len), SamplingParams(50))
    found = judge.ask(Question(rubric, each) for each in fields)
    assert all(answer.verdict.score is None and not answer.scores and answer.level is None for answer in found)
    assert (judge.tally.questions, judge.tally.decided, judge.tally.repaired) == (1000, 0, 0)
    votes = 2000 if rubric.pair else 1000
    assert sum(judge.tally.undecided.values()) == votes * len(rubric.axes)


def test_what_is_cut_off_is_a_draft():
    with serve(lambda body, number: (200, completion(scores(4), "length"), {})) as served:
        judge = Judge(EndpointBackend(served.endpoint()), SAMPLING)
        (answer,) = judge.ask([text()])
        judge.close()
    assert answer.level is None and answer.verdict.evidence == "cut off: after 20 tokens"


def test_the_cache_spares_questions_also_equal_ones_under_way(tmp_path):
    calls = []

    def verify(fields):
        calls.append(fields["solution"])
        if fields["solution"] == "broken":
            raise ValueError("no")
        return fields["solution"] == "2"

    questions = [problem(solution) for solution in ["2", "3", "2", "broken"]]
    for expected in (["2", "3", "broken"], ["broken"]):  # failures are asked again
        calls.clear()
        judge = Judge(FunctionBackend(verify), SAMPLING, cache=JudgeCache(tmp_path / "cache.sqlite"))
        assert [answer.verdict.score for answer in judge.ask(questions)] == [1, 0, 1, None]
        assert calls == expected
        assert judge.tally.cached == 4 - len(expected)
        assert judge.tally.requests == len(expected)


def test_repairs_are_cached_too(tmp_path):
    with serve(lambda body, number: "hm" if len(body["messages"]) == 1 else scores(3)) as served:
        for _ in range(2):
            judge = Judge(EndpointBackend(served.endpoint()), SAMPLING, cache=JudgeCache(tmp_path / "c.sqlite"))
            assert judge.ask([text()])[0].level == 3
            judge.close()
    assert len(served.bodies) == 2


def test_a_backend_that_is_down_stops_the_job():
    def broken(fields):
        raise OSError("gone")

    judge = Judge(FunctionBackend(broken), SAMPLING, patience=5)
    with pytest.raises(BackendFailed, match=r"5 requests failed in a row(.|\n)*OSError: gone"):
        judge.ask(problem(str(number)) for number in range(20))


def test_a_wrong_question_is_the_callers_error():
    with pytest.raises(DataError, match="`text` is missing"):
        Judge(FunctionBackend(lambda fields: 1), SAMPLING).ask([Question(WEB, {})])
