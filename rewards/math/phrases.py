"""The phrases that announce an answer, in the languages that models answer in."""

from __future__ import annotations

import re

_BE = r"(?:is|are|was|would\ be|will\ be|should\ be|must\ be|comes\ out\ to\ be|turns\ out\ to\ be|becomes|equals|=|:)"
_ENGLISH = rf"""
\b(?:final\ |correct\ |right\ |numerical\ |exact\ )*(?:answer|answers|option|choice)
(?:\ (?:to|for|of)\ (?:the|this|your|our)\ (?:question|problem|exercise|equation)
|\ choice|\ (?:here|then|thus|therefore))?
[*_"]*\ *{_BE}(?:\ +(?:therefore|simply|just|thus|then|clearly|indeed|equal\ to|given\ by|exactly|option|choice))*:?
"""
_OTHERS = (
    r"(?:最终|正确|所以|故|因此|最后的|标准)*(?:答案|结果)(?:应该|应)?(?:是|为|等于|：|:)[：:]?(?:选项)?",
    r"故?(?:应)?选(?:择|项)?(?:是|为|：|:)?(?=\s*[(（]?[A-H])",
    r"(?:^|\n)\s*答(?:：|:)",
    r"(?:die\ |eine\ )?(?:endgültige\ |richtige\ |korrekte\ |finale\ )*(?:Antwort|Endergebnis|Lösung)"
    r"\ *(?:ist|lautet|beträgt|:|=)",
    r"(?:la\ |une\ )?(?:bonne\ )?(?:réponse|reponse)\ *(?:finale|correcte|exacte)?\ *(?:est|:|=)(?:\ donc)?",
    r"(?:la\ )?(?:respuesta|solución)\ *(?:final|correcta)?\ *(?:es|:|=)",
    r"(?:la\ )?risposta\ *(?:finale|corretta)?\ *(?:è|:|=)",
    r"(?:a\ )?resposta\ *(?:final|correta)?\ *(?:é|:|=)",
    r"(?:Ответ|ответ)\ *(?:равен|—|-|:)",
    r"(?:最終的な|正しい)?(?:答え|解答|解|答案)(?:は|：|:)",
    r"(?:최종\ ?|정)?답(?:은|：|:)",
    r"(?:het\ )?(?:juiste\ |uiteindelijke\ )?antwoord\ *(?:is|:)",
)
_EMPHASIS = r"[*_]{0,2}"
PHRASE = re.compile(
    "|".join(f"(?:{pattern})" for pattern in (_ENGLISH, *_OTHERS)) + rf"{_EMPHASIS}", re.IGNORECASE | re.VERBOSE
)
LINE = re.compile(
    r"^[ \t>*_#]{0,12}(?:A|Ans|Answer|Final answer|The final answer|Result|Final result)[ *_]{0,4}"
    r"(?:[:：][ *_]{0,4}|[*_]{2}[ \t]*$|$(?=\n))",
    re.MULTILINE | re.IGNORECASE,
)
RESERVE = re.compile(r"\b(?:final result|result|solution)[*_]* *(?:is|=|:)", re.IGNORECASE)
HEADINGS = re.compile(
    r"[#*_\s]*(?:\d+[.)]\s*)?(?:the\s+)?(?:final\s+|complete\s+)?(?:answer|solution|result|conclusion|step|steps|verification|"
    r"verify|check|explanation|summary|given|problem|question|analysis|approach|calculation|calculations|reasoning|"
    r"understanding|note|proof|case|part|method|setup|therefore|final)\b[^\n]*",
    re.IGNORECASE,
)
