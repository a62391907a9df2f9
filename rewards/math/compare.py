"""Whether an answer text is the gold answer: by its spelling, as text, or by the rules for typed values.

In the trainer process leaves are compared by rational arithmetic and, where an expression is small, at high
precision; what is larger raises `NeedsWorker`, and the same rules run again in a child process.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, rational
from ixt_rl.rewards.math.golds import Gold
from ixt_rl.rewards.math.outcome import Decision, TooLarge, TwoReadings, Unreadable
from ixt_rl.rewards.math.read import parse_answer, strip_label, words
from ixt_rl.rewards.math.rules import Leaves, Rules, Undecided, phrase_kind
from ixt_rl.rewards.math.spelling import canonical, clean
from ixt_rl.rewards.math.units import Unit
from ixt_rl.rewards.math.values import Choice, Formula, Mixed, Quantity, Relation, Sequence, Value, Words
from ixt_rl.rewards.math.vocabulary import plain_words

_GROUPED = re.compile(r"-?(?:\\\$)?\s*\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL_COMMA = re.compile(r"(-?\d+),(\d{1,2}|\d{4,})(?![\d,])([^,]*)")

_OTHER_LETTER = re.compile(
    r"^\s*[,;/&+|]|^\s*(?:or|and|nor|not)\b|[(\[][A-J][)\]]|^\s*-\s*[A-J]\b"
    r"|(?:^|[,;.]\s*|\b(?:or|and|nor|maybe|rather|perhaps|but)\s+)[A-J](?:[.):]|\.?\s*$)"
)
"""What a choice letter is followed by when it is no label: another letter."""
_TAKEN_BACK = re.compile(
    r"(?:is\s+)?(?:not|no|wrong|incorrect|false)\b[.,!]?(?:\s*$|,)|.*\bis\s+(?:not|wrong|incorrect)\b"
)


class NeedsWorker(Exception):
    """A leaf comparison that takes more than the trainer process may spend on it."""


class ExactLeaves:
    """Leaves as they are compared in the trainer process. Raises `NeedsWorker` for everything that is not small."""

    def equal(self, a: Expr, b: Expr) -> bool | None:
        if a == b:
            return True
        left = rational(a)
        if left is not None:
            right = rational(b)
            if right is not None:
                return left == right
        return self._numeric(a, b).equal(a, b)

    def proportional(self, a: Expr, b: Expr) -> bool | None:
        return True if a == b else self._numeric(a, b).proportional(a, b)

    def up_to_constant(self, a: Expr, b: Expr) -> bool | None:
        return True if a == b else self._numeric(a, b).up_to_constant(a, b)

    def factor(self, a: Unit, b: Unit) -> Fraction | None:
        raise NeedsWorker

    @staticmethod
    def _numeric(a: Expr, b: Expr):
        from ixt_rl.rewards.math import numeric

        if not (numeric.is_small(a) and numeric.is_small(b)):
            raise NeedsWorker
        return numeric


EXACT = ExactLeaves()


def compare(gold: Gold, answer: str, leaves: Leaves = EXACT, tolerance: float = 0.0) -> Decision:
    """Judge an answer text against a gold answer.

    Args:
        gold: the typed gold answer; of several accepted forms one has to match.
        answer: the answer alone.
        leaves: how expressions and units are compared.
        tolerance: largest relative difference of a decimal from the gold, where the suite's rules allow one.

    Raises:
        NeedsWorker: from `leaves`.
    """
    decisions = []
    for form in gold.alternatives or (gold,):
        decision = _compare_one(form, answer, leaves, tolerance)
        if decision.right:
            return decision
        decisions.append(decision)
    return next((decision for decision in decisions if decision.right is None), decisions[0])


def _compare_one(gold: Gold, answer: str, leaves: Leaves, tolerance: float) -> Decision:
    try:
        if gold.spelling == canonical(answer):
            return Decision(True, "same text")
        by_text = _as_text(gold, answer)
        return by_text if by_text is not None else _by_value(gold, answer, Rules(leaves, tolerance))
    except TooLarge as error:
        return Decision(None, f"too large: {error}")
    except Undecided as open_question:
        return Decision(None, str(open_question))


def _as_text(gold: Gold, answer: str) -> Decision | None:
    """Golds that are text, and the fixed phrases; None for everything else."""
    value = gold.value
    if not isinstance(value, Words):
        return None
    said, answered = value.text.split(), words(answer).split()
    if not answered:
        return Decision(None, "unreadable: no words", settled=False)
    kind, other = phrase_kind(value.text), phrase_kind(words(answer))
    letters_only = not re.search(r"[-+\\^_=<>$]", clean(answer).replace("⟦", "").replace("⟧", ""))
    if kind is not None and other is not None and letters_only:
        return Decision(kind == other, "same phrase" if kind == other else "different phrases")
    if said == answered or (letters_only and plain_words(said) == plain_words(answered)):
        signs = re.search(r"[-+]\s*\d|\\infty", clean(answer))
        return Decision(None, "ambiguous: signs in a text") if signs else Decision(True, "same words")
    both = f" {value.text} ", f" {' '.join(answered)} "
    if both[0] in both[1] or both[1] in both[0]:
        return Decision(None, "ambiguous: one text contains the other", settled=False)
    if kind == 0 or (other is not None and letters_only):
        return None  # an empty set, a value in words: the rules know
    if len(said) > 3 and not re.fullmatch(r"[\d\s.,+\-\\()]*", answer):
        return Decision(None, "text: another wording", settled=False)
    return Decision(False, "different words")


def _by_value(gold: Gold, answer: str, rules: Rules) -> Decision:
    label, rest = strip_label(answer)
    if label and isinstance(gold.value, Choice) and not _OTHER_LETTER.search(rest):
        if _TAKEN_BACK.match(rest):
            raise Undecided("ambiguous: a choice and a word against it")
        return Decision(gold.value.letters == {label}, "choice")
    if label and isinstance(gold.value, Choice):
        rest = answer
    try:
        readings = _readings(gold, rest)
    except Unreadable as error:
        return Decision(None, f"unreadable: {error}", settled=False)
    verdicts = []
    rule = f"{gold.kind} against {type(readings[0]).__name__.lower()}"
    for gold_value in gold.readings:
        verdicts.append(_over_readings(rules, gold_value, readings, rest))
    if len(set(verdicts)) > 1:
        raise Undecided("ambiguous: the gold can be read in two ways")
    if verdicts[0] is None:
        return Decision(None, f"cannot compute: {rule}", settled=False)
    return Decision(verdicts[0], f"units: {rule}" if rules.by_units else rule)


def _over_readings(rules: Rules, gold: Value, readings: list[Value], text: str) -> bool | None:
    verdicts = [rules.same(gold, reading, text) for reading in readings]
    if len(readings) == 2 and _slash_free(readings):
        return True if True in verdicts else verdicts[0]
    if len(set(verdicts)) > 1:
        raise Undecided("ambiguous: a/b c can mean (a/b)c or a/(bc)")
    return verdicts[0]


def _slash_free(readings: list[Value]) -> bool:
    """Whether two readings differ in how a comma is read: then either of them may be meant."""
    return type(readings[0]) is not type(readings[1])


def _readings(gold: Gold, text: str) -> list[Value]:
    """What the answer can mean: `1,234` is a number or a list, `3,5` too, and `a/b c` has two readings.

    Raises:
        Unreadable: none.
    """
    mixed = isinstance(gold.value, Mixed | Formula)
    try:
        first = parse_answer(text, nouns=gold.nouns, gold=mixed)
    except TwoReadings:
        return [parse_answer(text, nouns=gold.nouns, gold=mixed, slash=slash) for slash in ("left", "right")]
    if "," not in text:
        return [first]
    cleaned = clean(text)
    if isinstance(gold.value, Sequence) and _GROUPED.fullmatch(cleaned):
        return [first, parse_answer(cleaned.replace(",", ", "), nouns=gold.nouns)]
    decimal = _DECIMAL_COMMA.fullmatch(cleaned)
    if (
        decimal
        and isinstance(gold.value, Quantity | Relation)
        and isinstance(first, Sequence)
        and first.style == "list"
    ):
        return [first, parse_answer(f"{decimal[1]}.{decimal[2]}{decimal[3]}", nouns=gold.nouns)]
    return [first]
