"""Judges that are programs: shares by hand, and what they choose among candidates."""

from __future__ import annotations

import pytest

from ixt_rl.judging import CandidateJudge, FunctionBackend, Judge, programs
from ixt_rl.types import Candidate, SamplingParams

COLD = SamplingParams(8, 0.0)


def test_words_are_taken_whole_and_in_small_letters():
    assert programs.words("It's 3,000 -- A.D. 12, naïve “co-op”.") == ["it's", "3,000", "a.d", "12", "naïve", "co-op"]
    assert programs.words(" \n--") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "The river Rhine is long. It ends in Holland.",
            ["rhine", "holland"],
        ),  # what begins a sentence may be any word
        ("In 1984 he met Dr. Who", ["1984", "dr"]),  # a name after a full stop begins a sentence, as far as is seen
        ('He said: "Go to Rome" (Roma)', ["rome"]),
        ("x2 and 1,000.5 and B", ["x2", "1,000.5"]),  # one letter is no name
        ("nothing at all", []),
        ("First line\nSecond Line", ["line"]),
    ],
)
def test_names_and_numbers(text, found):
    assert programs.claims(text) == found


def test_shares_by_hand():
    assert programs.repetition("a b c a b c", n=3) == 1 / 4  # abc bca cab abc
    assert programs.repetition("a b") == 0.0
    assert programs.copying("one two three four five", "Two, three, four, five!", n=4) == 1 / 2
    text = "so Anna met Bert in 1912 and Anna left"
    assert programs.invention(text, "Anna lived", "until 1912") == 1 / 9  # Bert
    assert programs.invention(text) == 4 / 9
    assert programs.support(text, "Anna lived", "until 1912") == 3 / 4
    assert programs.invention("") == 0.0 and programs.support("no names here") is None


def test_cohesion_counts_different_longer_words_by_their_beginning():
    assert programs.cohesion("memories of a memory, and of rooms", "The memory of Rome") == 1 / 2  # memor; rooms
    assert programs.cohesion("it is so", "it is so") == programs.cohesion("", "memory") == 0.0


def test_soundness_is_the_product():
    prefix = "We saw Anna and then we went home again"
    text = "we met Bert and then we went home again and then we went home for tea"
    kept = (1 - programs.repetition(text)) * (1 - programs.copying(text, prefix)) * (1 - 1 / 16)
    assert programs.repetition(text) > 0 and programs.copying(text, prefix) > 0
    assert programs.soundness(text, prefix) == pytest.approx(kept * 4 / 5)  # then went home again; bert
    assert programs.soundness("and went home", prefix) == 1.0
    assert programs.soundness(" ...", prefix) == 0.0


def judged(
    function, axis: str, *texts: str, prefix="We saw Anna and went home again", original=" in 1912."
) -> list[float | None]:
    judge = CandidateJudge(Judge(FunctionBackend(function), COLD), {axis: 1.0})
    (group,) = judge([prefix], [original], [[Candidate("rollout", (), text) for text in texts]])
    return [one.verdict.score for one in group]


def test_as_a_judge_of_candidates():
    fine, invented = " so home it went.", " and went home with Bert."
    loops, off, back = " on and on and on and on home again.", " and it was fine.", " went again, home"
    assert judged(programs.sound, "quality", fine, invented, loops, off, back) == [7 / 8, 1 / 4, 1 / 2, 0.0, 7 / 8]
    found, undecided = judged(programs.grounded, "grounding", " and Anna in 1912 and Bert", " no names")
    assert found == pytest.approx(2 / 3) and undecided is None
