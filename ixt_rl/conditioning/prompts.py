"""Prompt templates (data, not code) and the one way prompts become ids."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from ixt_rl.errors import DataError

Prompt = str | list[dict[str, str]]


@functools.cache
def named_templates() -> dict[str, dict[str, Any]]:
    """The templates shipped with the library, by name."""
    text = resources.files("ixt_rl.conditioning").joinpath("templates.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@dataclass(frozen=True)
class PromptTemplate:
    """`prompt` renders x, `told` renders x (+) y; both `str.format` strings over {question}, {answer}."""

    prompt: str
    told: str
    chat: bool = False

    def render(self, question: str, answer: str) -> tuple[Prompt, Prompt]:
        """(x, x (+) y) as text, or as message lists when `chat` is set."""
        plain = self.prompt.format(question=question)
        told = self.told.format(question=question, answer=answer)
        if self.chat:
            return [{"role": "user", "content": plain}], [{"role": "user", "content": told}]
        return plain, told


def load_template(spec: Any, default: str) -> PromptTemplate:
    """A template from its name, from an object with `prompt`, `told` and `chat`, or the default's name.

    Raises:
        DataError: no template has that name.
    """
    if spec is None:
        spec = default
    if not isinstance(spec, str):
        return PromptTemplate(spec.prompt, spec.told, spec.chat)
    known = named_templates()
    if spec not in known:
        raise DataError(f"template {spec!r}", reason="no template has that name", remedy=f"one of {', '.join(known)}")
    return PromptTemplate(**known[spec])


def encode_prompt(tokenizer, prompt: Prompt, limit: int | None = None) -> list[int]:
    """A prompt's ids: text with the tokenizer's own special tokens (BOS), or a rendered chat; the last `limit` of them.

    Used for plain and told prompts alike, by training, rollouts and evaluation.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(text=prompt)["input_ids"])
    else:
        rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
        ids = list(rendered["input_ids"])
    return ids if limit is None else ids[-limit:]
