"""The third opinion is asked about undecided answers only, once for each, and counted."""

from __future__ import annotations

import pytest

from ixt_rl.errors import RewardError
from ixt_rl.judging import AnswerOpinion, FunctionBackend, Judge, load_rubric
from ixt_rl.rewards import MathReward
from ixt_rl.types import SamplingParams

COMPLETIONS = [
    r"\boxed{6}",
    r"\boxed{about 6}",
    r"\boxed{7}",
    r"\boxed{about 6}",
    "no answer",
    r"\boxed{6 or so I think}",
]
GOLDS = ["6"] * 6


def asked(says):
    seen = []

    def judge(questions, golds, answers):
        seen.append((list(questions), list(golds), list(answers)))
        return [says(answer) for answer in answers]

    return judge, seen


def test_only_undecided_answers_are_asked_about_and_once():
    judge, seen = asked(lambda answer: True if answer == "about 6" else None)
    reward = MathReward(workers=1, judge=judge)
    question = ["q1", "q2", "q3", "q2", "q5", "q6"]
    assert reward([""] * 6, COMPLETIONS, answer=GOLDS, question=question) == [1.0, 1.0, 0.0, 1.0, 0.0, None]
    assert seen == [(["q2", "q6"], ["6", "6"], ["about 6", "6 or so I think"])]
    counts = {name: count for name, count in reward.counts.items() if name.startswith("judge/")}
    assert counts == {"judge/asked": 2, "judge/cached": 1, "judge/right": 2, "judge/undecided": 1}
    assert (reward.counts["right"], reward.counts["wrong"], reward.counts["undecided"]) == (3, 2, 1)
    reward([""] * 6, COMPLETIONS, answer=GOLDS, question=question)
    assert len(seen) == 1


def test_without_a_judge_nobody_is_asked():
    assert MathReward(workers=1)([""] * 6, COMPLETIONS, answer=GOLDS) == [1.0, None, 0.0, None, 0.0, None]


def test_the_verdict_says_who_gave_it():
    judge, _ = asked(lambda answer: False)
    (verdict,) = MathReward(workers=1, judge=judge).judge(["about 6"], MathReward()._golds(["6"]), ["q"])
    assert verdict.label == "wrong" and verdict.evidence.startswith("judge, after ambiguous")


def test_a_judge_that_gives_too_few_verdicts_is_an_error():
    with pytest.raises(RewardError, match="0 verdicts for 1"):
        MathReward(workers=1, judge=lambda questions, golds, answers: [])([""], [r"\boxed{about 6}"], answer=["6"])


def test_any_judge_of_the_library_can_be_asked():
    def says(fields):
        return fields["solution"] == "about 6" and fields["reference"] == "6" and fields["problem"] == "2+4?"

    opinion = AnswerOpinion(Judge(FunctionBackend(says, "test"), SamplingParams(5)), load_rubric("verifier"))
    reward = MathReward(workers=1, judge=opinion)
    assert reward([""], [r"\boxed{about 6}"], answer=["6"], question=["2+4?"]) == [1.0]
    assert reward([""], [r"\boxed{about 6}"], answer=["6"], question=["2+5?"]) == [0.0]
