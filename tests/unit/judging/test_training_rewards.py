"""Closed forms: what each answer of a judge or a rewriter in training is worth."""

from __future__ import annotations

import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging import FunctionBackend, Judge, VerdictReward, load_rubric
from ixt_rl.rewards import GuardedReward, RewardBudget
from ixt_rl.rewriting import RewriteReward
from ixt_rl.types import SamplingParams

PAIRS = load_rubric("pairwise-quality")
SAMPLING = SamplingParams(100, temperature=0.0)

VERDICTS = [
    ("B follows from it.\nVerdict: A", "A", 1.0),
    ("Verdict: B", "A", 0.0),
    ("Verdict: B", "B", 1.0),
    ("Verdict: tie", "A", 0.0),
    ("**Verdict:** Continuation B.", "B", 1.0),
    ("<think>Verdict: B</think>Verdict: A", "A", 1.0),
    ('{"reason": "better", "verdict": "A"}', "A", 1.0),
    ("A is better", "A", None),
    ("Verdict: A or B", "A", None),
    ("<think>Verdict: A", "A", None),
    ("", "A", None),
]


def call(reward, completions, **columns):
    size = len(completions)
    columns = {"prompts": ["?"] * size, "completion_ids": [[1, 2]] * size, **columns}
    return reward(completions=completions, **columns)


@pytest.mark.parametrize("unreadable", [0.0, -0.5, None])
def test_a_verdict_is_worth_one_where_it_is_the_label(unreadable):
    reward = VerdictReward(PAIRS, unreadable=unreadable)
    texts, labels, wanted = zip(*VERDICTS, strict=True)
    expected = [unreadable if value is None else value for value in wanted]
    assert call(reward, texts, answer=labels) == expected
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    assert call(reward, chats, answer=labels) == expected


def test_by_default_an_unreadable_verdict_is_worth_nothing_and_is_counted():
    logged: dict[str, float] = {}
    texts, labels, wanted = zip(*VERDICTS, strict=True)
    found = call(VerdictReward(PAIRS), texts, answer=labels, log_metric=logged.__setitem__)
    assert found == [value or 0.0 for value in wanted]
    assert logged == {"verdict/unreadable": pytest.approx(4 / 11), "verdict/right": pytest.approx(5 / 7)}


def test_an_answer_that_was_cut_off_is_unreadable():
    texts, labels = ["Verdict: A"] * 3, ["A"] * 3
    reward = VerdictReward(PAIRS, unreadable=-1.0, limit=4)
    assert call(reward, texts, answer=labels, finish_reason=["eos", "length", "eos"]) == [1.0, -1.0, 1.0]
    ids = [[1], [1, 2, 3], [1, 2, 3, 4]]
    assert call(reward, texts, answer=labels, completion_ids=ids) == [1.0, 1.0, -1.0]
    # the trainer knows better than the length: an EOS may be the last token there is room for
    assert call(reward, texts, answer=labels, completion_ids=ids, finish_reason=["eos"] * 3) == [1.0] * 3


def test_other_rubrics_and_other_labels():
    assert call(VerdictReward(load_rubric("safety")), ["Verdict: unsafe"], answer=["no"]) == [1.0]
    with pytest.raises(DataError, match=r"label 'C'\n.*rubric pairwise-quality has A, B, tie"):
        call(VerdictReward(PAIRS), ["Verdict: A"], answer=["C"])
    with pytest.raises(ConfigError, match="answered with scores"):
        VerdictReward(load_rubric("web-text"))


# ---------------------------------------------------------------------------------------- rewriter

ROW = {"prefix": "Once", "suffix": " upon a ti", "original": " upon a time."}


class Rule:
    """Longer is better, equally long is a tie; what has `knife` in it is unsafe. Counts the questions."""

    def __init__(self):
        self.asked: list[dict[str, str]] = []

    def __call__(self, fields):
        self.asked.append(dict(fields))
        assert fields["prefix"] == "Once"
        if "continuation" in fields:
            return None if "?" in fields["continuation"] else "knife" not in fields["continuation"]
        a, b = len(fields["a"]), len(fields["b"])
        return "tie" if a == b else "A" if a > b else "B"


def reward(rule=None, **settings) -> RewriteReward:
    return RewriteReward(Judge(FunctionBackend(rule or Rule(), "rule"), SAMPLING), **settings)


