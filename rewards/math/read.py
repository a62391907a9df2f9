"""Reads an answer text into a typed value: completely, or not at all.

    text --clean--> one plain spelling --tokenize--> tokens --Reader--> Value

Gold answers and model answers go through the same reader; `compare.py` says when two values are the same. A gold
may in the end be text with formulas in it, or a formula of known commands that is compared by its spelling.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import INFINITY, Num
from ixt_rl.rewards.math.outcome import TwoReadings, Unreadable
from ixt_rl.rewards.math.reader import KNOWN_COMMANDS, Reader
from ixt_rl.rewards.math.regions import REALS, without_points
from ixt_rl.rewards.math.spelling import canonical, clean
from ixt_rl.rewards.math.tokens import CONSTANT_NAMES, FUNCTIONS, GREEK, NAMES, STOP_WORDS, Token, Tokens, tokenize
from ixt_rl.rewards.math.units import Unit
from ixt_rl.rewards.math.values import Choice, Clock, Formula, Mixed, Quantity, Value, Words
from ixt_rl.rewards.math.vocabulary import PHRASES, number_in_words, ordinal

ORDINAL = Unit((("#ordinal", 1),))

_CHOICE = re.compile(r"(?:(?:the\s+)?(?:option|choice|answer|选项)\s*:?\s*)?[\[(]?([A-Z])[\])]?\.?", re.IGNORECASE)
_LABELLED = re.compile(r"(?:[(\[]([A-Z])[)\]]|([A-Z])(?:[.:)]|\s*\\quad))\s*(\S.*)", re.DOTALL)
_CHOICES = re.compile(r"[\[(]?[A-Z][\])]?(?:\s*(?:,|and|&|,\s*and)\s*[\[(]?[A-Z][\])]?)+|[A-Z](?: [A-Z])+")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_CLOCK_24 = re.compile(r"(0\d|\d{1,2}):(0\d)|(0\d):(\d{2})")
_ABOUT = re.compile(r"(?:about|approximately|approx\.?|roughly|around|nearly)\s+(?=[\d\\$-])", re.IGNORECASE)
_EXCEPT = re.compile(
    r"(?:the set of )?(?:all|any|every)?\s*(?:real numbers?|reals|real x|values of x|x)\s*,?\s*"
    r"(?:except|excluding|other than|but not|but|besides)\s*(?:for|at|when|where)?\s*(\S.*)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_LETTERS_ONLY = re.compile(r"[^\W\d_](?:[^\W\d_]|[\s'.,!-])*")


def words(text: str) -> str:
    """Lower-case words and numbers of a text, for comparing text answers."""
    text = clean(text).replace("⟦", " ").replace("⟧", " ").lower()
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.replace("\\", " ")))


def strip_label(text: str) -> tuple[str, str]:
    """Split `(B) 12` into the choice letter and the rest; ("", text) when there is no label."""
    match = _LABELLED.fullmatch(clean(text).replace("⟦", "").replace("⟧", ""))
    if match is None:
        return "", text
    return match[1] or match[2], match[3]


def parse_answer(text: str, *, nouns: frozenset[str] = frozenset(), gold: bool = False, slash: str = "") -> Value:
    """Read an answer text.

    Args:
        text: the answer alone, LaTeX or plain.
        nouns: countable things known besides the closed list, in the singular (those of the gold answer).
        gold: any words after a number that cannot change it are its unit, and text with formulas is a value.
        slash: how `a/b c` is read, `left` as (a/b)c or `right` as a/(bc).

    Raises:
        TwoReadings: it has `a/b c` and no `slash` was given.
        Unreadable: it is neither text nor mathematics this reader understands completely.
        TooLarge: it exceeds a size limit.
    """
    cleaned = clean(text)
    inner = cleaned[1:-1].strip() if re.fullmatch(r"⟦[^⟦⟧]*⟧", cleaned) else None
    plain = cleaned.replace("⟦", "").replace("⟧", "").strip() if "⟦" in cleaned else cleaned
    if not plain:
        raise Unreadable("empty")
    if plain[0].isalpha() or inner is not None or plain[-1].isalpha() or plain[-1] in ").]" or ":" in plain:
        value = _read_text(plain, inner is not None)
        if value is not None:
            return value
    about = _ABOUT.match(plain) if gold else None
    if about:
        rest = parse_answer(plain[about.end() :], nouns=nouns, gold=gold, slash=slash)
        return Quantity(rest.expr, rest.unit, approximate=True) if isinstance(rest, Quantity) else rest
    excepted = _EXCEPT.fullmatch(plain)
    if excepted:
        rest = parse_answer(excepted[1], nouns=nouns, gold=gold, slash=slash)
        excluded = without_points(rest)
        if excluded is not None:
            return excluded
    reader = Reader(nouns=nouns, gold=gold, slash=slash)
    source = plain if inner is not None else cleaned
    try:
        return reader.value(tokenize(_signs_in_words(source)))
    except TwoReadings:
        raise
    except Unreadable as error:
        if not gold:
            if _is_prose(plain):
                return Words(words(plain))
            raise
        return _as_text(cleaned, plain, reader, error)


def _signs_in_words(text: str) -> str:
    return re.sub(r"^(?:minus|negative)\s+(?=[\d\\])", "-", text, flags=re.IGNORECASE) if text[:1] in "mMnN" else text


def _read_text(plain: str, in_text: bool) -> Value | None:
    """Choice letters, times, numbers in words and words; None for everything else."""
    match = _CHOICE.fullmatch(plain)
    if match and (match[1].isupper() or len(plain) > 3):
        return Choice(frozenset(match[1].upper()))
    if _CHOICES.fullmatch(plain):
        return Choice(frozenset(re.findall(r"[A-Z]", plain)))
    clock = _CLOCK.fullmatch(plain)
    if clock:
        return Clock(int(clock[1]), int(clock[2] or 0), clock[3].lower())
    clock = _CLOCK_24.fullmatch(plain)
    if clock:
        return Clock(int(clock[1] or clock[3]), int(clock[2] or clock[4]))
    place = ordinal(plain)
    if place is not None:
        return Quantity(Num(Fraction(place)), ORDINAL)
    if not _LETTERS_ONLY.fullmatch(plain):
        return None
    number = number_in_words(plain.rstrip(".!"))
    if number is not None:
        return Quantity(Num(number))
    said = words(plain)
    if said in PHRASES:
        kind = PHRASES[said]
        return REALS if kind == PHRASES["all reals"] else Quantity(INFINITY) if kind == PHRASES["inf"] else Words(said)
    found = _WORDS.findall(plain)
    if in_text and any(len(word) > 1 or not word.isascii() for word in found):
        return None if any(word.lower() in ("and", "or") for word in found) else Words(words(plain))
    if len(found) == 1 and plain == found[0] and (_is_word(plain) or not plain.isascii()):
        return Words(words(plain))
    return None


def _is_word(word: str) -> bool:
    """Whether a run of letters is a word: longer than a product of variables, or written like a name."""
    if word in FUNCTIONS or word in CONSTANT_NAMES or word in GREEK or word in NAMES:
        return False
    return len(word) > 3 or word.lower() in STOP_WORDS or (len(word) == 3 and word.istitle())


def _is_prose(plain: str) -> bool:
    """Whether a text is words rather than mathematics that could not be read."""
    found = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", plain)
    if re.search(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af\u0400-\u04ff]{2,}", plain):
        return not re.search(r"[\\^_=<>]", plain)
    return any(_is_word(word) for word in found) and not re.search(r"[\\^_=<>]", plain)


def _as_text(cleaned: str, plain: str, reader: Reader, error: Unreadable) -> Value:
    """A gold that is words, words with formulas, or a formula of known commands.

    Raises:
        Unreadable: brackets that do not match, unknown commands, or nothing at all.
    """
    tokens = tokenize(cleaned)
    _check_formula(tokens, error)
    if not any(token.kind in ("text", "word") or token.text.isalpha() or token.text == "'" for token in tokens) and (
        "\\" not in cleaned
    ):
        raise error
    if _LETTERS_ONLY.fullmatch(plain) or _is_prose(plain):
        return Words(words(plain)) if not re.search(r"\d", plain) else _mixed(tokens, reader) or Words(words(plain))
    return _mixed(tokens, reader) or Formula(canonical(cleaned))


def _check_formula(tokens: Tokens, error: Unreadable) -> None:
    depth = 0
    begun = 0
    for token in tokens:
        if token.kind == "env":
            begun += 1 if token.text.startswith("\\begin") else -1
        elif token.kind == "cmd" and token.text[1:].isalpha() and token.text[1:] not in KNOWN_COMMANDS:
            raise Unreadable(f"command {token.text}") from error
        elif token.text in ("{", "}") and token.kind == "op":
            depth += 1 if token.text == "{" else -1
            if depth < 0:
                raise error
    text = "".join(token.text for token in tokens if token.kind != "text")
    uneven = text.count("(") + text.count("[") != text.count(")") + text.count("]")
    if depth or begun or uneven:
        raise Unreadable("brackets that do not match") from error


def _mixed(tokens: Tokens, reader: Reader) -> Mixed | None:
    """Words and formulas in turn; None if there are no words."""
    parts: list[Value] = []
    run: Tokens = []
    said: list[str] = []

    def end_run() -> None:
        if run:
            try:
                parts.append(reader.value(list(run)))
            except Unreadable:
                parts.append(Formula(canonical("".join(" " + token.text for token in run))))
            run.clear()

    def end_words() -> None:
        if said:
            parts.append(Words(words(" ".join(said))))
            said.clear()

    depth = 0
    for token in tokens:
        wordy = token.kind == "text" or (token.kind == "word" and (len(token.text) > 1 or not token.text.isascii()))
        depth += (token.text in ("(", "[", "{", "\\{")) - (token.text in (")", "]", "}", "\\}"))
        if wordy and token.text.strip() and depth <= 0:
            end_run()
            said.append(token.text)
        elif depth <= 0 and (token.text in (",", ";", ":", ".", "\\quad", "\\cr", "&") or not token.text.strip()):
            end_run()
        else:
            end_words()
            run.append(token)
    end_run()
    end_words()
    return Mixed(tuple(parts)) if any(isinstance(part, Words) and part.text for part in parts) else None


__all__ = ["Token", "canonical", "parse_answer", "strip_label", "words"]
