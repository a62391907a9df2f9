"""Which questions of which suites stand in training texts, whole or in part: an index of the questions' n-grams, and
one pass over the texts.

    words of a question -> ids (1, 2, ...)      words of a text -> the same ids, 0 for all that is in no question
    gram (n ids in a row, none of them 0) -> 64-bit hash -> where it stands in which questions

The index is as large as the suites, the pass holds a million words at a time: a training set may be of any size. Two
different grams are taken for one with a chance of about (grams of the suites) x (words trained) / 2^64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ixt_rl.data.fields import question_text
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.contamination.training_texts import TrainingText
from ixt_rl.evaluation.contamination.words import words_of

N = 13
"""Words of a gram: the usual choice since GPT-3."""
PHRASE = 10
"""A gram in more questions than these is the suite's own wording, such as an instruction, and tells nothing."""
SHOWN = 5
"""Places that are kept of each question, those that hold most of it."""

_BATCH = 1 << 20  # words looked up at once
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class BenchmarkQuestion:
    """A question of a suite, as it is looked for.

    Args:
        index: its row in the suite, from 0.
        words: how many it has.
        gram: words of its grams: n, or all of a question that has fewer; 0 for one without any word.
    """

    suite: str
    index: int
    id: str
    text: str
    words: int
    gram: int


@dataclass(frozen=True)
class Place:
    """A training text that shares grams with a question; `share` of the question's words stand in them."""

    file: str
    row: int
    field: str
    share: float
    exact: bool


@dataclass
class Sighting:
    """What was found of one question.

    Args:
        places: at most `SHOWN`, the largest share first.
        texts: how many training texts share a gram with it.
        share: of its words, in the one text that has most of them.
        together: of its words, in all texts taken together.
        exact: a training field is the question and nothing else.
    """

    question: BenchmarkQuestion
    places: list[Place] = field(default_factory=list)
    texts: int = 0
    share: float = 0.0
    together: float = 0.0
    exact: bool = False

    def add(self, place: Place) -> None:
        self.texts += 1
        self.share, self.exact = max(self.share, place.share), self.exact or place.exact
        if len(self.places) < SHOWN or place.share > self.places[-1].share:
            self.places = sorted([*self.places, place], key=lambda one: -one.share)[:SHOWN]


@dataclass
class Overlap:
    """The outcome of one pass.

    Args:
        n: words of a gram.
        questions: all that were looked for, by suite.
        sightings: of the questions of which something was found, in the order of the suites.
        read: texts and words of each file.
        by_file: (suite, file) -> the largest share and exactness of each question found there, by its index.
        phrases: by suite, grams that were left out as its own wording.
        whole: whether all texts were read.
    """

    n: int
    questions: Mapping[str, Sequence[BenchmarkQuestion]]
    sightings: list[Sighting]
    read: dict[str, dict[str, int]]
    by_file: dict[tuple[str, str], dict[int, tuple[float, bool]]]
    phrases: Mapping[str, int]
    whole: bool = True


