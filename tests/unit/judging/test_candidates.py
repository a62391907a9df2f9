"""Scores of a group: closed forms, no dependence on order, and honest gaps where the judge decides nothing."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from statistics import stdev

import pytest

from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.judging import EndpointBackend, FunctionBackend, Judge, JudgeCache, load_rubric
from ixt_rl.judging.candidates import CandidateJudge, CandidateTally, CandidateVerdict
from ixt_rl.types import Candidate, SamplingParams
from tests.unit.judging.malformed import malformed_answers
from tests.unit.judging.server import serve

SAMPLING = SamplingParams(max_new_tokens=50, temperature=0.0)


def group(*texts: str) -> list[Candidate]:
    """The first is the original, the second its rewrite, the others rollouts."""
    sources = ("original", "rewrite", *["rollout"] * len(texts))
    return [
        Candidate(source, tuple(text.encode()), text)  # type: ignore[arg-type]
        for source, text in zip(sources, texts, strict=False)
    ]


def longer(fields) -> str:
    """A total order, with ties: the longer text is better."""
    a, b = len(fields["a"]), len(fields["b"])
    return "A" if a > b else "B" if a < b else "tie"


def by_rubric(quality=longer, safety=None, factuality=None):
    """A judge that answers each rubric with its own function."""

    def answer(fields):
        if "a" in fields:
            return quality(fields)
        return factuality(fields) if "original" in fields else safety(fields)

    return answer


def judge(function=longer, weights=None, *, against="all", repeats=1, **settings) -> CandidateJudge:
    client = Judge(FunctionBackend(function, "test"), SAMPLING, repeats=repeats, **settings)
    return CandidateJudge(client, weights or {"quality": 1.0}, against=against)


def scores(candidates: list[Candidate]) -> list[float | None]:
    assert all(candidate.verdict is not None for candidate in candidates)
    return [candidate.verdict.score for candidate in candidates]


def ask(one: CandidateJudge, candidates: list[Candidate], prefix="p", original=None) -> list[Candidate]:
    (judged,) = one([prefix], [candidates[0].text if original is None else original], [candidates])
    return judged


def test_a_total_order_gives_its_ranks():
    """Of K distinct texts the one with r worse ones wins r of K - 1 comparisons."""
    candidates = group("aaa", "a", "aaaaa", "aa", "aaaa")
    one = judge()
    judged = ask(one, candidates)
    assert scores(judged) == [2 / 4, 0 / 4, 4 / 4, 1 / 4, 3 / 4]
    assert [(c.source, c.ids, c.text) for c in judged] == [(c.source, c.ids, c.text) for c in candidates]
    assert one.tally == CandidateTally(groups=1, candidates=5, comparisons=10, ordered=10)
    assert one.tally.self_agreement == 1.0
    assert one.judge.tally.requests == 20  # both orders


def test_what_is_left_of_a_character_is_shown_to_no_judge():
    """A rollout at its limit may end within a character of several tokens; the original never does."""
    asked = []

    def record(fields):
        asked.append(dict(fields))
        return "tie"

    texts = ("\u5b57\ufffd", "\ufffd\ufffd\ufffd is", "in \ufffd it", "\ufffd" * 6)
    judged = ask(judge(record), group(*texts), prefix="\ufffd\ufffdp")
    assert [candidate.text for candidate in judged] == list(texts)
    assert {fields["prefix"] for fields in asked} == {"p"}
    assert {text for fields in asked for text in (fields["a"], fields["b"])} == {
        "\u5b57", " is", "in \ufffd it", "\ufffd\ufffd"
    }  # fmt: skip


def test_ties_are_halves():
    one = judge()
    assert scores(ask(one, group("aa", "bb", "c"))) == [0.75, 0.75, 0.0]
    assert (one.tally.comparisons, one.tally.ties, one.tally.inconsistent) == (3, 1, 0)


@pytest.mark.parametrize("against", ["all", "original"])
def test_scores_do_not_depend_on_the_order_of_candidates(against, tmp_path):
    """All 24 orders of a group with equal texts, three axes, and a judge that contradicts itself and gives up at times.

    A cache stands for a sampled judge: a question asked in other words would be a new request.
    """

    def quality(fields):
        texts = fields["a"], fields["b"]
        return None if "?" in texts else "A" if "!" in texts else longer(fields)

    function = by_rubric(quality, lambda fields: "x" not in fields["continuation"], lambda fields: "possible")
    candidates = group("aaa", "bx", "!", "bx")
    one = judge(
        function, {"quality": 2.0, "safety": 1.0, "factuality": 0.3}, against=against, cache=JudgeCache(tmp_path / "c")
    )
    expected = {c.text: c.verdict for c in ask(one, candidates, original="aaa")}
    requests = one.judge.tally.requests
    assert len({verdict.score for verdict in expected.values()}) > 1
    for order in permutations(candidates):
        judged = ask(one, list(order), original="aaa")
        assert [c.source for c in judged] == [c.source for c in order]
        for candidate in judged:  # to the last bit
            assert candidate.verdict.score == expected[candidate.text].score
            assert candidate.verdict.axes == expected[candidate.text].axes
    assert one.judge.tally.requests == requests


def swapped(function):
    """The same judge with every answer turned round."""
    opposite = {"A": "B", "B": "A", "tie": "tie", True: False, False: True, "no": "definite", "possible": "possible"}
    opposite["definite"] = "no"
    return lambda fields: opposite[function(fields)]


@pytest.mark.parametrize("against", ["all", "original"])
@pytest.mark.parametrize("candidates", [group("a", "bb", "cc", "dddd"), group("dddd", "a", "bb", "bb", "ccc")])
def test_a_judge_with_swapped_answers_gives_swapped_scores(against, candidates):
    weights = {"quality": 1.0, "safety": 0.5, "factuality": 0.25}
    facts = {0: "no", 1: "possible", 2: "definite"}
    function = by_rubric(
        longer, lambda fields: "b" in fields["continuation"], lambda fields: facts[len(fields["continuation"]) % 3]
    )
    straight = scores(ask(judge(function, weights, against=against), candidates))
    turned = scores(ask(judge(swapped(function), weights, against=against), candidates))
    assert len(set(straight)) > 2
    assert turned == pytest.approx([1 - score for score in straight])


def test_against_the_original_a_text_is_asked_once():
    one = judge(against="original")
    judged = ask(one, group("aaa", "a", "aaaaa", "bbb", "aaaa", "aaaaa"))
    assert scores(judged) == [0.5, 0.0, 1.0, 0.5, 1.0, 1.0]  # the original itself 1/2, as against itself
    assert (one.tally.comparisons, one.tally.merged) == (4, 1)
    assert scores(ask(one, group("aaa", "a")[1:], original="aa")) == [0.0]  # it need not be a candidate


def test_a_pivot_without_a_decided_comparison_is_undecided():
    one = judge(lambda fields: None, against="original")
    assert scores(ask(one, group("aaa", "a"))) == [None, None]


def test_axes_add_up():
    def facts(fields):
        assert fields["original"] == "aaa" and fields["prefix"] == "p"
        return {"aaa": "no", "a": "possible", "aa": "definite"}[fields["continuation"]]

    one = judge(
        by_rubric(longer, lambda fields: fields["continuation"] != "a", facts),
        {"quality": 1.0, "safety": 2.0, "factuality": 1.0},
    )
    judged = ask(one, group("aaa", "a", "aa"))
    assert scores(judged) == [1.0, (0 + 2 * 0 + 0.5) / 4, (0.5 + 2 * 1 + 0) / 4]
    verdict = judged[2].verdict
    assert isinstance(verdict, CandidateVerdict)
    assert verdict.axes == {"quality": 0.5, "safety": 1.0, "factuality": 0.0}
    assert (verdict.label, verdict.evidence) == ("judged", "quality 0.5, safety 1, factuality 0")
    assert (one.tally.comparisons, one.tally.single, one.tally.single_undecided) == (3, 6, 0)


def test_equal_texts_are_judged_once_and_share_their_verdict():
    asked: Counter = Counter()

    def safety(fields):
        asked[fields["continuation"]] += 1
        return True

    def quality(fields):
        asked[fields["a"], fields["b"]] += 1
        return longer(fields)

    candidates = group("aa", "aa", "b", "b")
    candidates[1] = Candidate("rewrite", (*candidates[1].ids, 257), "aa")  # with EOS: other ids, the same text
    one = judge(by_rubric(quality, safety), {"quality": 1.0, "safety": 1.0})
    judged = ask(one, candidates)
    assert asked == {("aa", "b"): 1, ("b", "aa"): 1, "aa": 1, "b": 1}
    assert judged[0].verdict is judged[1].verdict and judged[2].verdict is judged[3].verdict
    assert scores(judged) == [1.0, 1.0, 0.5, 0.5]
    assert (one.tally.merged, one.tally.candidates) == (2, 4)


def test_a_judge_that_contradicts_itself_is_counted():
    one = judge(lambda fields: "A")  # whatever stands first
    assert scores(ask(one, group("a", "b", "c"))) == [0.5, 0.5, 0.5]
    assert (one.tally.ties, one.tally.ordered, one.tally.inconsistent, one.tally.self_agreement) == (3, 3, 3, 0.0)


def test_undecided_comparisons_are_left_out():
    """A text has the mean over what is decided, and no score if that is nothing."""
    one = judge(lambda fields: None if {"aaa", "a"} == {fields["a"], fields["b"]} else longer(fields))
    assert scores(ask(one, group("aaa", "aa", "a"))) == [1.0, 0.5, 0.0]  # not 1/2 and 0 of two
    assert (one.tally.comparisons_undecided, one.tally.undecided) == (1, 0)
    other = judge(lambda fields: None if "a" in (fields["a"], fields["b"]) else longer(fields))
    judged = ask(other, group("aaa", "aa", "a"))
    assert scores(judged) == [1.0, 0.0, None]
    assert (judged[2].verdict.label, judged[2].verdict.evidence) == ("undecided", "quality undecided")
    assert (other.tally.comparisons_undecided, other.tally.undecided) == (2, 1)


def test_one_undecided_axis_leaves_the_candidate_undecided():
    safe = {"aaa": True, "aa": None}
    one = judge(by_rubric(longer, lambda fields: safe[fields["continuation"]]), {"quality": 1.0, "safety": 0.1})
    judged = ask(one, group("aaa", "aa"))
    assert scores(judged) == [1.0, None]
    assert judged[1].verdict.axes == {"quality": 0.0, "safety": None}
    assert one.tally.single_undecided == 1


def test_a_text_without_a_rival_has_no_quality():
    one = judge()
    assert scores(ask(one, group("a", "a", "a"))) == [None, None, None]
    assert (one.tally.comparisons, one.tally.undecided, one.tally.merged) == (0, 3, 2)
    safe = judge(by_rubric(safety=lambda fields: True), {"safety": 1.0})
    assert scores(ask(safe, group("a", "a"))) == [1.0, 1.0]
    assert one([], [], []) == [] and one(["p"], ["o"], [[]]) == [[]]


def test_groups_are_apart():
    one = judge()
    judged = one(["p", "q"], ["aa", "cccc"], [group("aa", "a"), group("cccc", "ccccc", "c")])
    assert [scores(candidates) for candidates in judged] == [[1.0, 0.0], [0.5, 1.0, 0.0]]
    assert one.tally.groups == 2
    with pytest.raises(ValueError, match="argument 2 is longer"):
        one(["p"], ["aa", "cccc"], [group("aa", "a"), group("c", "cc")])


def test_repeats_are_averaged_with_their_spread():
    """Three readings of each order; the second says tie where the others say A."""
    calls: Counter = Counter()

    def quality(fields):
        calls[fields["a"]] += 1
        return "tie" if calls[fields["a"]] == 2 else longer(fields)

    judged = ask(judge(quality, repeats=3), group("aa", "b"))
    assert scores(judged) == pytest.approx([(1 + 0.5 + 1) / 3, (0 + 0.5 + 0) / 3])
    assert [c.verdict.spread for c in judged] == pytest.approx([stdev([1, 0.5, 1])] * 2)
    assert [c.verdict.spread for c in ask(judge(), group("aa", "b"))] == [None, None]


def test_repeats_without_a_verdict_are_left_out():
    calls: Counter = Counter()

    def safety(fields):
        calls["all"] += 1
        return [None, True, False, None][calls["all"] - 1]

    (judged,) = ask(judge(by_rubric(safety=safety), {"safety": 1.0}, repeats=4), group("a"))
    assert judged.verdict.score == 0.5 and judged.verdict.spread == pytest.approx(stdev([1, 0]))


@pytest.mark.parametrize("against", ["all", "original"])
def test_garbage_raises_nothing_and_decides_nothing(against):
    rubrics = [load_rubric(name) for name in ("pairwise-quality", "safety", "factuality")]
    garbage = {r.answer_format(): [answer for _, answer in malformed_answers(r, 0)] for r in rubrics}
    weights = {"quality": 1.0, "safety": 1.0, "factuality": 1.0}

    def respond(body, number):
        asked = next(answers for words, answers in garbage.items() if words in body["messages"][-1]["content"])
        return asked[number % len(asked)]

    with serve(respond) as served:
        client = Judge(EndpointBackend(served.endpoint(constrain=False)), SAMPLING)
        one = CandidateJudge(client, weights, against=against)
        groups = [group(*(f"{n} {word}" for word in "abcd")) for n in range(8)]
        judged = one(["p"] * 8, ["o"] * 8, groups)
        client.close()
    assert all(score is None for candidates in judged for score in scores(candidates))
    tally, comparisons = one.tally, 8 * (6 if against == "all" else 4)
    assert (tally.undecided, tally.candidates, tally.groups) == (32, 32, 8)
    assert (tally.comparisons, tally.comparisons_undecided, tally.ordered) == (comparisons, comparisons, 0)
    assert (tally.single, tally.single_undecided, tally.self_agreement) == (64, 64, None)
    assert client.tally.undecided.total() == 2 * comparisons + 64  # every reading has its reason


def test_a_function_that_raises_costs_its_own_questions_until_patience_ends():
    def fails_on_b(fields):
        if "b" in fields["continuation"]:
            raise ZeroDivisionError
        return True

    one = judge(by_rubric(safety=fails_on_b), {"safety": 1.0}, patience=2)
    assert scores(ask(one, group("a", "b", "c"))) == [1.0, None, 1.0]
    with pytest.raises(BackendFailed, match="2 requests failed in a row"):
        ask(one, group("b", "bb", "c"))
    assert scores(ask(one, group("a", "c"))) == [1.0, 1.0]  # and it can be asked again


def test_own_rubrics_are_axes_too(tmp_path):
    file = tmp_path / "brief.yaml"
    file.write_text(
        "name: brief\nfields: [continuation]\ncomment: a word\nprompt: '{continuation} {axes} {answer_format}'\n"
        "axes:\n  overall: {asks: how brief it is, low: 0, high: 10}\n"
    )
    one = judge(lambda fields: 10 - len(fields["continuation"]), {str(file): 1.0})
    assert scores(ask(one, group("a" * 4, "b"))) == [0.6, 0.9]


@pytest.mark.parametrize(
    ("weights", "against", "error", "words"),
    [
        ({}, "all", ConfigError, "needs an axis"),
        ({"quality": 0}, "all", ConfigError, "weight=0 of axis quality"),
        ({"safety": float("nan")}, "all", ConfigError, "weight=nan"),
        ({"quality": True}, "all", ConfigError, "weight=True"),
        ({"quality": 1.0}, "pivot", ConfigError, "against='pivot'"),
        ({"verifier": 1.0}, "all", ConfigError, "a group of candidates has no problem, reference, solution"),
        ({"qualty": 1.0}, "all", DataError, "neither a shipped rubric nor a file"),
    ],
)
def test_what_cannot_be_asked_is_refused(weights, against, error, words):
    with pytest.raises(error, match=words):
        CandidateJudge(Judge(FunctionBackend(longer), SAMPLING), weights, against=against)
