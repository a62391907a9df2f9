"""Instructions that a rule can check (IFEval, arXiv 2311.07911): whether a response follows each of them, strictly.

    {"id": "length_constraints:number_words", "relation": "at least", "num_words": 300} + response -> True, False, None

None is undecided: the rule asks for a language or for sentences, and the package that tells them (langdetect; nltk with
its `punkt` data) is not installed. A response without text follows nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]
Rule = Callable[[str, Arguments], bool | None]
FIXED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(response: str, instruction: Arguments) -> bool | None:
    """Whether a response follows one instruction: its `id`, and the arguments beside it.

    None where that cannot be told: a package is missing, or an argument is missing or no regular expression.
    """
    rule = RULES.get(instruction["id"])
    if rule is None:
        return None
    if not response.strip():
        return False
    try:
        return rule(response, instruction)
    except (KeyError, TypeError, re.error):  # the row's argument is not what the rule needs
        return None


def instructions_of(row: Mapping[str, Any]) -> str | None:
    """A row's instructions as JSON, each with its `id` and arguments; None where the row has none that go together."""
    names, arguments = row.get("instruction_id_list"), row.get("kwargs")
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments) or not names:
        return None
    return json.dumps(
        [
            {"id": name, **{key: value for key, value in (given or {}).items() if value is not None}}
            for name, given in zip(names, arguments, strict=True)
        ],
        ensure_ascii=False,
        default=str,
    )


def _compared(count: int, relation: str, bound: int) -> bool | None:
    return {"less than": count < bound, "at least": count >= bound}.get(relation)


def _found(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text, re.IGNORECASE))


def _language(text: str) -> str | None:
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError:
        return None
    DetectorFactory.seed = 0  # it draws at random
    try:
        return detect(text)
    except LangDetectException:
        return ""  # no letters: any language


def _in_language(text: str, language: str) -> bool | None:
    found = _language(text)
    return None if found is None else found in (language, "")


def _nltk(text: str, what: str) -> list[str] | None:
    try:
        import nltk

        return getattr(nltk, what)(text)
    except (ImportError, LookupError):
        return None


def _sentences(text: str, args: Arguments) -> bool | None:
    found = _nltk(text, "sent_tokenize")
    return None if found is None else _compared(len(found), args["relation"], args["num_sentences"])


def _capital_words(text: str, args: Arguments) -> bool | None:
    words = _nltk(text, "word_tokenize")
    if words is None:
        return None
    return _compared(sum(map(str.isupper, words)), args["capital_relation"], args["capital_frequency"])


def _paragraphs(text: str, args: Arguments) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == args["num_paragraphs"]


def _nth_paragraph(text: str, args: Arguments) -> bool:
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    number = args["nth_paragraph"]
    chosen = parts[number - 1].strip() if number <= count else ""
    if not chosen:
        return False
    word = re.split(r"[.,?!'\"]", chosen.split()[0].lstrip("'").lstrip('"'))[0].lower()
    return count == args["num_paragraphs"] and word == args["first_word"].lower()


def _highlights(text: str, args: Arguments) -> bool:
    single = [one for one in re.findall(r"\*[^\n*]*\*", text) if one.strip("*").strip()]
    double = [one for one in re.findall(r"\*\*[^\n*]*\*\*", text) if one[2:-2].strip()]
    return len(single) + len(double) >= args["num_highlights"]


def _postscript(text: str, args: Arguments) -> bool:
    marker = args["postscript_marker"].strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, marker.lower())
    return re.search(pattern, text.lower()) is not None


def _json(text: str, args: Arguments) -> bool:
    bare = re.sub(r"^```(?:json|Json|JSON)?", "", text.strip())
    try:
        json.loads(bare.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def _two_responses(text: str, args: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _bullets(text: str, args: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == args["num_bullets"]


RULES: dict[str, Rule] = {
    "keywords:existence": lambda text, args: all(_found(word, text) for word in args["keywords"]),
    "keywords:frequency": lambda text, args: _compared(
        _found(args["keyword"].strip(), text), args["relation"], args["frequency"]
    ),
    "keywords:forbidden_words": lambda text, args: (
        not any(_found(rf"\b{word}\b", text) for word in args["forbidden_words"])
    ),
    "keywords:letter_frequency": lambda text, args: _compared(
        Counter(text.lower())[args["letter"].strip().lower()], args["let_relation"], args["let_frequency"]
    ),
    "language:response_language": lambda text, args: _in_language(text, args["language"]),
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda text, args: _compared(
        len(re.findall(r"\w+", text)), args["relation"], args["num_words"]
    ),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda text, args: (
        len(re.findall(r"\[.*?\]", text)) >= args["num_placeholders"]
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text, args: any(one in text for one in FIXED_ANSWERS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": lambda text, args: (
        len(re.split(rf"\s?{args['section_spliter'].strip()}\s?\d+\s?", text)) - 1 >= args["num_sections"]
    ),
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda text, args: any(
        one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", text)
    ),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda text, args: (
        text.strip().lower().startswith(args["prompt_to_repeat"].strip().lower())
    ),
    "startend:end_checker": lambda text, args: (
        text.strip().strip('"').lower().endswith(args["end_phrase"].strip().lower())
    ),
    "startend:quotation": lambda text, args: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"',
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text, args: text.isupper() and _in_language(text, "en"),
    "change_case:english_lowercase": lambda text, args: text.islower() and _in_language(text, "en"),
    "punctuation:no_comma": lambda text, args: "," not in text,
}
"""By the names that the data set gives them."""
