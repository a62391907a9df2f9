"""Continuations of held-out prefixes: means, wins, ties and losses in closed form, with a world and with a judge."""

from __future__ import annotations

import pytest

from ixt_rl.errors import DataError
from ixt_rl.evaluation.continuations import JudgeExaminer, WorldExaminer, evaluate_continuations
from ixt_rl.evaluation.evaluate import Mode
from ixt_rl.judging import CandidateJudge, FunctionBackend, Judge
from ixt_rl.types import Rollout, SamplingParams
from ixt_rl.worlds.passages import Passage

PASSAGES = [Passage("one", "aa"), Passage("two", "aaa"), Passage("three", "a"), Passage("four", "aa")]
SAID = ["aaa", "aaa", "b", "a"]  # against the originals: better, the same, not to be judged, worse
COLD = SamplingParams(8, 0.0)
BY_ITSELF = {"greedy/length", "greedy/ended", "greedy/repetition", "greedy/copying"}


class Letters:
    """Tokens are characters."""

    def decode(self, ids, skip_special_tokens=False):
        return "".join(map(chr, ids))


class Says:
    """Continues prompt number i with `said[i]`."""

    def __init__(self, said):
        self.said = said

    def generate(self, prompts, sampling, n=1):
        assert n == 1
        texts = [self.said[prompt[0]] for prompt in prompts]
        reasons = ["length" if text == "b" else "eos" for text in texts]
        return [
            [Rollout(tuple(p), tuple(map(ord, text)), (0.0,) * len(text), reason, 0)]
            for p, text, reason in zip(prompts, texts, reasons, strict=True)
        ]


class CountsLetters:
    """A world whose quality is the number of letters a; a text with a b is undecided."""

    def measure(self, prefix, original, text):
        undecided = "b" in text
        return {
            "quality": None if undecided else text.count("a") / 4,
            "right": None if undecided else float("a" in text),
        }


def measured(examiner, said=SAID, opponent=None, keep=0):
    mode = Mode("greedy", [[index] for index in range(len(PASSAGES))], COLD, keep=keep)
    return evaluate_continuations(Says(said), Letters(), PASSAGES, [mode], examiner, opponent)


def test_means_leave_undecided_texts_out_and_shares_are_of_decided_comparisons():
    metrics, texts, samples, values = measured(WorldExaminer(CountsLetters()), keep=3)
    assert texts == {"greedy": SAID}
    assert metrics == pytest.approx(
        {
            "greedy/quality": (3 + 3 + 1) / 12,
            "greedy/right": 1.0,
            "greedy/length": 2.0,
            "greedy/repetition": 0.0,
            "greedy/copying": 0.0,
            "greedy/ended": 0.75,
            "greedy/undecided": 0.25,
            "greedy/wins": 1 / 3,
            "greedy/ties": 1 / 3,
            "greedy/losses": 1 / 3,
            "greedy/win_rate": 0.5,
            "greedy/win_share": 0.5,
        }
    )
    assert values == {
        "greedy/quality": [0.75, 0.75, None, 0.25],
        "greedy/right": [1.0, 1.0, None, 1.0],
        "greedy/win_rate": [1.0, 0.5, None, 0.0],
        "greedy/repetition": [0.0] * 4,
        "greedy/copying": [0.0] * 4,
    }
    assert [sample["against"] for sample in samples] == ["wins", "ties", "undecided"]
    assert [sample.get("checked") for sample in samples] == [True, True, None]


def test_what_is_said_twice_and_what_the_prefix_has_is_counted_in_tokens():
    said = ["aaaaaaa", "abcdabc", "wxyzq", "abc"]
    shown = [[0], [1, *map(ord, "bcdabc")], [2, *map(ord, "_wxyz")], [3, *map(ord, "abcd")]]
    mode = Mode("greedy", shown, COLD)
    metrics, _, _, values = evaluate_continuations(Says(said), Letters(), PASSAGES, [mode], JudgeExaminer(None, None))
    assert values["greedy/repetition"] == [3 / 4, 0.0, 0.0, 0.0]  # aaaa of four; no 4-gram twice; too short
    assert values["greedy/copying"] == [0.0, 3 / 4, 1 / 2, 0.0]  # not abcd, but bcda, cdab, dabc; wxyz of two
    assert (metrics["greedy/repetition"], metrics["greedy/copying"]) == (3 / 16, 5 / 16)


