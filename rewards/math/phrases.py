"""The phrases that announce an answer, in the languages that models answer in."""

from __future__ import annotations

import re

_BE = (
    r"(?:is|are|was|would be|will be|should be|must be|should equal|must equal|comes to"
    r"|comes out to be|turns out to be|becomes|equals|=|:)"
    r"(?: +(?:therefore|simply|just|thus|then|clearly|indeed|equal to|given by|exactly|option|choice))*:?"
)
_OF = (
    r"(?: (?:to|for|of) (?:the|this|your|our) (?:question|problem|exercise|equation)"
    r"| choice| here|,? then,?| thus| therefore| (?:that )?(?:I|we|you) (?:get|got|found|find|obtain|have))?"
)
_ENGLISH = re.compile(rf"(?:answers?|option|choice){_OF}[*_\"]* *{_BE}[*_]{{0,2}}", re.IGNORECASE)
_CHINESE = re.compile(r"(?:答案|结果)(?:应该|应)?(?:是|为|等于|：|:)[：:]?(?:选项)?")
_CHOSEN = re.compile(r"选(?:择|项)?(?:是|为|：|:)?(?=\s*[(（]?[A-H])")
_IS = (
    r" *(?:finale|final|correcta|correcte|corretta|correta|exacte)? *(?:ist|lautet|beträgt|est|es|è|é|is|равен|—|-|:|=)"
)
_EUROPEAN = re.compile(
    rf"(?:Antwort|Endergebnis|Lösung|Ergebnis|réponse|reponse|résultat|respuesta|"
    rf"solución|resultado|risposta|risultato|resposta|ответ|antwoord){_IS}"
    r"(?: donc)?:?[*_]{0,2}",
    re.IGNORECASE,
)
_JAPANESE_KOREAN = re.compile(r"(?:答え|解答|答案|答|답)(?:は|은|：|:)")
_WORDS = {
    "answer": _ENGLISH, "Answer": _ENGLISH, "ANSWER": _ENGLISH, "option": _ENGLISH, "Option": _ENGLISH,
    "choice": _ENGLISH, "Choice": _ENGLISH, "答案": _CHINESE, "结果": _CHINESE, "选": _CHOSEN, "答": _JAPANESE_KOREAN,
    "답": _JAPANESE_KOREAN,
    **{name: _EUROPEAN for word in ("antwort", "endergebnis", "ergebnis", "lösung", "réponse", "reponse", "résultat",
       "respuesta", "solución", "resultado", "risposta", "risultato",
       "resposta", "ответ", "antwoord") for name in (word, word.capitalize(), word.upper())},
}  # fmt: skip
_LINE = re.compile(
    r"^[ \t>*_#]{0,12}(?:A|Ans|Answer|Final answer|The final answer|Result|Final result)[ *_]{0,4}"
    r"(?:[:：][ *_]{0,4}|[*_]{2}[ \t]*$|$(?=\n))",
    re.MULTILINE | re.IGNORECASE,
)
_RESERVE = re.compile(r"\b(?:final result|result|solution)[*_]* *(?:is|=|:)", re.IGNORECASE)
_CONFIRMED = re.compile(
    r"\b(?:option|choice|answer) (?=\(?[A-J]\)? is (?:the )?(?:correct|right)\b)"
    r"|(?<![\w(])(?=\(?[A-J]\)? is the (?:correct|right|final|best) (?:answer|option|choice)\b)",
    re.IGNORECASE,
)
"""`Option B is correct`, `(B) is the correct answer`: the letter comes first."""
_LETTER = re.compile(r"\(?[A-Ja-j]\)?")
HEADINGS = re.compile(
    r"[#*_\s]*(?:\d+[.)]\s*)?(?:the\s+)?(?:final\s+|complete\s+)?(?:answer|solution|result|conclusion|step|steps|"
    r"verification|verify|check|explanation|summary|given|problem|question|analysis|approach|calculation|calculations|"
    r"reasoning|understanding|note|proof|case|part|method|setup|therefore|final)\b[^\n]*",
    re.IGNORECASE,
)
"""What follows `####` when it is a heading and no answer."""


def confirmed_choice(text: str) -> str | None:
    """The letter that the last `Option B is correct` names; None if there is none."""
    at = max((match.end() for match in _CONFIRMED.finditer(text)), default=-1)
    letter = _LETTER.match(text, at) if at >= 0 else None
    return letter[0] if letter else None


def announced_at(text: str) -> int:
    """Where the value begins that the last such phrase announces; -1 if there is none.

    Words are looked for first, and the patterns matched where they stand, from the end of the text.
    """
    places = [(at, pattern) for word, pattern in _WORDS.items() for at in _places(text, word)]
    end = -1
    for at, pattern in sorted(places, key=lambda place: -place[0]):
        match = pattern.match(text, at)
        if match and not (at and text[at - 1].isalpha() and text[at - 1].isascii()):
            end = match.end()
            break
    for match in _LINE.finditer(text):
        end = max(end, match.end())
    if end < 0:
        for match in _RESERVE.finditer(text):
            end = match.end()
    return end


def _places(text: str, word: str) -> list[int]:
    found = []
    at = text.find(word)
    while at >= 0:
        found.append(at)
        at = text.find(word, at + 1)
    return found
