"""What the tests of SIP's worlds share: the real judge over a world's functions."""

from __future__ import annotations

from ixt_rl.judging import FunctionBackend, Judge
from ixt_rl.judging.candidates import CandidateJudge
from ixt_rl.types import Candidate, SamplingParams


def axis_scores(world, axis, prefix, original, texts):
    """The scores of the texts on one axis, by the shipped rubric, in their order."""
    judge = Judge(FunctionBackend(world.judge_functions[axis]), SamplingParams(max_new_tokens=64))
    tokenizer = world.tokenizer()
    group = [
        Candidate("rollout", tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), text) for text in texts
    ]
    (judged,) = CandidateJudge(judge, {axis: 1.0})([prefix], [original], [group])
    assert not judge.tally.undecided
    return [one.verdict.score for one in judged]


def prefix_of(document, prefixes):
    """Whether a document begins with one of the prefixes, word by word."""
    words = document.split()
    return any(" ".join(words[:end]) in prefixes for end in range(1, len(words) + 1))
