"""What an overlap comes to: counts by suite and by file, and a row for every question that was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ixt_rl.evaluation.contamination.overlap import Overlap
from ixt_rl.evaluation.contamination.words import NORMALISATION

LEVELS = ("exact", "whole", "half", "any")
"""Each holds those before it: a training field is the question; one training text has all of its words in grams that
the two share; at least half of them; one gram."""


def summary_of(overlap: Overlap) -> dict[str, Any]:
    """The figures of an overlap, as they are written to overlap.json.

    By suite: `questions`, `compared` (those with words), a count for each of `LEVELS`, `short` (questions of fewer
    than n words, which count as a whole or not at all), `mean_share` of a question's words in the one text that has
    most of them, over the questions that were compared (None: none was), `phrases`, and the same counts by file.
    """
    found: dict[str, list[tuple[float, bool]]] = {}
    for sighting in overlap.sightings:
        found.setdefault(sighting.question.suite, []).append((sighting.share, sighting.exact))
    suites = {}
    for suite, questions in overlap.questions.items():
        compared = [question for question in questions if question.words]
        shares = found.get(suite, [])
        suites[suite] = {
            "questions": len(questions),
            "compared": len(compared),
            "short": sum(question.words < overlap.n for question in compared),
            **_levels(shares),
            "mean_share": sum(share for share, _ in shares) / len(compared) if compared else None,
            "phrases": overlap.phrases.get(suite, 0),
            "files": {
                file: _levels(best.values()) for (of, file), best in sorted(overlap.by_file.items()) if of == suite
            },
        }
    return {
        "n": overlap.n,
        "normalisation": NORMALISATION,
        "whole": overlap.whole,
        "read": overlap.read,
        "suites": suites,
    }


def rows_of(overlap: Overlap) -> Iterable[dict[str, Any]]:
    """A row of overlap.jsonl for each question that was found: the suite's own row, the share, where it stands."""
    for sighting in overlap.sightings:
        question = sighting.question
        yield {
            "suite": question.suite,
            "index": question.index,
            "id": question.id,
            "question": question.text,
            "words": question.words,
            "share": round(sighting.share, 4),
            "share_together": round(sighting.together, 4),
            "exact": sighting.exact,
            "texts": sighting.texts,
            "places": [{**asdict(place), "share": round(place.share, 4)} for place in sighting.places],
        }


def _levels(shares: Iterable[tuple[float, bool]]) -> dict[str, int]:
    found = list(shares)
    return {
        "exact": sum(exact for _, exact in found),
        "whole": sum(share == 1 for share, _ in found),
        "half": sum(share >= 0.5 for share, _ in found),
        "any": len(found),
    }


def sentence(suite: str, counts: Mapping[str, Any], n: int) -> str:
    """One suite's counts in words: `math500: 3 of 500 questions stand whole in the training texts, ...`."""
    total, whole, found = counts["questions"], counts["whole"], counts["any"]
    if not found:
        return f"{suite}: none of {total} questions shares {n} words in a row with the training texts"
    return (
        f"{suite}: {whole} of {total} questions stand{'s' if whole == 1 else ''} whole in the training texts, "
        f"{found} share{'s' if found == 1 else ''} {n} words in a row or more"
    )
