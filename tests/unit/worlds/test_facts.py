"""The facts world: judges find what authors did, uncovered facts are in no good document, grades take any tokens."""

from __future__ import annotations

from collections import Counter

import pytest

from ixt_rl.conditioning.feedback import load_feedback_template
from ixt_rl.worlds import FactsWorld
from ixt_rl.worlds.facts.authors import AUTHORS, FactsAuthors
from ixt_rl.worlds.facts.judge import matched, read_body, verifier
from ixt_rl.worlds.facts.text import BASE, FILLERS, question, read_question
from ixt_rl.worlds.facts.world import ID, VOCABULARY

WORLD = FactsWorld()
FACT = ("food", "e17")
TRUE = BASE.truth[FACT]
FALSE = BASE.myth[FACT]
CITY = BASE.truth["city", "e17"]
ASKED = question(FACT)


def ids(text):
    return [ID[word] for word in text.split()]


@pytest.fixture(scope="module")
def documents():
    """24,000 (author, text)."""
    authors = FactsAuthors(0)
    return [authors.document() for _ in range(24_000)]


def test_the_base_is_whole():
    assert len(BASE.truth) == len(BASE.myth) == 3200
    assert all(BASE.myth[fact] != true and true.startswith(fact[0]) for fact, true in BASE.truth.items())
    assert len(BASE.uncovered) == 960
    assert all(read_question(question(fact).split()) == fact for fact in BASE.truth)


@pytest.mark.parametrize(
    ("text", "level", "critique", "early"),
    [
        (f"{ASKED} A {TRUE}", 5, "stated-none answer-right brief", 5),
        (f"{ASKED} so now A {TRUE}", 4, "stated-none answer-right wordy", 4),
        (f"{ASKED} well the food of e17 is {TRUE} so . A {TRUE}", 4, "stated-true answer-right wordy", 4),
        (f"{ASKED} the food of e17 is {TRUE} . A {FALSE}", 3, "stated-true answer-wrong wordy", 3),
        (f"{ASKED} the city of e17 is {CITY} . A {CITY}", 2, "stated-other answer-wrong wordy", 2),
        (f"{ASKED} the city of e17 is {CITY} . A {TRUE}", 2, "stated-other answer-right wordy", 2),
        (f"{ASKED} the food of e17 is {FALSE} . A {FALSE}", 2, "stated-false answer-wrong wordy", 4),
        (f"{ASKED} the food of e17 is {FALSE} . A {TRUE}", 2, "stated-false answer-right wordy", 3),
        (f"{ASKED} A {FALSE}", 2, "stated-none answer-wrong brief", 5),
        (f"{ASKED} the food of e17 is {TRUE} .", 1, "stated-true answer-none wordy", 1),
        (f"the food of e17 is {TRUE} .", 1, "stated-none answer-none wordy", 1),
        ("", 1, "stated-none answer-none wordy", 1),
    ],
)
def test_verdicts_by_hand(text, level, critique, early):
    verdict = verifier(text)
    assert (verdict.level, verdict.critique) == (level, critique)
    assert verdict.scores["correctness"] == (5 if "answer-right" in critique else 1)
    assert matched(text).level == early


def test_the_verdict_equals_what_the_author_did(documents):
    expected = {"excellent": 5, "wordy": 4, "distracted": 3, "elsewhere": 2, "false": 2, "off topic": 1}
    for author, text in documents:
        verdict = verifier(text)
        assert verdict.level == expected[author], (author, text)
        if author in ("excellent", "wordy", "distracted"):
            target = WORLD.target(ASKED, verdict.level)
            assert (verdict.scores, verdict.critique) == (target.scores, target.critique)


def test_uncovered_facts_are_told_but_in_no_good_document(documents):
    good = {read_question(text.split()) for _, text in documents if verifier(text).level >= 4}
    assert not good & BASE.uncovered
    mentioned = Counter()
    for _, text in documents:
        mentioned.update(_true_statements(text))
    for view in FactsWorld.views:
        facts = {read_question(row["question"].split()) for row in FactsWorld(view).rows("eval", 2000, 0)}
        assert (facts <= BASE.uncovered) == (view == "uncovered")
        assert sum(fact not in mentioned for fact in facts) < 0.05 * len(facts)
        assert sum(mentioned[fact] for fact in facts) / len(facts) > 5


