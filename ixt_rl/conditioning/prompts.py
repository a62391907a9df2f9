"""Prompt templates (data, not code) and the one way prompts become ids."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Formatter
from typing import Any

import yaml

from ixt_rl.conditioning.control import chat_ids, control_of, leading_ids, text_ids
from ixt_rl.conditioning.own_template import OwnPromptTemplate, own_prompt_template
from ixt_rl.errors import DataError

Messages = list[dict[str, str]]
Prompt = str | Messages

OF_MESSAGES = "chat"
"""The template of questions that are messages already, where none is named."""


@functools.cache
def named_templates() -> dict[str, dict[str, Any]]:
    """The templates shipped with the library, by name."""
    text = resources.files("ixt_rl.conditioning").joinpath("templates.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@dataclass(frozen=True)
class PromptTemplate:
    """`prompt` renders x, `told` renders x (+) y; both `str.format` strings over {question}, {answer} and columns.

    Args:
        prompt: the problem alone.
        told: the problem with its answer; None: nothing is told it.
        chat: both are the user's message in a chat.
        system: the chat's system message; None: the data's own, or none.
        examples: few-shot turns before the question, each with `question` (put into `prompt`) and `answer` (the reply).
        chat_template_kwargs: further variables of the tokenizer's chat template, such as `enable_thinking`.
    """

    prompt: str
    told: str | None = None
    chat: bool = False
    system: str | None = None
    examples: Sequence[Mapping[str, str]] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def render(
        self, question: str | Messages, answer: Any, columns: Mapping[str, Any] | None = None
    ) -> tuple[Prompt, Prompt]:
        """(x, x (+) y) as text, or as message lists where `chat` is set or the question is messages.

        Of a question in messages the last one, a user's, is rendered by the template; those before stay as they are.
        Of several gold answers the first is told. `columns` has the row's further fields.

        Raises:
            DataError: a field that the row does not have, or that is neither text nor a number, or a blank one; or the
                template has no `told`.
        """
        told_answer = answer[0] if isinstance(answer, list | tuple) else answer
        return self.ask(question, columns), self._shown(self._telling, question, columns, {"answer": told_answer})

    def ask(self, question: str | Messages, columns: Mapping[str, Any] | None = None) -> Prompt:
        """x alone, as `render` gives it."""
        return self._shown(self.prompt, question, columns, {})

    def tell(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Prompt:
        """x (+) y of a row, with the fields of `other` in what only `told` shows; "" tells nothing."""
        only = _fields(self._telling) - _fields(self.prompt)
        return self._shown(self._telling, row["question"], row, {name: other[name] for name in only if name in other})

    @property
    def _telling(self) -> str:
        """`told`, by what shows it."""
        if self.told is None:
            raise DataError(
                f"template {self.prompt[:80]!r} without told",
                reason="it says how a problem is asked, and not how its answer is told",
                remedy="give it `told`: its prompt, with {answer} in it",
            )
        return self.told

    def _shown(self, text: str, question: str | Messages, columns: Mapping[str, Any] | None, row: dict) -> Prompt:
        before, asked = (question[:-1], question[-1]["content"]) if isinstance(question, list) else ([], question)
        filled = _filled(text, {"question": asked, **row}, columns or {})
        return self.messages(filled, before) if self.chat or isinstance(question, list) else filled

    def messages(self, user: str, before: Sequence[dict[str, str]] = ()) -> Messages:
        """A chat up to a user's message: system message, few-shot turns, what was said `before`, the message."""
        system = [dict(message) for message in before if message["role"] == "system"]
        if self.system is not None:
            system = [{"role": "system", "content": self.system}]
        shots = [
            {"role": role, "content": content}
            for shot in self.examples
            for role, content in (
                ("user", _filled(self.prompt, {"question": shot["question"]}, {})),
                ("assistant", shot["answer"]),
            )
        ]
        said = [dict(message) for message in before if message["role"] != "system"]
        return [*system, *shots, *said, {"role": "user", "content": user}]

    def check(self, tokenizer) -> None:
        """Raises DataError if a text of the template spells out a control token: it would be text."""
        shots = [text for shot in self.examples for text in shot.values()]
        for text in (self.prompt, self.told or "", self.system or "", *shots):
            found = control_of(tokenizer).spells(text)
            if found:
                raise DataError(
                    f"template text {text[:80]!r} spells out {found}",
                    reason="control tokens come from the tokenizer's chat template; spelled out they are ordinary text",
                    remedy="set chat: true (with `system` and `examples` if need be), and leave the marker out",
                )