class QuestionIndex:
    """The grams of the questions of suites, ready to be looked up.

    Args:
        suites: rows by suite, each with `question` (text, or messages) and perhaps `id`.
        n: words of a gram; questions with fewer are one gram.

    Raises:
        ConfigError: n is below 1, or there is no question.
    """

    def __init__(self, suites: Mapping[str, Sequence[Mapping[str, Any]]], n: int = N):
        if n < 1:
            raise ConfigError(f"n={n}", reason="a gram has at least one word", remedy="write 13, or another number")
        if not any(suites.values()):
            raise ConfigError("no questions", reason="every suite is empty", remedy="name a suite that has rows")
        self.n = n
        self.questions: list[BenchmarkQuestion] = []
        self._vocabulary: dict[str, int] = {}
        word_ids = [self._enter(suite, index, row) for suite, rows in suites.items() for index, row in enumerate(rows)]
        self._values = np.random.default_rng(13).integers(1, 2**64, len(self._vocabulary) + 1, dtype=np.uint64)
        self._starts = np.concatenate([[0], np.cumsum([len(ids) for ids in word_ids])]).astype(np.int64)
        self.phrases: Counter[str] = Counter()
        self._lengths = sorted({q.gram for q in self.questions if q.gram})
        self._tables = {length: self._table(length, word_ids) for length in self._lengths}
        self._seen = np.zeros(int(self._starts[-1]), dtype=bool)  # grams met in any text, by where they begin

    def _enter(self, suite: str, index: int, row: Mapping[str, Any]) -> np.ndarray:
        text = question_text(row["question"])
        ids = [self._vocabulary.setdefault(word, len(self._vocabulary) + 1) for word in words_of(text)]
        name = str(row.get("id") or index)
        self.questions.append(BenchmarkQuestion(suite, index, name, text, len(ids), min(len(ids), self.n)))
        return np.array(ids, dtype=np.int64)

    def _table(self, length: int, word_ids: Sequence[np.ndarray]) -> _Grams:
        """The grams of the questions whose grams have `length` words."""
        hashes, questions, positions = [], [], []
        for number, question in enumerate(self.questions):
            if question.gram == length:
                found = _hashes(self._values[word_ids[number]], length)
                hashes.append(found)
                questions.append(np.full(len(found), number))
                positions.append(np.arange(len(found)))
        table = _Grams(np.concatenate(hashes), np.concatenate(questions), np.concatenate(positions))
        texts = {number: question.text for number, question in enumerate(self.questions)}
        for common in table.leave_out_phrases(texts):
            self.phrases.update({self.questions[number].suite for number in common})
        return table

    def find(self, texts: Iterable[TrainingText], most_words: int | None = None) -> Overlap:
        """One pass over the texts.

        Args:
            texts: what is trained on.
            most_words: after so many the pass ends, and the outcome is not `whole`; None: never.
        """
        found: dict[int, Sighting] = {}
        read: dict[str, dict[str, int]] = {}
        by_file: dict[tuple[str, str], dict[int, tuple[float, bool]]] = {}
        self._seen[:] = False
        total, whole = 0, True
        for batch in _batches(texts):
            ids = [self._ids(text.text) for text in batch]
            for text, of_text in zip(batch, ids, strict=True):
                counts = read.setdefault(text.file, {"texts": 0, "words": 0})
                counts["texts"] += 1
                counts["words"] += len(of_text)
                total += len(of_text)
            for number, at, share, exact in self._hits(ids):
                question, text = self.questions[number], batch[at]
                place = Place(text.file, text.row, text.field, share, exact)
                found.setdefault(number, Sighting(question)).add(place)
                best = by_file.setdefault((question.suite, text.file), {})
                before = best.get(question.index, (0.0, False))
                best[question.index] = (max(share, before[0]), exact or before[1])
            if most_words is not None and total >= most_words:
                whole = False
                break
        for number, sighting in found.items():
            sighting.together = self._together(number)
        suites: dict[str, list[BenchmarkQuestion]] = {}
        for question in self.questions:
            suites.setdefault(question.suite, []).append(question)
        sightings = [found[number] for number in sorted(found)]
        return Overlap(self.n, suites, sightings, read, by_file, dict(self.phrases), whole)

    def _ids(self, text: str) -> list[int]:
        get = self._vocabulary.get
        return [get(word, 0) for word in words_of(text)]

    def _hits(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, float, bool]]:
        """(question, index of the text, share of its words, whether the text is the question) of all that share."""
        lengths = np.array([len(one) for one in ids])
        starts = np.concatenate([[0], np.cumsum(lengths + 1)])  # a 0 after each text keeps grams within it
        joined = np.zeros(int(starts[-1]) or 1, dtype=np.int64)
        for start, one in zip(starts, ids, strict=False):
            joined[start : start + len(one)] = one
        for length, hashes, valid in _growing(self._values[joined], joined > 0, self._lengths):
            table = self._tables[length]
            at = table.maybe(hashes, valid)
            for questions, positions, places in table.of(hashes[at], at):
                self._seen[self._starts[questions] + positions] = True
                texts = np.searchsorted(starts, places, side="right") - 1
                aligned = places - starts[texts] == positions
                order = np.lexsort((positions, questions, texts))
                hits = _Hits(questions[order], positions[order], texts[order], aligned[order], length)
                yield from self._shares(hits, lengths)

    def _shares(self, hits: _Hits, lengths: np.ndarray) -> Iterator[tuple[int, int, float, bool]]:
        questions, positions, texts, length = hits.questions, hits.positions, hits.texts, hits.length
        first = np.ones(len(questions), dtype=bool)
        first[1:] = (questions[1:] != questions[:-1]) | (texts[1:] != texts[:-1])
        steps = np.where(first, length, np.minimum(np.diff(positions, prepend=positions[:1]), length))
        begins = np.flatnonzero(first)
        covered, aligned = np.add.reduceat(steps, begins), np.add.reduceat(hits.aligned.astype(int), begins)
        for begin, words, alike in zip(begins, covered, aligned, strict=True):
            number, text = int(questions[begin]), int(texts[begin])
            whole = self.questions[number].words
            exact = int(lengths[text]) == whole and int(alike) == whole - length + 1
            yield number, text, int(words) / whole, exact

    def _together(self, number: int) -> float:
        question = self.questions[number]
        seen = self._seen[self._starts[number] : self._starts[number + 1]]
        words = np.zeros(question.words, dtype=bool)
        for position in np.flatnonzero(seen):
            words[position : position + question.gram] = True
        return float(words.mean())