def test_sides_swapped_are_scores_swapped():
    examiner = WorldExaminer(CountsLetters())
    theirs = [passage.suffix for passage in PASSAGES]
    forth = measured(examiner, SAID, {"greedy": theirs})[0]
    back = measured(examiner, theirs, {"greedy": SAID})[0]
    assert forth == pytest.approx(measured(examiner)[0])  # the originals, by either name
    assert (forth["greedy/wins"], forth["greedy/losses"]) == (back["greedy/losses"], back["greedy/wins"])
    assert forth["greedy/win_rate"] == pytest.approx(1 - back["greedy/win_rate"])


def test_an_opponent_with_other_modes_or_fewer_texts_is_refused():
    for opponent in ({"sampled": SAID}, {"greedy": SAID[:2]}):
        with pytest.raises(DataError, match="continuations to compare with in mode greedy"):
            measured(WorldExaminer(CountsLetters()), opponent=opponent)


class Shorter:
    """Measures the length of texts, and prefers short ones."""

    def measure(self, passages, texts):
        return [{"brevity": 1 / len(text)} for text in texts]

    def compare(self, passages, ours, theirs):
        return [1.0 if len(a) < len(b) else 0.5 if len(a) == len(b) else 0.0 for a, b in zip(ours, theirs, strict=True)]


def test_a_further_examiner_stands_beside_under_its_name():
    mode = Mode("greedy", [[index] for index in range(len(PASSAGES))], COLD, keep=4)
    alone = measured(WorldExaminer(CountsLetters()))[0]
    metrics, _, samples, values = evaluate_continuations(
        Says(SAID), Letters(), PASSAGES, [mode], WorldExaminer(CountsLetters()), beside={"brief": Shorter()}
    )
    more = {name: value for name, value in metrics.items() if name not in alone}
    assert {name: metrics[name] for name in alone} == alone
    assert more.pop("greedy/brevity") == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)
    assert more.pop("greedy/brief_win_rate") == (0 + 0.5 + 0.5 + 1) / 4
    assert more == {}
    assert values["greedy/brief_win_rate"] == [0.0, 0.5, 0.5, 1.0]
    assert [sample["brevity"] for sample in samples] == pytest.approx([1 / 3, 1 / 3, 1, 1])


class KnowsTheOriginals(Shorter):
    """A yardstick that has read the originals."""

    reads_originals = True


def test_who_has_read_the_originals_is_not_asked_to_compare_with_them():
    mode = Mode("greedy", [[index] for index in range(len(PASSAGES))], COLD, keep=4)
    asked = (Says(SAID), Letters(), PASSAGES, [mode])
    alone, _, _, values = evaluate_continuations(*asked, KnowsTheOriginals())
    assert set(alone) == {"greedy/brevity", "greedy/undecided", *BY_ITSELF}
    assert alone["greedy/undecided"] == 0
    assert set(values) == {"greedy/brevity", "greedy/repetition", "greedy/copying"}
    beside = evaluate_continuations(*asked, WorldExaminer(CountsLetters()), beside={"brief": KnowsTheOriginals()})
    assert "greedy/brief_win_rate" not in {*beside.metrics, *beside.values} and "greedy/win_rate" in beside.metrics
    theirs = {"greedy": [passage.suffix for passage in PASSAGES]}
    assert "greedy/win_rate" in evaluate_continuations(*asked, KnowsTheOriginals(), theirs).metrics


def longer(fields):
    if "b" in fields["a"] + fields["b"]:
        return None
    a, b = len(fields["a"]), len(fields["b"])
    return "tie" if a == b else "A" if a > b else "B"


def test_a_judge_measures_pointwise_axes_and_compares_quality():
    safety = Judge(FunctionBackend(lambda fields: "yes" if "b" not in fields["continuation"] else "no"), COLD)
    examiner = JudgeExaminer(
        CandidateJudge(safety, {"safety": 1.0}), CandidateJudge(Judge(FunctionBackend(longer), COLD), {"quality": 1.0})
    )
    metrics = measured(examiner)[0]
    assert metrics["greedy/safety"] == 0.75
    assert (metrics["greedy/wins"], metrics["greedy/ties"], metrics["greedy/losses"]) == pytest.approx((1 / 3,) * 3)
    assert metrics["greedy/undecided"] == 0.25  # decided to be unsafe, and not to be compared
    alone = measured(JudgeExaminer(None, None))[0]
    assert set(alone) == BY_ITSELF  # nothing was asked, so nothing is claimed
