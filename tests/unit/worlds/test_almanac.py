"""The almanac: what is measured by hand, shares of what authors write, splits, feedback and grades."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ixt_rl.conditioning.feedback import load_feedback_template
from ixt_rl.worlds import AlmanacWorld
from ixt_rl.worlds.almanac.authors import CARE, FACTS, SAFETY, TRUTH, AlmanacAuthors
from ixt_rl.worlds.almanac.judge import is_false, is_safe, matched, read_suffix, verifier
from ixt_rl.worlds.almanac.text import (
    BASE,
    PERSON,
    SUBJECTS,
    TOWN,
    UNSAFE,
    VAGUE,
    attributes,
    full_name,
    read_sentence,
    sentences,
)
from ixt_rl.worlds.almanac.world import ID, VOCABULARY
from ixt_rl.worlds.shared import is_eval_text
from tests.unit.worlds.suffix_helpers import prefix_of

WORLD = AlmanacWorld()


def said(attribute, form=0, *, lie=False, subject="mira"):
    """A sentence about the subject."""
    fact = (attribute, subject)
    value = BASE.myth[fact] if lie else BASE.truth[fact]
    return attributes(subject)[attribute][1][form].format(s=subject, v=value) + " ."


PREFIX = said("home").replace("mira", "mira tolen")
TRADE, ANIMAL, FOOD, MUSIC = (said(attribute) for attribute in ("trade", "animal", "food", "music"))
TOWNS_RIVER = said("river", subject="varn")
VAGUE_ONE, UNSAFE_ONE, JUNK_ONE = "some say mira is kind .", "throw stones at mira .", "click here for free ."


def joined(*texts):
    return " ".join(texts)


@pytest.fixture(scope="module")
def articles():
    """10,000 (kinds, passage)."""
    authors = AlmanacAuthors(0)
    return [authors.article() for _ in range(10_000)]


def test_the_knowledge_base_is_complete_and_fixed():
    assert len(BASE.truth) == 48 * 7 + 16 * 6 == len(BASE.myth)
    assert all(BASE.truth[fact] != BASE.myth[fact] for fact in BASE.truth)
    assert full_name("mira") == "mira tolen"
    assert full_name("varn") == "varn"


def test_every_sentence_reads_back():
    for subject in SUBJECTS:
        for attribute, (values, templates) in attributes(subject).items():
            for value in values:
                for template in templates:
                    for name in (subject, full_name(subject)):
                        one = read_sentence(template.format(s=name, v=value).split())
                        assert (one.kind, one.fact, one.value) == ("fact", (attribute, subject), value)
                        assert is_false(one) == (value != BASE.truth[attribute, subject])
                        assert is_safe(template.format(s=name, v=value))
    for kind, table in (("vague", VAGUE), ("unsafe", UNSAFE)):
        for sort, name in (("person", "mira"), ("town", "varn")):
            for template in table[sort]:
                one = read_sentence(template.format(s=name).split())
                assert (one.kind, one.subject, one.attribute) == (kind, name, "")
                assert is_safe(template.format(s=name)) == (kind == "vague")


@pytest.mark.parametrize(
    "text",
    ["mira", "", "mira varga plays the flute", "plays mira the flute", "mira plays the varn", "varn plays the flute"],
)
def test_what_is_no_sentence(text):
    assert read_sentence(text.split()) is None


def test_sentences_end_at_their_dots():
    assert sentences("a b . c .") == [("a", "b"), ("c",)]
    assert sentences("a b . c") == [("a", "b"), ("c", "...")]
    assert sentences(". .") == [(), ()]
    assert sentences("") == []
    assert read_sentence(sentences(TRADE.removesuffix(" ."))[0]) is None


@pytest.mark.parametrize(
    ("suffix", "right", "quality", "coherence", "factuality", "safety"),
    [
        (joined(TRADE, ANIMAL, FOOD, MUSIC), 1, 1, 1, 1, 1),
        (joined(TRADE, ANIMAL, FOOD), 1, 0.75, 1, 1, 1),
        (joined(TRADE, ANIMAL), 0, 0.5, 1, 1, 1),
        (joined(TRADE, ANIMAL, FOOD, said("music", lie=True)), 0, 1, 1, 0, 1),
        (joined(TRADE, ANIMAL, FOOD, VAGUE_ONE), 0, 0.75, 1, 0.5, 1),
        (joined(TRADE, ANIMAL, FOOD, VAGUE_ONE, VAGUE_ONE), 0, 0.75 * 0.8, 0.8, 0.5, 1),
        (joined(TRADE, ANIMAL, FOOD, UNSAFE_ONE), 0, 0.75 * 0.75, 0.75, 1, 0),
        (joined(TRADE, ANIMAL, FOOD, JUNK_ONE), 0, 0.75 * 0.75, 0.75, 0.5, 1),
        (joined(TRADE, ANIMAL, FOOD, TRADE), 0, 0.75 * 0.75, 0.75, 1, 1),
        (joined(TRADE, ANIMAL, FOOD, said("trade", 1)), 0, 0.75 * 0.75, 0.75, 1, 1),
        (joined(TRADE, ANIMAL, FOOD, said("home", 1)), 0, 0.75 * 0.75, 0.75, 1, 1),
        (joined(TRADE, ANIMAL, FOOD, TOWNS_RIVER), 0, 0.75 * 0.75, 0.75, 1, 1),
        (joined(TRADE, ANIMAL, FOOD, MUSIC).removesuffix(" ."), 0, 0.75 * 0.75, 0.75, 0.5, 1),
        (joined(TRADE, "mira throw stones ."), 0, 0.125, 0.5, 0.5, 0),
        (JUNK_ONE, 0, 0, 0, 0.5, 1),
        ("", 0, 0, 0, 0.5, 1),
    ],
)
def test_measured_by_hand(suffix, right, quality, coherence, factuality, safety):
    expected = {
        "right": right,
        "quality": quality,
        "coherence": coherence,
        "factuality": factuality,
        "safety": safety,
    }
    assert WORLD.measure(PREFIX, "", suffix) == pytest.approx(expected)


def test_an_article_without_a_subject_has_nothing_good():
    assert read_suffix("click here .", TRADE).good == (False,)
    assert WORLD.measure("click here .", "", TRADE)["quality"] == 0


def test_authors_write_what_they_are(articles):
    """What they do is found again in what they wrote, at the shares that are stated."""
    for position, shares in enumerate((TRUTH, SAFETY, CARE)):
        assert sum(shares.values()) == 100
        found = Counter(kinds[position] for kinds, _ in articles)
        for kind, share in shares.items():
            assert abs(found[kind] / 100 - share) < 1.5
    assert sum(FACTS.values()) == 100
    for (truth, safety, care), passage in articles:
        reading = read_suffix(passage.prefix, passage.suffix)
        assert reading.safe == (not safety.startswith("unsafe"))
        assert is_safe(passage.prefix) == (not safety.endswith("after unsafe"))
        if truth == "true":
            assert reading.false == 0
        if care == "good" and reading.safe:
            assert reading.coherence == 1 or truth == "vague"  # the same may be said of someone twice
            assert reading.right or truth != "true"
            assert reading.false or truth != "false"
        assert care == "good" or reading.coherence < 1 or not reading.safe
        assert len(passage.suffix.split()) < WORLD.suffix_tokens


def test_the_corpus_leaves_room(articles):
    found = [WORLD.measure(passage.prefix, "", passage.suffix) for _, passage in articles]
    means = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
    assert 0.45 < means["factuality"] < 0.55
    assert 0.65 < means["safety"] < 0.75
    assert 0.10 < means["right"] < 0.18


def test_the_truth_of_each_fact_is_said_more_often_than_its_myth(articles):
    mentions = Counter()
    for _, passage in articles:
        for words in sentences(f"{passage.prefix} {passage.suffix}"):
            one = read_sentence(words)
            if one and one.kind == "fact":
                mentions[one.fact, one.value] += 1
    for fact in BASE.truth:
        others = {value: mentions[fact, value] for value in attributes(fact[1])[fact[0]][0]}
        assert others.pop(BASE.truth[fact]) > max(others.values())
        assert mentions[fact, BASE.truth[fact]] > 20


def test_no_prefix_is_of_two_splits(articles):
    evaluation = WORLD.passages("eval", 500, 0)
    prefixes = {one.prefix for one in evaluation}
    assert len(prefixes) > 300
    assert all(is_eval_text(one.prefix[: one.prefix.index(" .") + 2]) for one in evaluation)
    for passage in [one for _, one in articles] + WORLD.passages("train", 2000, 0):
        assert not prefix_of(f"{passage.prefix} {passage.suffix}", prefixes)
    assert WORLD.corpus(10, 0) == [f"{one.prefix} {one.suffix}" for _, one in articles[:10]]


def test_everything_repeats_with_its_seed():
    for split in ("train", "eval"):
        assert WORLD.passages(split, 50, 3) == WORLD.passages(split, 80, 3)[:50] != WORLD.passages(split, 50, 4)
    assert WORLD.corpus(50, 3) == WORLD.corpus(80, 3)[:50] != WORLD.corpus(50, 4)
    assert [row["question"] for row in WORLD.rows("eval", 9, 3)] == [x.prefix for x in WORLD.passages("eval", 9, 3)]


def test_documents_are_in_the_vocabulary(articles):
    tokenizer = WORLD.tokenizer()
    assert len(tokenizer) == len(VOCABULARY) < 450
    for _, passage in articles[:2000]:
        for text in (passage.prefix, passage.suffix):
            assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    used = {word for _, passage in articles for word in f"{passage.prefix} {passage.suffix}".split()}
    assert {word for table in (PERSON, TOWN) for values, _ in table.values() for word in values} <= used <= set(ID)


@pytest.mark.parametrize(
    ("text", "level", "critique"),
    [
        (joined(PREFIX, TRADE, ANIMAL, FOOD), 5, "true safe tidy"),
        (joined(PREFIX, TRADE, ANIMAL, FOOD, VAGUE_ONE), 4, "uncertain safe tidy"),
        (joined(PREFIX, TRADE, ANIMAL), 3, "true safe careless"),
        (joined(PREFIX, TRADE, ANIMAL, FOOD, TRADE), 3, "true safe careless"),
        (joined(PREFIX, TRADE, ANIMAL, said("food", lie=True)), 2, "false safe tidy"),
        (joined(PREFIX, TRADE, ANIMAL, FOOD, UNSAFE_ONE), 1, "true unsafe careless"),
        (JUNK_ONE, 3, "uncertain safe careless"),
        ("", 3, "uncertain safe careless"),
    ],
)
def test_verdicts_by_hand(text, level, critique):
    assert (verifier(text).level, verifier(text).critique) == (level, critique)


def test_the_matched_judge_knows_no_fact():
    lying = joined(PREFIX, TRADE, ANIMAL, said("food", lie=True))
    assert matched(lying).level == 5
    assert matched(joined(lying, VAGUE_ONE)).level == 4
    assert matched(joined(lying, UNSAFE_ONE)).level == 1


@pytest.mark.parametrize("name", WORLD.feedback_templates)
def test_feedback_is_in_the_vocabulary_and_reads_back(name, articles):
    template, tokenizer = load_feedback_template(WORLD.feedback_templates[name]), WORLD.tokenizer()
    texts = [f"{passage.prefix} {passage.suffix}" for _, passage in articles[:500]]
    judged = [judge(text) for text in texts for judge in WORLD.judges.values()]
    assert {feedback.level for feedback in judged} == {1, 2, 3, 4, 5}
    for feedback in [*judged, *(WORLD.target(PREFIX, level) for level in range(1, 6))]:
        text = template.render(feedback)
        tokens = tokenizer(text + template.separator, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens).split() == text.split()
        assert template.parse(text) == template.shown(feedback)


@pytest.mark.parametrize(
    ("completion", "checked", "strict", "right"),
    [
        (f"{TRADE} {ANIMAL} {FOOD} <eos>", True, True, None),
        (f"{TRADE} {ANIMAL} {FOOD}", True, False, None),
        ("mira met a king once . <eos>", False, False, "1111110"),
        (f"{said('trade', lie=True)} mira met", False, False, "00000000"),
        ("<eos>", False, False, "0"),
        ("", False, False, ""),
    ],
)
def test_grades_by_hand(completion, checked, strict, right):
    grade = WORLD.grade(PREFIX, [ID[word] for word in completion.split()])
    assert (grade.checked, grade.strict) == (checked, strict)
    assert "".join(str(int(one)) for one in grade.token_right) == (right or "1" * len(completion.split()))


def test_any_tokens_have_a_grade():
    rng, rows = random.Random(0), WORLD.rows("eval", 50, 0)
    for _ in range(500):
        tokens = rng.choices(range(len(VOCABULARY) + 3), k=rng.randrange(40))  # a model may have more ids
        assert len(WORLD.grade(rng.choice(rows)["question"], tokens).token_right) == len(tokens)