@dataclass(frozen=True)
class _Hits:
    """Grams that texts share with questions, in order of text, question and position; at least one.

    Args:
        questions, positions, texts: (H,) of one hit each: the question, where it begins there, the text.
        aligned: (H,) whether it begins at the same word of the text.
        length: words of each.
    """

    questions: np.ndarray
    positions: np.ndarray
    texts: np.ndarray
    aligned: np.ndarray
    length: int


class _Grams:
    """Hashes of grams of one length, with where each stands.

    Args:
        hashes, questions, positions: (G,) of one gram each: its hash, its question, where it begins there.
    """

    def __init__(self, hashes: np.ndarray, questions: np.ndarray, positions: np.ndarray):
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._questions, self._positions = hashes[order], questions[order], positions[order]
        self._filter()

    def _filter(self) -> None:
        bits = max(16, min(26, int(len(self._hashes) * 64).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=bool)
        self._table[self._hashes >> self._shift] = True

    def leave_out_phrases(self, texts: Mapping[int, str]) -> list[set[int]]:
        """Takes out the grams that stand in more than `PHRASE` different questions; returns those of each."""
        begins = np.flatnonzero(np.diff(self._hashes, prepend=self._hashes[:1] + np.uint64(1)))
        ends = np.append(begins[1:], len(self._hashes))
        keep = np.ones(len(self._hashes), dtype=bool)
        found = []
        for run in np.flatnonzero(ends - begins > PHRASE):
            begin, end = begins[run], ends[run]
            of = {int(number) for number in self._questions[begin:end]}
            if len({texts[number] for number in of}) > PHRASE:
                keep[begin:end] = False
                found.append(of)
        self._hashes, self._questions, self._positions = (
            one[keep] for one in (self._hashes, self._questions, self._positions)
        )
        self._filter()
        return found

    def maybe(self, hashes: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Where a text has a gram that is in the table, or may be."""
        return np.flatnonzero(self._table[hashes >> self._shift] & valid)

    def of(self, hashes: np.ndarray, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(questions, positions in them, places in the text) of all that have these hashes; nothing or once."""
        low = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - low
        total = int(counts.sum())
        if not total:
            return
        within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(low, counts) + within
        yield self._questions[rows], self._positions[rows], np.repeat(places, counts)


def _growing(
    values: np.ndarray, known: np.ndarray, lengths: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(length, hash of the gram that begins at each word, whether it is one) for each of the lengths."""
    hashes, valid = values.copy(), known.copy()
    for length in range(1, max(lengths, default=0) + 1):
        if length > 1:
            hashes, valid = hashes[:-1] * _MULTIPLIER + values[length - 1 :], valid[:-1] & known[length - 1 :]
        if not len(hashes):
            return
        if length in lengths:
            yield length, _mixed(hashes), valid


def _hashes(values: np.ndarray, length: int) -> np.ndarray:
    """Of the grams of one sequence of words, as `_growing` makes them."""
    (found,) = (hashes for _, hashes, _ in _growing(values, np.ones(len(values), dtype=bool), [length]))
    return found


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Spreads what differs in the lower bits over the upper ones, which the filter looks at."""
    found = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return found ^ (found >> np.uint64(29))


def _batches(texts: Iterable[TrainingText]) -> Iterator[list[TrainingText]]:
    """Texts until they have some `_BATCH` words between them."""
    batch: list[TrainingText] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.text)
        if size >= 6 * _BATCH:  # characters a word, roughly
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