def rewards(answers, good, rule=None, row=ROW, settings=None, **columns):
    columns = {**{name: [text] * len(answers) for name, text in row.items()}, "good": good, **columns}
    return call(reward(rule, **(settings or {})), answers, **columns)


def test_a_fine_suffix_is_to_be_copied_and_no_judge_is_asked():
    rule = Rule()
    answers = ["COPY", "`copy`.", "<rewrite>upon a ti</rewrite>", "upon a ti\n", "<rewrite>upon a time.</rewrite>", ""]
    assert rewards(answers, [True] * 6, rule) == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert rule.asked == []


def test_of_other_suffixes_quality_and_safety_are_averaged():
    answers = [
        "<rewrite>upon a time, long ago.</rewrite>",  # better and safe
        "<rewrite>upon a</rewrite>",  # worse and safe
        "<rewrite>upon a time, with a knife.</rewrite>",  # better and unsafe
        "<rewrite>knife</rewrite>",  # neither
        "<rewrite>upon a time.</rewrite>",  # the original: as good as itself, and safe
        "<rewrite>upon a home.</rewrite>",  # a tie, and safe
        "COPY",  # judged as what it is: worse and safe
    ]
    assert rewards(answers, [False] * 7) == [1.0, 0.5, 0.5, 0.0, 0.75, 0.75, 0.5]


def test_rewrites_are_judged_once_as_the_text_that_stands_after_the_prefix():
    rule = Rule()
    answers = ["<rewrite>upon a time, long ago.</rewrite>", "upon a time, long ago.", "COPY", "COPY"]
    assert rewards(answers, [False, False, False, True], rule) == [1.0, 1.0, 0.5, 1.0]
    texts = {one["continuation"] for one in rule.asked if "continuation" in one}
    assert texts == {" upon a time, long ago.", " upon a ti"}  # begun as the suffix
    assert len(rule.asked) == 2 * 3  # safety, and the comparison in both orders


def test_undecided_is_left_out_and_unreadable_is_what_was_set():
    cannot = ["", "<rewrite>unfinished", "I'm sorry, I can't help.", "<rewrite>upon a time?</rewrite>"]
    assert rewards(cannot, [False] * 4) == [0.0, 0.0, 0.0, None]
    assert rewards(cannot, [False] * 4, settings={"unreadable": None}) == [None] * 4
    assert rewards(cannot, [True] * 4, settings={"unreadable": -1.0}) == [-1.0, -1.0, -1.0, 0.0]
    whole = ["<rewrite>upon a time, long ago.</rewrite>"] * 2
    assert rewards(whole, [False] * 2, finish_reason=["eos", "length"]) == [1.0, 0.0]
    assert rewards(whole, [False] * 2, settings={"limit": 2}) == [0.0, 0.0]


def test_what_is_counted():
    logged: dict[str, float] = {}
    answers = ["COPY", "<rewrite>x</rewrite>", "COPY", "<rewrite>x?</rewrite>", ""]
    rewards(answers, [True, True, False, False, False], log_metric=logged.__setitem__)
    assert logged == {
        "rewrite/unreadable": pytest.approx(0.2), "rewrite/copied_fine": 0.5,
        "rewrite/copied_others": pytest.approx(1 / 3), "rewrite/undecided": 0.5,
    }  # fmt: skip


def test_a_judge_that_favours_a_place_gives_half():
    assert rewards(["<rewrite>anything</rewrite>"], [False], lambda f: "A" if "a" in f else "yes") == [0.75]


def test_behind_the_guard_a_judge_that_fails_costs_nothing_but_its_samples(tmp_path):
    def failing(fields):
        raise RuntimeError("down")

    guarded = GuardedReward(reward(failing), "rewrite_reward", RewardBudget(), tmp_path / "failures.jsonl")
    columns = {name: [text] * 2 for name, text in ROW.items()}
    assert call(guarded, ["<rewrite>x</rewrite>", "COPY"], good=[False, True], **columns) == [None, 1.0]
    assert guarded.failures == 0  # undecided, not failed


def test_good_is_true_or_false():
    with pytest.raises(DataError, match="good='yes'"):
        rewards(["COPY"], ["yes"])
