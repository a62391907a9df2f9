"""Finds the final answer in a completion, by a stated order. The last one counts: what a model took back is not it.

completion --after thinking--> what is said --<answer> | last box | #### | "the answer is" | last line--> answer
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from ixt_rl.rewards.math.phrases import HEADINGS, announced_at, confirmed_choice

Extraction = Literal["auto", "boxed", "last_box", "hashes", "tags", "minerva"]
EXTRACTIONS: tuple[Extraction, ...] = get_args(Extraction)

MAX_HEADINGS = 50
"""How many headings after the last answer are passed over to find it."""

_THINK_NAMES = r"think|thinking|thought|thoughts|reasoning|scratchpad|seed:think|analysis"
_THINK_END = re.compile(
    rf"</(?:{_THINK_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|/?end_of_thinking\|>"
    r"|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
_THINK_START = re.compile(
    rf"<(?:{_THINK_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>\s*analysis\s*<\|message\|>",
    re.IGNORECASE,
)
_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|return|>", "<|eom_id|>",
               "<end_of_turn>", "<eos>", "</s>", "<｜end▁of▁sentence｜>")  # fmt: skip
_TAG = re.compile(r"<(answer|final_answer|solution|final)>((?:(?!<\1>).)*?)</\1>", re.DOTALL | re.IGNORECASE)
_BOX_TOKEN = re.compile(
    r"(?:\\|\x08)(?:boxed|oxed|fbox|framebox)(?![A-Za-z])(?P<gap>[ \t]*)(?P<open>\{)?|\\.|[{}]", re.DOTALL
)
_BARE_BOX = re.compile(r"\\[dt]?frac\s*(?:\d\s*\d|\{[^{}]*\}\s*\{[^{}]*\})|-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![A-Za-z])")
_JOIN = re.compile(r"[\s$.]*(?:,|\\text\{\s*(?:and|or)\s*\}|and|or|,\s*and|,\s*or)[\s$]*")
_PLACEHOLDER = re.compile(
    r"[\s.$]*(?:\\text\{)?[\s\[<]*(?:your |the |final |numerical )*(?:answer|result|number|value|solution)?"
    r"[\s.\]>]*\}?[\s.$]*"
    r"|\s*(?:\.\.\.|…|\\[lc]?dots|\\cdot|_+|\?+|\{\})\s*",
    re.IGNORECASE,
)
_MINERVA = re.compile(
    r"[Ff]inal [Aa]nswer:?\s*[Tt]he final answer is:?\s*(.*?)\.?\s*I hope (?:it|this) is correct"
    r"|[Tt]he final answer is:?[ \t]*(.*?)(?:\.?\s*I hope (?:it|this) is correct|\.?[ \t]*$)",
    re.DOTALL | re.MULTILINE,
)
_ENDS = re.compile(r"(?:(?<=[^\s.\d])|(?<=\d))\.(?:\s|$)|[。！](?=\s|$|[^\s])|\n")
_REASON = re.compile(r",?\s+(?:because|since|as|so that|which is|which means|I hope|where we|obtained by)\b")
_AFTER_BOX = re.compile(r"[\s:]*(?:\*\*|__|\$\$?|\\\[|\\\()?[\s:]*$")
_FENCES = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))


def final_answer(text: str, how: Extraction = "auto", *, last_line: bool = False) -> str | None:
    """The final answer of a completion, or None if it gives none.

    Args:
        text: the completion. Of one that thinks first, what follows the end of the thinking; thinking that
            never ends has no answer.
        how: `boxed` (or `last_box`) takes the content of the last non-empty `\\boxed{...}` (boxes joined by
            "and", "or" or a comma are one answer: giving two is not a way to be right once); `hashes` the rest of
            the line after the last `####`; `tags` what stands in the last `<answer>`; `minerva` what follows "The
            final answer is"; `auto` the first of: last `<answer>`, last box, last `####`, last "the answer is ..."
            or `Answer:` in one of eleven languages.
        last_line: take the last line when there is none of these.

    A last box whose brace is not closed is no answer: the completion was cut there.
    Time is linear in the length of the text.
    """
    said = after_thinking(_without_end_tokens(text))
    if said is None:
        return None
    if how in ("boxed", "last_box"):
        found = _last_box(said)
    elif how == "hashes":
        found = _after_hashes(said)
    elif how == "tags":
        found = _in_tag(said)
    elif how == "minerva":
        found = _minerva(said)
    else:
        found = _auto(said)
    if found is None and last_line:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return _tidy(lines[-1]) if lines else None
    return found


def _without_end_tokens(text: str) -> str:
    """Without what ends a turn, where the text was decoded with its special tokens."""
    while end := next((token for token in _END_TOKENS if text.rstrip().endswith(token)), ""):
        text = text.rstrip().removesuffix(end)
    return text


def after_thinking(text: str) -> str | None:
    """What follows the end of the thinking; all of a text without any; None for thinking that never ends."""
    end = None
    for match in _THINK_END.finditer(text):
        end = match.end()
    start = None
    for match in _THINK_START.finditer(text, end or 0):
        start = match.start()
    if start is not None:
        return None
    return text if end is None else text[end:]


def _auto(text: str) -> str | None:
    tagged = _in_tag(text)
    if tagged is not None:
        return tagged
    boxed, open_box = _boxed(text)
    if boxed is not None or open_box:
        return boxed
    return _after_hashes(text) or _said(text)


def _in_tag(text: str) -> str | None:
    inside = None
    for match in _TAG.finditer(text):
        inside = match[2] if match[2].strip() and not _PLACEHOLDER.fullmatch(match[2]) else inside
    if inside is None:
        return None
    boxed, open_box = _boxed(inside)
    if boxed is not None or open_box:
        return boxed
    return _said(inside) or _tidy(inside)


def _after_hashes(text: str) -> str | None:
    """The line after the last `####` that is no heading; a heading that names the answer has it below."""
    end = len(text)
    for _ in range(MAX_HEADINGS):
        at = text.rfind("####", 0, end)
        if at < 0:
            return None
        rest = text[at + 4 : end].lstrip("# \t")
        line, _, below = rest.partition("\n")
        line = line.strip() or below.strip().partition("\n")[0].strip()
        if line and not HEADINGS.fullmatch(line):
            return _tidy(line) if line.startswith(("*", "`")) else line
        announced = _said(rest) if line else None
        if announced is not None:
            return announced
        end = at
    return None


def _minerva(text: str) -> str | None:
    found = None
    for match in _MINERVA.finditer(text):
        found = match[1] if match[1] is not None else match[2]
    return _tidy(found) if found else None


def _said(text: str) -> str | None:
    """What follows the last phrase that announces the answer."""
    at = announced_at(text)
    return _value_at(text[at:]) if at >= 0 else confirmed_choice(text)


def _value_at(text: str) -> str | None:
    """The value at the beginning of a text: to the end of the formula and its sentence, or on the next line."""
    text = text.lstrip(" \t\n:：*_=-–>#`") if not re.match(r"\s*-\s*[\d.$\\a-zA-Z(]|\s*=?\s*-\s*\d", text) else (
        text.lstrip(" \t\n:：*_=>#`"))  # fmt: skip
    for opener, closer in _FENCES:
        if text.startswith(opener):
            end = text.find(closer, len(opener))
            if end > 0:
                tail = _ENDS.split(text[end + len(closer) :], maxsplit=1)[0]
                return _tidy(text[: end + len(closer)] + _REASON.split(tail)[0])
    line = text.partition("\n")[0]
    sentence = _ENDS.split(line, maxsplit=1)[0]
    return _tidy(_REASON.split(sentence)[0])


def _tidy(text: str) -> str | None:
    text = text.strip().lstrip("*_`").strip()
    text = text if text.endswith("^*") else text.rstrip("*_`").rstrip()
    text = re.sub(r"\*\*(?=\s|$)|(?<=\s)\*\*(?=\w)", "", text).strip()
    text = text.rstrip("．。")
    if len(text) > 1 and text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip("*_ ")
    text = re.sub(r"(?:です|でした|である|입니다|이다|です。)$", "", text).strip()
    return text or None


# ------------------------------------------------------------------------------------------------ boxes


def _last_box(text: str) -> str | None:
    return _boxed(text)[0]


def _boxed(text: str) -> tuple[str | None, bool]:
    """(content of the last non-empty box, whether the text was cut inside a later one)."""
    boxes, unclosed_start = _boxes(text)
    boxes = [box for box in boxes if not _PLACEHOLDER.fullmatch(text, box[1], box[2])]
    if unclosed_start >= 0 and (not boxes or unclosed_start > boxes[-1][0]):
        return None, True
    if not boxes:
        return None, False
    start, inner, end = boxes[-1]
    answers = [text[inner:end].strip()]
    for earlier_start, earlier_inner, earlier_end in reversed(boxes[:-1]):
        if earlier_end > start or not _JOIN.fullmatch(text[earlier_end + 1 : start]):
            break
        answers.insert(0, text[earlier_inner:earlier_end].strip())
        start = earlier_start
    return ", ".join(answers) or None, False


def _boxes(text: str) -> tuple[list[tuple[int, int, int]], int]:
    """All closed boxes as (start of the command, start and end of the content), by start; the innermost
    of nested ones only. And the start of the last box left open, or -1. One pass over the text."""
    stack: list[tuple[int, int] | None] = []  # open braces; a box's with its start and content start
    boxes: list[tuple[int, int, int]] = []
    for match in _BOX_TOKEN.finditer(text):
        token = match[0]
        if match["gap"] is not None:
            bare = None if match["open"] else _BARE_BOX.match(text, match.end())
            if match["open"]:
                stack.append((match.start(), match.end()))
            elif bare is not None and bare.end() > bare.start():
                boxes.append((match.start(), bare.start(), bare.end()))
        elif token == "{":
            stack.append(None)
        elif token == "}" and stack:
            opened = stack.pop()
            holds_box = boxes and opened is not None and boxes[-1][0] > opened[0]
            if opened is not None and not holds_box:
                boxes.append((*opened, match.start()))
    return boxes, max((opened[0] for opened in stack if opened), default=-1)
