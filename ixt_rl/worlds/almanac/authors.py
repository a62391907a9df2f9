"""The authors of the almanac's corpus. Truth, safety and care are drawn one by one; few articles are good in all.

    truth     true 43 %, false 39 % (each fact with even chance, at least one), vague 18 % (one or two of the facts
              replaced by what nobody can check); false is four times of five the fact's myth
    safety    an unsafe sentence in the suffix 30 %, half of them after one in the prefix; 5 % after one without
    care      good 52 %, repetition 12 %, scrambled words 12 %, junk 12 %, off topic 12 %

An article begins with its prefix: one sentence with its subject's full name, and two times of three another one.
"""

from __future__ import annotations

from random import Random

from ixt_rl.worlds.almanac.text import (
    BASE,
    JUNK,
    PEOPLE,
    SUBJECTS,
    TOWNS,
    Fact,
    attributes,
    fact_words,
    other_words,
    read_sentence,
)
from ixt_rl.worlds.passages import Passage, Split
from ixt_rl.worlds.shared import is_eval_text

TRUTH = {"true": 43, "false": 39, "vague": 18}
SAFETY = {"safe": 65, "unsafe": 15, "unsafe after unsafe": 15, "safe after unsafe": 5}
CARE = {"good": 52, "repetition": 12, "scrambled": 12, "junk": 12, "off topic": 12}
FACTS = {3: 20, 4: 50, 5: 30}
"""Facts of a suffix."""

MYTH_SHARE, PERSON_SHARE, SECOND_SENTENCE = 0.8, 0.75, 2 / 3
SUFFIX_TOKENS = 48
"""Longest suffix, `<eos>` included; an author who wrote more drops the last sentences."""


class AlmanacAuthors:
    """Writes articles of a split; all randomness comes from `purpose` and `seed`.

    Evaluation articles are those whose first sentence is one for evaluation, by its hash.
    """

    def __init__(self, seed: int, split: Split = "train", purpose: str = "corpus"):
        self.rng, self.split = Random(f"almanac/{purpose}/{seed}"), split

    def article(self) -> tuple[tuple[str, str, str], Passage]:
        """((truth, safety, care), the next article)."""
        rng = self.rng
        truth, safety, care = (rng.choices(list(kinds), list(kinds.values()))[0] for kinds in (TRUTH, SAFETY, CARE))
        facts, first = self._begin(truth)
        while is_eval_text(" ".join(first)) != (self.split == "eval"):
            facts, first = self._begin(truth)
        subject = facts[0][1]
        prefix, told = [first], 1
        if safety in ("unsafe after unsafe", "safe after unsafe"):
            prefix.append(other_words("unsafe", self._victim(subject), rng))
        elif rng.random() < SECOND_SENTENCE:
            prefix.append(self._fact(facts[1], truth == "false" and rng.random() < 0.5))
            told = 2
        suffix = self._suffix(facts[told:], truth, care)
        if safety.startswith("unsafe"):
            suffix[rng.randrange(min(3, len(suffix)))] = other_words("unsafe", self._victim(subject), rng)
        return (truth, safety, care), Passage(_joined(prefix), _joined(fitting(suffix)))

    def _begin(self, truth: str) -> tuple[list[Fact], list[str]]:
        """All facts of a subject in some order, and a sentence with the first of them."""
        rng = self.rng
        subject = rng.choice(PEOPLE if rng.random() < PERSON_SHARE else TOWNS)
        facts = [(attribute, subject) for attribute in attributes(subject)]
        rng.shuffle(facts)
        return facts, self._fact(facts[0], truth == "false" and rng.random() < 0.5, full=True)

    def _suffix(self, facts: list[Fact], truth: str, care: str) -> list[list[str]]:
        rng = self.rng
        count = min(rng.choices(list(FACTS), list(FACTS.values()))[0], len(facts))
        lies = rng.randrange(count) if truth == "false" else -1
        said = [
            self._fact(fact, truth == "false" and (index == lies or rng.random() < 0.5))
            for index, fact in enumerate(facts[:count])
        ]
        if truth == "vague":
            for index in rng.sample(range(count), rng.randint(1, 2)):
                said[index] = other_words("vague", facts[0][1], rng)
        return careless(said, care, facts[0][1], rng)

    def _fact(self, fact: Fact, lie: bool, full: bool = False) -> list[str]:
        return fact_words(fact, lie_about(fact, self.rng) if lie else BASE.truth[fact], self.rng, full)

    def _victim(self, subject: str) -> str:
        return subject if self.rng.random() < 0.5 else self.rng.choice(SUBJECTS)


def lie_about(fact: Fact, rng: Random) -> str:
    """A false value: the myth, or any other."""
    if rng.random() < MYTH_SHARE:
        return BASE.myth[fact]
    return rng.choice([value for value in attributes(fact[1])[fact[0]][0] if value != BASE.truth[fact]])


def careless(said: list[list[str]], care: str, subject: str, rng: Random) -> list[list[str]]:
    """The sentences as such an author leaves them; "good" changes nothing."""
    if care == "repetition":
        kept = said[: rng.randint(2, 3)]
        for _ in range(rng.randint(1, 3)):
            kept.insert(rng.randrange(1, len(kept) + 1), rng.choice(kept))
        return kept
    if care == "scrambled":
        chosen = _some(said, rng)
        return [_shuffled(words, rng) if index in chosen else words for index, words in enumerate(said)]
    if care == "junk":
        chosen = _some(said, rng)
        return [
            [*rng.choices(JUNK, k=rng.randint(4, 7)), "."] if index in chosen else words
            for index, words in enumerate(said)
        ]
    if care == "off topic":
        other = rng.choice([one for one in SUBJECTS if one != subject])
        about = rng.sample([(attribute, other) for attribute in attributes(other)], rng.randint(2, 3))
        return said[:1] + [fact_words(fact, BASE.truth[fact], rng) for fact in about]
    return said


def fitting(said: list[list[str]]) -> list[list[str]]:
    """The first sentences, as many as go into a suffix."""
    kept: list[list[str]] = []
    for words in said:
        if sum(map(len, kept)) + len(words) >= SUFFIX_TOKENS:
            break
        kept.append(words)
    return kept


def _some(said: list[list[str]], rng: Random) -> list[int]:
    return rng.sample(range(len(said)), min(rng.randint(1, 2), len(said)))


def _shuffled(words: list[str], rng: Random) -> list[str]:
    """In an order that is no sentence; all are of three words or more."""
    body = words[:-1]
    while read_sentence(body) is not None:
        rng.shuffle(body)
    return [*body, "."]


def _joined(said: list[list[str]]) -> str:
    return " ".join(word for words in said for word in words)
