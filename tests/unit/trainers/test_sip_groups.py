"""What is made of candidates: merging, drawing, advantages, shares. No model."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter

import pytest

from ixt_rl.data.suffixes import PrefixSuffix
from ixt_rl.trainers.sip.changes import CHANGES, changes, trained_texts
from ixt_rl.trainers.sip.groups import Group, Proposed, merge
from ixt_rl.trainers.sip.metrics import Shares, Verified
from ixt_rl.trainers.sip.objectives import Example
from ixt_rl.types import Candidate, Verdict

PREFIX = (1, 2, 3)


def group(scored: list[tuple[str, tuple[int, ...], float | None]], seed: int = 0, prefix=PREFIX) -> Group:
    """A judged group of (source, ids, score); equal ids have equal scores."""
    scores = {ids: score for _, ids, score in scored}
    texts = merge(Proposed(Candidate(source, ids, str(ids))) for source, ids, _ in scored)
    verdicts = [
        Candidate(text.candidate.source, text.ids, "", Verdict(scores[text.ids], "")) for text in texts
    ]  # fmt: skip
    return Group(prefix, texts).judged(verdicts, seed)


MIXED = [
    ("original", (5, 6), 0.5), ("rewrite", (7,), 1.0), ("rollout", (7,), 1.0), ("rollout", (8, 9), 1.0),
    ("rollout", (5, 6), 0.5), ("rollout", (4,), 0.0), ("rollout", (3,), None), ("rollout", (2,), 0.0),
]  # fmt: skip


def test_equal_ids_are_one_text():
    made = group(MIXED)
    assert [(text.ids, dict(text.written)) for text in made.texts] == [
        ((2,), {"rollout": 1}),
        ((3,), {"rollout": 1}),
        ((4,), {"rollout": 1}),
        ((5, 6), {"original": 1, "rollout": 1}),
        ((7,), {"rewrite": 1, "rollout": 1}),
        ((8, 9), {"rollout": 1}),
    ]
    assert {text.ids: text.candidate.source for text in made.texts}[(7,)] == "rewrite"


def test_sampling_log_probs_stay_with_their_text():
    written = [("original", None), ("rollout", (-1.0,)), ("rollout", (-1.1,))]
    texts = merge(Proposed(Candidate(source, (7,), ""), logprobs) for source, logprobs in written)
    assert texts[0].logprobs == (-1.0,)
    assert texts[0].copies == 3


def test_the_order_of_candidates_does_not_matter():
    rng = random.Random(0)
    expected = group(MIXED)
    for _ in range(30):
        shuffled = rng.sample(MIXED, len(MIXED))
        made = group(shuffled)
        assert (made.best.ids, made.worst.ids) == (expected.best.ids, expected.worst.ids)
        assert made.texts == expected.texts
        ours, theirs = Shares(), Shares()
        ours.see(made, True)
        theirs.see(expected, True)
        assert {k: sorted(v) for k, v in ours.values.items() if "spread" not in k} == {
            k: sorted(v) for k, v in theirs.values.items() if "spread" not in k
        }


def test_ties_are_drawn_evenly_among_texts_whoever_wrote_them():
    """The original, and one text that three rollouts wrote: half of the draws each; so for another step or prefix."""
    tied = [("original", (5,), 1.0), *[("rollout", (6,), 1.0)] * 3, ("rollout", (7,), 0.0)]
    by_seed = Counter(group(tied, seed).best.ids for seed in range(600))
    by_prefix = Counter(group(tied, 0, (1, n)).best.ids for n in range(600))
    for drawn in (by_seed, by_prefix):
        assert set(drawn) == {(5,), (6,)}
        assert abs(drawn[(5,)] - 300) < 4 * math.sqrt(150)  # four standard deviations
    pairs = Counter((made.best.ids, made.worst.ids) for made in (group(MIXED, seed) for seed in range(400)))
    assert len(pairs) == 4  # the worst is drawn on its own
    assert min(pairs.values()) > 60


def test_equal_scores_are_no_advantage():
    """The mean of three times 0.1 is not 0.1."""
    made = group([("original", (5,), 0.1), ("rollout", (6,), 0.1), ("rollout", (7,), 0.1), ("rollout", (8,), None)])
    assert [advantage for _, advantage in made.advantages()] == [0.0] * 3


def test_without_a_gap_there_is_no_worst():
    tied = group([("original", (5,), 0.5), ("rollout", (6,), 0.5 + 1e-12)])
    assert tied.tied
    assert tied.best is not None
    assert tied.worst is None
    same = group([("original", (5,), None), ("rollout", (5,), None)])
    assert same.tied  # one text is no choice, whatever a judge would say
    lone = group([("original", (5,), 1.0), ("rollout", (6,), None)])
    assert not lone.tied
    assert (lone.best.ids, lone.worst) == ((5,), None)
    none = group([("original", (5,), None), ("rollout", (6,), None)])
    assert (none.best, none.worst, none.tied) == (None, None, False)


def test_advantages_are_those_of_grpo_over_all_decided_candidates():
    made = group(MIXED)
    scores = [score for _, _, score in MIXED if score is not None]
    mean, std = statistics.fmean(scores), statistics.stdev(scores)
    found = {text.ids: advantage for text, advantage in made.advantages()}
    for _, ids, score in MIXED:
        if score is not None:
            assert found[ids] == pytest.approx((score - mean) / (std + 1e-4))
    assert (3,) not in found
    assert sum(text.copies * advantage for text, advantage in made.advantages()) == pytest.approx(0, abs=1e-9)
    assert group([("original", (5,), 1.0), ("rollout", (6,), None)]).advantages() == []


def seen(*groups: Group, trained: bool = True) -> dict[str, float]:
    shares = Shares()
    for one in groups:
        shares.see(one, trained)
    kept = {name: [v for v in values if not math.isnan(v)] for name, values in shares.values.items()}
    return {name: statistics.fmean(values) for name, values in kept.items() if values}


def test_shares_of_sources_merged_raw_and_alone():
    """The rewrite and two of three rollouts wrote the best text: 1/2 each merged, 1/3 and 2/3 raw, alone nobody."""
    made = group(
        [("original", (5,), 0.0), ("rewrite", (7,), 1.0), *[("rollout", (7,), 1.0)] * 2, ("rollout", (8,), 0.5)]
    )
    found = seen(made)
    assert [found[f"chosen/{s}"] for s in ("original", "rewrite", "rollout")] == [0, 0.5, 0.5]
    assert [found[f"chosen_raw/{s}"] for s in ("original", "rewrite", "rollout")] == pytest.approx([0, 1 / 3, 2 / 3])
    assert [found[f"chosen_alone/{s}"] for s in ("original", "rewrite", "rollout")] == [0, 0, 0]
    assert [found[f"rejected/{s}"] for s in ("original", "rewrite", "rollout")] == [1, 0, 0]
    assert found["candidates/identical"] == pytest.approx(2 / 5)
    assert [found[f"score/{s}"] for s in ("original", "rewrite", "rollout")] == pytest.approx([0, 1, 2.5 / 3])
    assert found["perfect/any_rollout"] == 1
    assert found["ties/all"] == found["ties/best"] == 0


def test_what_is_not_trained_has_no_share_among_the_chosen():
    tied = group([("original", (5,), 1.0), ("rollout", (6,), 1.0), ("rollout", (7,), None)])
    found = seen(tied, trained=False)
    assert "chosen/original" not in found
    assert found["ties/all"] == found["ties/best"] == 1
    assert found["candidates/undecided"] == pytest.approx(1 / 3)
    assert found["score/rollout"] == 1.0  # an undecided one is not a 0


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_merging_is_the_same_in_every_order(order):
    candidates = [Candidate("original", (5,), "a"), Candidate("rollout", (5,), "a"), Candidate("rewrite", (5,), "a")]
    (text,) = merge(Proposed(candidates[i]) for i in order)
    assert text.candidate.source == "original"
    assert text.copies == 3


def test_what_a_verifier_says_counts_by_source_and_of_the_chosen():
    """Rollouts (2,) twice and (3,), an original (1,); the judge prefers (3,), which the verifier calls wrong."""
    scored = [("original", (1,), 0.2), ("rollout", (2,), 0.5), ("rollout", (2,), 0.5), ("rollout", (3,), 0.9)]
    found = group(scored)
    verified = Verified()
    verified.see(found, [{(1,): None, (2,): 1.0, (3,): 0.0}[text.ids] for text in found.texts])
    said = {name: [v for v in values if v == v] for name, values in verified.values.items()}
    assert sorted(said.pop("verified/rollout")) == [0.0, 1.0, 1.0]
    assert said == {
        "verified/original": [],  # not known
        "verified/rewrite": [],
        "verified/chosen": [0.0],
        "verified/rejected": [],
        "verified/any_rollout": [1.0],
        "errors/teacher_kept": [],
        "errors/teacher_made": [],
        "errors/judge": [1.0],
    }


def test_errors_are_passed_on_by_the_teacher_and_by_the_judge():
    """By (original, rewrite) right or not; the judge prefers the rewrite, but where a rollout is right, too."""
    cases = {(0.0, 0.0): "kept", (0.0, 1.0): "mended", (1.0, 0.0): "made", (1.0, 1.0): "left", (None, 1.0): "unknown"}
    verified = Verified()
    for original, rewrite in cases:
        found = group([("original", (1,), 0.2), ("rewrite", (2,), 0.9), ("rollout", (3,), 0.1)])
        verified.see(found, [original, rewrite, 0.0])
    values = verified.values
    assert values["errors/teacher_kept"] == [1.0, 0.0]
    assert values["errors/teacher_made"] == [1.0, 0.0]
    assert values["errors/judge"] == [0.0, 1.0, 0.0, 0.0]  # of the first group nothing is right


def test_what_is_trained_without_a_judge_is_verified_too():
    texts = merge([Proposed(Candidate("rewrite", (2,), "")), Proposed(Candidate("rollout", (3,), ""))])
    verified = Verified()
    verified.see(Group(PREFIX, texts), [0.0, 1.0], texts[0])
    assert verified.values["verified/chosen"] == [0.0]
    assert verified.values["errors/judge"] == []


def test_changes_of_the_corpus_by_hand():
    """Suffixes (1, 2, 3) and (1, 9); of two prompts the first is trained on a rewrite, the other on its own suffix."""
    items = [PrefixSuffix((0, 7), ids, "") for ids in ((1, 2, 3), (1, 9), (4,), (5,))]
    texts = [merge([Proposed(Candidate("rewrite", ids, ""))])[0] for ids in ((7, 8, 8, 1, 3), (1, 9), (6,))]
    examples = [Example((), (texts[0], texts[2])), Example((), (texts[1],)), None, Example((), (texts[2],), (1.0,))]
    assert changes(trained_texts(items, examples)) == {
        "corpus/changed": [0.5],
        "corpus/length": [7 / 5],
        "corpus/vocabulary": [5 / 4],  # 1 3 7 8 9 over 1 2 3 9
        "corpus/new_tokens": [2 / 7],  # 8 twice; 7 stands in the prefix
    }
    empty = merge([Proposed(Candidate("rewrite", (), ""))])[0]
    for nothing in ([None] * 4, [Example((), (empty,)), None, None, None]):
        assert set(changes(trained_texts(items, nothing))) == set(CHANGES)
        assert not any(changes(trained_texts(items, nothing)).values())
