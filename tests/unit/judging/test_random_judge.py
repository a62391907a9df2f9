"""The control that reads nothing: every text of a group is as likely to be the best as any other."""

from __future__ import annotations

from collections import Counter

from ixt_rl.judging.random_judge import RandomJudge
from ixt_rl.types import Candidate


def groups(count: int) -> tuple[list[str], list[list[Candidate]]]:
    texts = [("original", "a good one"), ("rewrite", "better"), ("rollout", "x"), ("rollout", "y")]
    made = [Candidate(source, (number,), text) for number, (source, text) in enumerate(texts)]
    return [f"prefix {number}" for number in range(count)], [made] * count


def test_each_text_is_the_best_equally_often_and_nothing_is_undecided():
    prefixes, asked = groups(4000)
    judged = RandomJudge(0)(prefixes, [""] * 4000, asked)
    assert [[one.text for one in group] for group in judged] == [[one.text for one in group] for group in asked]
    best = Counter(max(group, key=lambda one: one.verdict.score).text for group in judged)
    assert len(best) == 4 and all(abs(count - 1000) < 110 for count in best.values())  # four standard deviations
    assert all(0 <= one.verdict.score < 1 for group in judged for one in group)


def test_it_says_the_same_of_the_same_text_and_something_else_with_another_seed():
    prefixes, asked = groups(5)
    once, again, other = (RandomJudge(seed)(prefixes, [""] * 5, asked) for seed in (1, 1, 2))
    assert once == again != other