def _filled(text: str, row: dict[str, Any], columns: Mapping[str, Any]) -> str:
    """A template's text with its fields; `row` goes before `columns`."""
    shown = dict(row)
    for name in _fields(text) - {*row}:
        value = columns.get(name)
        blank = isinstance(value, str) and not value.strip()
        if name == "answer" or blank or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(
                f"{name}={value!r:.80} of the question {row['question']!r:.80}",
                reason="the plain prompt is not told the answer"
                if name == "answer"
                else f"the template shows {{{name}}}, and that is {'empty' if blank else 'neither text nor a number'}",
                remedy="write it as text in every row, keep such rows out with data.where, or leave the field out",
            )
        shown[name] = value
    return _Columns().vformat(text, (), shown)


def _fields(text: str) -> set[str]:
    """The fields that a template's text shows."""
    return {part[1] for part in Formatter().parse(text) if part[1]}


class _Columns(Formatter):
    """`str.format` to which `{a.b}` is the column of that name, and no attribute."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name


def load_template(spec: Any, default: str) -> PromptTemplate | OwnPromptTemplate:
    """A template by its name, by `python:FILE.py:NAME`, from an object with its fields, or by the default's name.

    Raises:
        ConfigError: see `own_prompt_template`.
        DataError: no template has that name.
    """
    if spec is None:
        spec = default
    if isinstance(spec, PromptTemplate):
        return spec
    if not isinstance(spec, str):
        given = (spec.prompt, spec.told, spec.chat, spec.system)
        return PromptTemplate(*given, [shot.model_dump() for shot in spec.examples], spec.chat_template_kwargs)
    if spec.startswith("python:"):
        return own_prompt_template(spec.removeprefix("python:"))
    known = named_templates()
    if spec not in known:
        raise DataError(f"template {spec!r}", reason="no template has that name", remedy=f"one of {', '.join(known)}")
    return PromptTemplate(**known[spec])


def encode_prompt(
    tokenizer, prompt: Prompt, limit: int | None = None, chat_template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """A prompt's ids: text after what the tokenizer puts first (BOS), or a rendered chat; the last `limit` of them.

    Nothing follows the text, whatever the tokenizer appends by itself: a prompt that ends with EOS asks for nothing.
    Control tokens that texts and messages spell out are text.

    Used for plain and told prompts alike, by training, rollouts and evaluation.
    """
    if isinstance(prompt, str):
        ids = [*leading_ids(tokenizer), *text_ids(tokenizer, prompt)]
    else:
        ids = chat_ids(tokenizer, prompt, add_generation_prompt=True, **(chat_template_kwargs or {}))
    return ids if limit is None else ids[-limit:]


def row_ids(
    tokenizer,
    row: Mapping[str, Any],
    column: str,
    limit: int | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """Ids of the prompt in a row's `column`: those it brings in `<column>_ids`, else `encode_prompt`'s.

    Args:
        tokenizer: of the model, by which ids that a row brings were made.
        row: of a data set.
        column: `prompt` or `told_prompt`.
        limit, chat_template_kwargs: see `encode_prompt`.
    """
    ids = row.get(f"{column}_ids")
    if ids is None:
        return encode_prompt(tokenizer, row[column], limit, chat_template_kwargs)
    ids = [int(token) for token in ids]
    return ids if limit is None else ids[-limit:]
