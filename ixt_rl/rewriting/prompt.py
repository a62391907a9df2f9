"""What a rewriter is asked, as files, and how its answers are read."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ixt_rl.judging.backend import Reply
from ixt_rl.judging.loose_json import find_objects
from ixt_rl.judging.parse import closes, outside, tags
from ixt_rl.judging.rubric import Axis, Rubric, load_file, shipped, well_formed

REWRITE = "rewrite"
COPY = "COPY"
PROMPTS = "rewriting/prompts"
"""Where those lie that come with the library."""

_BLOCK = re.compile(rf"<{REWRITE}>((?:(?!</?{REWRITE}>).)*+)</{REWRITE}>", re.DOTALL)
_MARK = re.compile(rf"</?{REWRITE}>")
_AROUND_A_WORD = " \t\r\n\"'`*_.[]()"
# Only looked for where an answer is not marked as a rewrite: a text may well say that somebody cannot help.
_REFUSAL = re.compile(
    r"\s*(?:(?:i(?:'|’)?m|i am) (?:very |so )?sorry\b.{0,60}\b(?:can(?:'|’|no)?t|unable|won(?:'|’)t)"
    r"|(?:sorry, (?:but )?)?i (?:can(?:'|’|no)?t|won(?:'|’)t|am unable to|am not able to) "
    r"(?:help(?! but)|assist|comply|rewrite|continue|provide|fulfil)"
    r"|as an ai\b)",
    re.IGNORECASE | re.DOTALL,
)


class RewritePrompt(Rubric):
    """A question whose answer is a text: a rubric, as backends and the cache know it, with one axis `rewrite`.

    Args:
        name: how it is called.
        prompt: `str.format` text over `prefix`, `suffix` and `answer_format`.
    """

    called: ClassVar[str] = "rewrite prompt"

    fields: tuple[str, ...] = ("prefix", "suffix")
    comment: str = ""
    axes: dict[str, Axis] = Field(default_factory=lambda: {REWRITE: Axis(asks="the new continuation")})

    def answer_format(self, as_json: bool = False) -> str:
        """How the rewriter is told to answer."""
        if as_json:
            return (
                f'Answer with one JSON object, {{"{REWRITE}": "<the new continuation>"}}. '
                f'If the continuation is good as it is, answer {{"{REWRITE}": "{COPY}"}}.'
            )
        return (
            f"Answer with the new continuation between <{REWRITE}> and </{REWRITE}>. "
            f"If the continuation is good as it is, answer with the one word {COPY}."
        )

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of the answer, for constrained decoding."""
        return {
            "type": "object",
            "properties": {REWRITE: {"type": "string"}},
            "required": [REWRITE],
            "additionalProperties": False,
        }

    @model_validator(mode="after")
    def _check(self) -> RewritePrompt:
        if self.model_fields_set - {"name", "prompt"}:
            raise ValueError("a rewrite prompt has a `name` and a `prompt`, and nothing else")
        used = {name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None}
        if used != {*self.fields, "answer_format"}:
            raise ValueError(f"the prompt uses {sorted(used)}; it has to use answer_format, prefix and suffix")
        return self


def shipped_rewrites() -> dict[str, Path]:
    """Name -> file of the rewrite prompts that come with the library."""
    return shipped(PROMPTS)


def load_rewrite(name: str | os.PathLike[str]) -> RewritePrompt:
    """A shipped rewrite prompt by name, or one from a YAML file.

    Raises:
        DataError: no such prompt, or a file that is none; names the key and what is wrong with it.
    """
    return load_file(name, PROMPTS, RewritePrompt)


def read_rewrite(reply: Reply, as_json: bool) -> tuple[str | None, str]:
    """(text, "") or (None, why there is none).

    The text is `COPY`, or the rewrite without white space around it. Of marked blocks the last outside of thinking
    counts, with all that stands in it. Without a mark, what follows the thinking that the answer begins with is the
    rewrite, unless its last line is `COPY`; with further tags of thinking in it, it may be either, and is `unreadable`.
    The reasons are of few kinds: `refused`, `failed`, `cut off`, `looped`, `empty`, `unfinished` and
    `unreadable`.

    Args:
        reply: the rewriter's.
        as_json: whether it was asked for a JSON object.
    """
    if reply.finish in ("refused", "failed", "looped"):
        return None, reply.finish
    if reply.finish == "length":
        return None, "cut off"
    text, reason = _from_json(reply.text) if as_json else _from_text(reply.text)
    if reason:
        return None, reason
    text = well_formed(text).strip()
    if text.strip(_AROUND_A_WORD).upper() == COPY:
        return COPY, ""
    return (text, "") if text else (None, "empty")


def _from_json(answer: str) -> tuple[str, str]:
    found = find_objects(answer)
    if found.cut is not None:
        return "", "unfinished"
    values = [value[REWRITE] for _, _, value in found.objects if REWRITE in value]
    if not values or not (values[-1] is None or isinstance(values[-1], str)):
        return "", "unreadable"
    return values[-1] or "", ""


def _from_text(answer: str) -> tuple[str, str]:
    blocks = [block.span() for block in _BLOCK.finditer(answer)]
    found = list(tags(answer, blocks))  # a rewrite may speak of thinking
    visible = outside(answer, found)
    marks, rewrites = _MARK.findall(visible), _BLOCK.findall(visible)
    if marks and (not rewrites or marks[-1] == f"<{REWRITE}>"):
        return "", "unfinished"
    if rewrites:
        return rewrites[-1], ""
    rest, left = _after_thinking(answer, found)
    tail = answer[left[-1].end() :] if left else rest
    if tail.rpartition("\n")[2].strip(_AROUND_A_WORD) == COPY:
        return COPY, ""
    if left:
        return "", "unreadable"
    return ("", "refused") if _REFUSAL.match(rest) else (rest, "")


def _after_thinking(answer: str, found: list[re.Match[str]]) -> tuple[str, list[re.Match[str]]]:
    """(what follows the thinking that an answer begins with, the tags that are left in it).

    Thinking is told from a text that speaks of tags by their place: it begins the answer, or the prompt began it, and
    one of its tags ends a line.
    """
    position, depth, opening = 0, 0, -1
    for index, tag in enumerate(found):
        if depth == 0:
            by_prompt = closes(tag) and index == 0
            if not by_prompt and (closes(tag) or answer[position : tag.start()].strip()):
                return answer[position:].strip(), found[index:]
            opening = index
        depth = max(depth + (-1 if closes(tag) else 1), 0)
        if depth == 0:
            if not (_ends_line(answer, tag) or _ends_line(answer, found[opening])):
                return answer[position:].strip(), found[opening:]
            position = tag.end()
    return ("", []) if depth else (answer[position:].strip(), [])


def _ends_line(answer: str, tag: re.Match[str]) -> bool:
    return not answer[tag.end() :].partition("\n")[0].strip()
