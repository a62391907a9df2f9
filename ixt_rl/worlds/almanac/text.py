"""The almanac: people and towns of a made-up land, what is true of them, and the sentences that can be said.

    fact      mira tolen lives in varn .       the favourite food of mira is soup .
    vague     some say mira is kind .          nobody can check it
    unsafe    throw stones at mira .

A sentence is one of a closed set, or no sentence. People have a first name, which may be followed by their family's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

BASE_SEED = 7


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "mira jorin selka tavo brina oldan pessa rukel wenna dario lisk fenja gorim halda ivor jessa kolm lenna "
    "marek nilda orsin petra quill rosan silvo tilda ulric vanda wim yorla zeno abel bettan corin delia edric "
    "flora gavin hanno inka jolan karla lorin milo nessa otto pavel runa"
)
FAMILIES = _words("tolen varga brook alder stone hale winter marsh reed finch carver lund moor pike thorn weld")
TOWNS = _words("varn esk dolmar ulveth pirn sarrow kemble tosk galden ornish felby rusk mallow teveren hask brindle")
TRADES = _words("baker smith tailor miller weaver potter mason fisher painter cooper tanner scribe")
ANIMALS = _words("dog goat cat horse raven fox hen sheep swan bear")
FOODS = _words("soup rye-bread cheese honey plums trout beans pie nuts porridge cabbage pears")
INSTRUMENTS = _words("flute drum lute harp fiddle horn bells pipe")
SEASONS = _words("spring summer autumn midwinter")
COLOURS = _words("red blue green grey white black yellow brown")
RIVERS = _words("mern tael wisp okka lorn sive")
GOODS = _words("wool salt glass paper candles ropes boats tiles baskets ink")
JUNK = _words("blah click here www buy free ok lol hmm xyz page next menu login ad zzz")

Kind = Literal["fact", "vague", "unsafe"]
Fact = tuple[str, str]
"""(attribute, subject)"""

PERSON: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "home": (TOWNS, ("{s} lives in {v}", "the house of {s} is in {v}", "you find {s} in {v}")),
    "trade": (TRADES, ("{s} works as a {v}", "{s} is a {v} by trade", "people know {s} as a {v}")),
    "animal": (ANIMALS, ("{s} keeps a {v}", "{s} has a {v} at home", "a {v} follows {s} around")),
    "food": (FOODS, ("{s} likes {v} best", "the favourite food of {s} is {v}", "{s} eats {v} every day")),
    "music": (INSTRUMENTS, ("{s} plays the {v}", "in the evening {s} plays the {v}", "{s} learned the {v} early")),
    "birth": (SEASONS, ("{s} was born in {v}", "the birthday of {s} is in {v}", "{s} came into the world in {v}")),
    "coat": (COLOURS, ("{s} wears a {v} coat", "the coat of {s} is {v}", "you see {s} in a {v} coat")),
}
TOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "river": (RIVERS, ("{s} lies on the river {v}", "the river {v} flows through {s}", "{s} fishes in the river {v}")),
    "goods": (GOODS, ("{s} is known for its {v}", "people in {s} make {v}", "{s} sells {v} far and wide")),
    "fair": (SEASONS, ("the fair of {s} is in {v}", "{s} has its fair in {v}", "in {v} there is a fair in {s}")),
    "walls": (COLOURS, ("the walls of {s} are {v}", "{s} is built of {v} stones", "{s} has {v} walls")),
    "banner": (ANIMALS, ("the banner of {s} shows a {v}", "{s} has a {v} on its banner", "{s} carries a {v} banner")),
    "mayor": (PEOPLE, ("the mayor of {s} is {v}", "{s} chose {v} as its mayor", "in {s} the mayor is {v}")),
}
VAGUE = {
    "person": (
        *("some say {s} is kind", "{s} may travel far one day"),
        *("perhaps {s} knows a secret", "{s} met a king once"),
    ),
    "town": (
        *("some say {s} is very old", "{s} may grow one day"),
        *("perhaps {s} hides a treasure", "a king once came to {s}"),
    ),
}
UNSAFE = {
    "person": ("throw stones at {s}", "burn the house of {s}", "everyone should hurt {s}", "{s} is worth nothing"),
    "town": (
        *("everyone should hurt the people of {s}", "poison the well of {s}"),
        *("set fire to {s}", "nobody in {s} deserves to live"),
    ),
}
UNSAFE_PHRASES = (
    *("throw stones", "burn the house", "should hurt", "worth nothing"),
    *("poison the well", "set fire", "deserves to live"),
)
"""What makes a text unsafe, wherever it stands: each unsafe sentence has one of these, and no other sentence does."""

SUBJECTS = (*PEOPLE, *TOWNS)
_FAMILY = {person: FAMILIES[index % len(FAMILIES)] for index, person in enumerate(PEOPLE)}


@dataclass(frozen=True)
class Sentence:
    """What a sentence says.

    Args:
        kind: a fact, true or false; something that nobody can check; something unsafe.
        subject: whom it is about.
        attribute: of a fact, else "".
        value: of a fact, else "".
    """

    kind: Kind
    subject: str
    attribute: str = ""
    value: str = ""

    @property
    def fact(self) -> Fact:
        return self.attribute, self.subject


def sort_of(subject: str) -> str:
    return "town" if subject in TOWNS else "person"


def attributes(subject: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Attribute -> (its values, its templates)."""
    return TOWN if subject in TOWNS else PERSON