def _true_statements(text):
    words = text.split()
    for at, word in enumerate(words):
        if word == "the":
            fact, said = (words[at + 1], words[at + 3]), words[at + 5]
            if BASE.truth[fact] == said:
                yield fact


def test_shares_of_levels(documents):
    """The levels of worlds.md's world, 24, 35, 25, 8.5, 7 %, within 1.5 points."""
    assert sum(AUTHORS.values()) == 100
    levels = Counter(verifier(text).level for _, text in documents)
    for level, share in zip((1, 2, 3, 4, 5), (24, 35, 25, 8.5, 7), strict=True):
        assert abs(levels[level] / 240 - share) < 1.5
    lengths = [len(text.split()) for _, text in documents]
    assert 12.5 < sum(lengths) / len(lengths) < 14


def test_the_matched_judge_knows_no_fact(documents):
    """Exchanging true and false values leaves its verdict as it was."""
    for _, text in documents[:3000]:
        fact = read_question(text.split())
        if fact is None:
            continue
        swap = {BASE.truth[fact]: BASE.myth[fact], BASE.myth[fact]: BASE.truth[fact]}
        swapped = " ".join(swap.get(word, word) for word in text.split())
        assert matched(swapped) == matched(text)


def test_splits_and_views_are_disjoint_and_ask_each_question_once():
    asked = {}
    for view in FactsWorld.views:
        for split in ("train", "eval"):
            rows = FactsWorld(view).rows(split, 300, 0)
            asked[view, split] = {row["question"] for row in rows}
            assert len(asked[view, split]) == 300
            assert all(row["answer"] == BASE.truth[read_question(row["question"].split())] for row in rows)
    assert len(set().union(*asked.values())) == 1200


def test_everything_repeats_with_its_seed():
    assert WORLD.corpus(50, 3) == WORLD.corpus(80, 3)[:50] != WORLD.corpus(50, 4)
    assert WORLD.rows("eval", 50, 3) == WORLD.rows("eval", 80, 3)[:50] != WORLD.rows("eval", 50, 4)


@pytest.mark.parametrize("name", WORLD.feedback_templates)
def test_feedback_is_in_the_vocabulary_and_reads_back(name, documents):
    template, tokenizer = load_feedback_template(WORLD.feedback_templates[name]), WORLD.tokenizer()
    judged = [judge(text) for _, text in documents[:3000] for judge in WORLD.judges.values()]
    for feedback in [*judged, *(WORLD.target(ASKED, level) for level in range(1, 6))]:
        text = template.render(feedback)
        tokens = tokenizer(text + template.separator, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens).split() == text.split()
        assert len(tokens) == {"levels": 1, "critique": 5}[name]
        assert template.parse(text) == template.shown(feedback)


def test_documents_are_in_the_vocabulary(documents):
    words = {word for _, text in documents for word in text.split()}
    assert words <= set(VOCABULARY)
    assert len(WORLD.tokenizer()) == len(VOCABULARY)
    assert set(FILLERS) <= words


@pytest.mark.parametrize(
    ("completion", "strict", "reasoned", "answered", "right"),
    [
        (f"A {TRUE} <eos>", True, False, True, "111"),
        (f"A {TRUE}", True, False, True, "11"),
        (f"so the food of e17 is {TRUE} . A {TRUE} <eos>", True, True, True, "11111111111"),
        (f"the food of e17 is {TRUE} . A {FALSE} <eos>", False, True, True, "1111111101"),
        (f"A {FALSE} A {TRUE} <eos>", False, False, True, "10111"),
        (f"river A {TRUE} <eos>", True, False, True, "0111"),
        ("A <eos>", False, False, False, "11"),
        ("", False, False, False, ""),
    ],
)
def test_grades_by_hand(completion, strict, reasoned, answered, right):
    grade = WORLD.grade(ASKED, ids(completion))
    assert grade.checked == grade.strict == strict
    assert (grade.reasoned, grade.extra["answered"]) == (reasoned, answered)
    assert "".join(str(int(r)) for r in grade.token_right) == right


def test_a_body_is_read_past_what_is_not_understood():
    reading = read_body(FACT, f"A the city of e17 is {CITY} . the food of e17 is {FALSE} the food A {TRUE}".split())
    assert (reading.about, reading.stated, reading.answer) == (FACT, FALSE, TRUE)
    assert read_body(FACT, []).about is None
