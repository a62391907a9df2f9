"""The ledger's sums, closed form."""

from __future__ import annotations

from ixt_rl.ledger import Ledger


def test_judges_and_rewriters_are_charged_by_their_own_size():
    ledger = Ledger(10)
    ledger.add("train", 7)
    ledger.asked(5, 1000)
    ledger.asked(3, 1000)
    ledger.asked(2, 70)
    assert ledger.flops("annotate") == 2 * (1000 * 8 + 70 * 2)
    assert ledger.total() == 6 * 10 * 7 + ledger.flops("annotate")
    assert ledger.totals()["tokens"] == {"train": 7, "annotate": 10}
    assert ledger.uncounted == 0


def test_the_columns_of_phases_are_the_parts_of_the_whole():
    ledger = Ledger(10, before={"flops": {"rollout": 50.0}, "tokens": {"rollout": 1}})
    for tokens, phase in enumerate(("rollout", "posterior", "score", "train", "annotate"), start=1):
        ledger.add(phase, tokens)
    assert sum(ledger.columns().values()) == ledger.total()
    assert ledger.columns()["flops/score"] == 2 * 10 * 3


def test_a_judge_of_unknown_size_is_uncounted_and_never_the_policys_size():
    ledger = Ledger(10, judge_parameters=30)
    ledger.asked(5, None)
    ledger.asked(4, 100)
    ledger.add("annotate", 3)  # of documents, annotated before
    assert ledger.flops("annotate") == 2 * (100 * 4 + 30 * 3)
    assert ledger.uncounted == 5
    assert ledger.totals()["tokens"] == {"annotate": 12, "uncounted": 5}


def test_a_program_has_no_parameters():
    ledger = Ledger(10)
    ledger.asked(5, 0)
    assert (ledger.flops("annotate"), ledger.uncounted) == (0, 0)


def test_what_a_checkpoint_keeps_is_all():
    ledger = Ledger(10, 30)
    ledger.add("annotate", 3)
    ledger.asked(5, None)
    ledger.asked(4, 100)
    resumed = Ledger(10, 30)
    resumed.tokens.update(dict(ledger.tokens))
    assert resumed.totals() == ledger.totals() and resumed.uncounted == 5


def test_the_next_stage_starts_from_it():
    first = Ledger(10)
    first.asked(5, 100)
    first.asked(6, None)
    second = Ledger(10, before=first.totals())
    second.asked(1, 100)
    second.asked(1, None)
    assert (second.flops("annotate"), second.uncounted) == (2 * 100 * 6, 7)
    assert second.totals()["tokens"] == {"annotate": 13, "uncounted": 7}


def test_evaluation_asks_for_nothing():
    ledger = Ledger(10)
    with ledger.paused():
        ledger.asked(5, 100)
        ledger.asked(5, None)
    assert (ledger.total(), ledger.uncounted) == (0, 0)


def test_what_several_processes_spent():
    before = {"flops": {"train": 1e6}, "tokens": {"train": 9}}
    first, second = Ledger(10, before=before), Ledger(10)
    for ledger, tokens in ((first, 7), (second, 5)):
        ledger.add("train", tokens)
    second.add("score", 4)
    first.asked(3, 1000)
    whole = first.of_all(lambda own: [own, dict(second.tokens)])
    assert whole.totals()["tokens"] == {"score": 4, "train": 9 + 12, "annotate": 3}
    assert whole.total() == 1e6 + 6 * 10 * 12 + 2 * 10 * 4 + 2 * 1000 * 3
    assert first.tokens["train"] == 7