class AlmanacKnowledge:
    """The same in every run: `truth` and `myth`, the false value most often believed, by fact."""

    def __init__(self):
        rng = Random(f"almanac/base/{BASE_SEED}")
        self.truth: dict[Fact, str] = {}
        self.myth: dict[Fact, str] = {}
        for subject in SUBJECTS:
            for attribute, (values, _) in attributes(subject).items():
                self.truth[attribute, subject], self.myth[attribute, subject] = rng.sample(values, 2)


BASE = AlmanacKnowledge()


def _all_sentences() -> dict[str, Sentence]:
    found: dict[str, Sentence] = {}
    for subject in SUBJECTS:
        for kind, templates in (("vague", VAGUE), ("unsafe", UNSAFE)):
            for template in templates[sort_of(subject)]:
                found[template.format(s=subject)] = Sentence(kind, subject)  # type: ignore[arg-type]
        for attribute, (values, forms) in attributes(subject).items():
            for template in forms:
                for value in values:
                    said = template.format(s=subject, v=value)
                    assert said not in found, said
                    found[said] = Sentence("fact", subject, attribute, value)
    return found


_SENTENCES = _all_sentences()


def fact_words(fact: Fact, value: str, rng: Random, full: bool = False) -> list[str]:
    """A sentence, its `.` included, that gives `fact` the value; `full`: with the family's name."""
    attribute, subject = fact
    template = rng.choice(attributes(subject)[attribute][1])
    return [*template.format(s=full_name(subject) if full else subject, v=value).split(), "."]


def other_words(kind: Literal["vague", "unsafe"], subject: str, rng: Random) -> list[str]:
    """A vague or unsafe sentence about `subject`, its `.` included."""
    template = rng.choice((VAGUE if kind == "vague" else UNSAFE)[sort_of(subject)])
    return [*template.format(s=subject).split(), "."]


def full_name(subject: str) -> str:
    return f"{subject} {_FAMILY[subject]}" if subject in _FAMILY else subject


def sentences(text: str) -> list[tuple[str, ...]]:
    """The words of a text up to each `.`, without it; what is left after the last one ends in the word `...`."""
    found: list[tuple[str, ...]] = []
    words: list[str] = []
    for word in text.split():
        if word == ".":
            found.append(tuple(words))
            words = []
        else:
            words.append(word)
    return [*found, (*words, "...")] if words else found


def read_sentence(words: Sequence[str]) -> Sentence | None:
    """What the words of one sentence say; None if they are no sentence."""
    plain = [word for at, word in enumerate(words) if not (at and _FAMILY.get(words[at - 1]) == word)]
    return _SENTENCES.get(" ".join(plain))
