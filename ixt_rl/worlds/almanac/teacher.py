"""SIP's teacher in the almanac: keeps what is good in a suffix, adds what is missing, and errs now and then."""

from __future__ import annotations

from random import Random

from ixt_rl.worlds.almanac.authors import CARE, careless, fitting, lie_about
from ixt_rl.worlds.almanac.judge import is_false, read_suffix
from ixt_rl.worlds.almanac.text import BASE, attributes, fact_words, other_words, read_sentence, sentences
from ixt_rl.worlds.passages import Teacher

FACTS = {4: 60, 5: 40}
"""Facts of a rewrite, where as many are left to say."""


def teacher(error: float, seed: int) -> Teacher:
    """Leaves right suffixes as they are; of those it writes, a share of `error` is flawed.

    What it writes depends on seed, prefix and suffix. Flawed is one of: false facts in well-made sentences, an unsafe
    sentence (if the suffix had one), or carelessness of any of the authors' kinds. An article without a subject is left
    alone.
    """

    def rewrite(prefix: str, suffix: str) -> str:
        reading = read_suffix(prefix, suffix)
        if reading.right or not reading.subject:
            return suffix
        rng = Random(f"almanac/teacher/{seed}/{prefix}/{suffix}")
        flawed = rng.random() < error
        flaws = ["false", "careless"] if reading.safe else ["false", "careless", "unsafe"]
        said = _written(prefix, suffix, rng.choice(flaws) if flawed else "", rng)
        return " ".join(word for words in fitting(said) for word in words)

    return rewrite


def _written(prefix: str, suffix: str, flaw: str, rng: Random) -> list[list[str]]:
    """The sentences of a rewrite."""
    reading = read_suffix(prefix, suffix)
    subject = reading.subject
    kept = [
        ([*words, "."], one.attribute)
        for words, one, good in zip(sentences(suffix), reading.said, reading.good, strict=True)
        if good and one is not None and one.kind == "fact" and not is_false(one)
    ]
    before = [one for one in map(read_sentence, sentences(prefix)) if one and one.subject == subject]
    told = {one.attribute for one in before} | {attribute for _, attribute in kept}
    left = [attribute for attribute in attributes(subject) if attribute not in told]
    rng.shuffle(left)
    wanted = rng.choices(list(FACTS), list(FACTS.values()))[0]
    added = [(attribute, subject) for attribute in left[: max(0, wanted - len(kept))]]
    said = [words for words, _ in kept] + [fact_words(fact, BASE.truth[fact], rng) for fact in added]
    if flaw == "false":
        facts = [(attribute, subject) for _, attribute in kept] + added
        lies = {rng.randrange(len(said)), *(index for index in range(len(said)) if rng.random() < 0.5)}
        return [
            fact_words(fact, lie_about(fact, rng), rng) if index in lies else words
            for index, (words, fact) in enumerate(zip(said, facts, strict=True))
        ]
    if flaw == "careless":
        return careless(said, rng.choice([kind for kind in CARE if kind != "good"]), subject, rng)
    if flaw == "unsafe":
        said.insert(rng.randrange(3), other_words("unsafe", subject, rng))
    return said
