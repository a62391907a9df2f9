"""Prompts as data."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import problem_files
from ixt_rl.blocks.python_name import check_python_name
from ixt_rl.blocks.strict import Strict
from ixt_rl.errors import ConfigError, did_you_mean


class ShotBlock(Strict):
    """A worked example in a chat prompt."""

    question: str = Field(description="put into the template's `prompt`")
    answer: str = Field(description="the assistant's reply to it")


class PromptBlock(Strict):
    """Prompts as data where nothing is told the answer; `told`, if it is given, is for stages that tell it."""

    prompt: str
    told: str | None = Field(None, description="read only where the answer is told")
    chat: bool = Field(False, description="both are the user's message in the tokenizer's chat template")
    system: str | None = Field(None, description="the chat's system message")
    examples: list[ShotBlock] = Field([], description="few-shot turns before the question, in a chat")
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="variables of the tokenizer's chat template, such as {enable_thinking: false}"
    )

    @model_validator(mode="after")
    def _needs_chat(self) -> Self:
        for key in ("system", "examples", "chat_template_kwargs"):
            if getattr(self, key) and not self.chat:
                raise ConfigError(
                    f"{key} in a template without chat",
                    reason="it belongs to the tokenizer's chat template, which plain prompts do not go through",
                    remedy=f"set chat: true, or leave {key} out; plain prompts hold their examples in `prompt`",
                )
        return self

    @model_validator(mode="after")
    def _fields(self) -> Self:
        texts = {key: text for key in ("prompt", "told") if (text := getattr(self, key)) is not None}
        fields = {key: checks.template_fields(text) for key, text in texts.items()}
        for key, found in fields.items():
            if "question" not in found:
                near = next((near for name in sorted(found) if (near := did_you_mean(name, ["question"]))), "")
                raise ConfigError(
                    f"{key}={texts[key]!r} does not show {{question}}",
                    reason="the model cannot solve a problem it does not see",
                    remedy=f"{near}put {{question}} in `{key}`",
                )
        if "answer" in fields["prompt"]:
            raise ConfigError(
                f"prompt={self.prompt!r} shows {{answer}}",
                reason="the plain prompt is what inference sees, and inference has no answer",
                remedy="use {answer} in `told` only",
            )
        if "told" in fields and not fields["told"] - fields["prompt"]:
            raise ConfigError(
                f"told={self.told!r} shows no more than `prompt`: neither {{answer}} nor another column",
                reason="the posterior is the model that is told the answer, or something of it",
                remedy="put {answer} in `told`, or a field of data.columns",
            )
        if self.examples and fields["prompt"] != {"question"}:
            raise ConfigError(
                f"prompt={self.prompt!r} with examples",
                reason="few-shot turns are written by `prompt`, and have a question and an answer, no further columns",
                remedy="leave examples out, or show the columns in `told` only",
            )
        return self


class TemplateBlock(PromptBlock):
    """Prompts as data: `{question}`, `{answer}` and the names in `data.columns` are the row's fields.

    `prompt` is x, what inference sees; `told` is x (+) y, the prompt that is told the answer, or more of it.
    """

    told: str


ShippedTemplateName = Annotated[str, AfterValidator(checks.check_template_name)]


def _check_name(name: str, info: ValidationInfo) -> str:
    """A shipped template, or what `python:` names."""
    kind, colon, named = name.partition(":")
    if colon and kind == "python":
        return f"python:{check_python_name(named, info, 'NAME')}"
    return checks.check_template_name(name)


TemplateName = Annotated[str, AfterValidator(_check_name)]
"""A shipped template, or one of one's own: `python:FILE.py:NAME`, an object with render(row)."""


def check_template_columns(template: str | PromptBlock | None, data: Any) -> None:
    """Every field of an inline template is a column of the rows that it renders.

    Raises:
        ConfigError: one is not, or the plain prompt shows the answer under the name of its own field.
    """
    if not isinstance(template, PromptBlock):
        return
    files = problem_files(data)
    columns = [name for name in (files[0].columns if files else []) if all(name in one.columns for one in files)]
    for key in ("prompt", "told"):
        for field in sorted(checks.template_fields(getattr(template, key) or "") - {"question", "answer", *columns}):
            raise ConfigError(
                f"template.{key} shows {{{field}}}",
                reason="the rows have "
                + ", ".join(["question", "answer", *columns])
                + (" in every source" if len(files) > 1 else "" if files else ": further columns come from files"),
                remedy=did_you_mean(field, ["question", "answer", *columns])
                + f"add the file's field to data.columns: [{', '.join([*columns, field])}], or leave it out",
            )
    shown = checks.template_fields(template.prompt) - {"question"}
    for told in (one.answer for one in files if one.answer in shown):
        raise ConfigError(
            f"template.prompt shows {{{told}}}",
            reason="data.answer is that field: the plain prompt is what inference sees, and inference has no answer",
            remedy="show it in `told` only",
        )


def check_template_of_replies(template: str | PromptBlock | None, *, told: bool = False) -> None:
    """Prompts of replies have no columns: they show {question} alone, and {answer} where `told` shows it to them.

    Args:
        template: of a stage that trains on replies.
        told: some of the prompts are told an answer.

    Raises:
        ConfigError: another field is shown, or `told` is missing.
    """
    if not isinstance(template, PromptBlock):
        return
    if told and template.told is None:
        raise ConfigError(
            "template without told",
            reason="the world tells an answer in some of its prompts",
            remedy="give the template `told`: its prompt, with {answer} in it",
        )
    for key, known in (("prompt", {"question"}), ("told", {"question", "answer"}))[: 1 + told]:
        for field in sorted(checks.template_fields(getattr(template, key)) - known):
            raise ConfigError(
                f"template.{key} shows {{{field}}}",
                reason="the prompt of a reply is one text, and has no further columns",
                remedy=f"leave {{{field}}} out, or write what it holds into the prompts",
            )


def renders_chats(template: str | PromptBlock | None) -> bool:
    """Whether prompts go through the tokenizer's chat template."""
    if isinstance(template, str):  # of one's own, nobody knows before it renders
        return not template.startswith("python:") and checks.is_chat_template(template)
    return template is not None and template.chat
