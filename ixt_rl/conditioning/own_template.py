"""Templates of one's own: of feedback, any object with `render` and `parse`; of prompts, one with `render`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.import_path import load_named
from ixt_rl.types import Document, Feedback


@runtime_checkable
class FeedbackText(Protocol):
    """What a template of one's own has; `separator` (by default a blank line) stands between feedback and document."""

    def render(self, feedback: Feedback, document: Document | None) -> str:
        """The text that shows feedback; "" shows none. Control tokens in it are such, those of the judge's critique and
        of the document are text.

        Args:
            feedback: what the judge said, or what is wished for.
            document: what it was said of; None at inference, where it is still to be written.
        """

    def parse(self, text: str) -> Feedback:
        """The feedback that `render` wrote as `text`."""


@dataclass(frozen=True)
class OwnFeedbackTemplate:
    """A `FeedbackText`, with what it gives looked at.

    Args:
        own: the object.
        name: how messages call it.
    """

    own: FeedbackText
    name: str

    scores = False
    """Whether it writes scores or a critique beside a level is not known: wishes are as they are asked for."""
    critique = False

    @property
    def separator(self) -> str:
        """What stands between feedback and document."""
        return getattr(self.own, "separator", "\n\n")

    def render(self, feedback: Feedback, document: Document | None = None) -> str:
        """See `FeedbackText`.

        Raises:
            DataError: it gives no text.
        """
        text = self.own.render(feedback, document)
        if not isinstance(text, str):
            raise DataError(
                f"{self.name}: render gave {text!r:.80}",
                reason="it writes the text that stands beside the document",
                remedy='return a text, "" for none',
            )
        return text

    def parse(self, text: str) -> Feedback:
        """See `FeedbackText`."""
        return self.own.parse(text)


def own_feedback_template(name: str) -> OwnFeedbackTemplate:
    """The template that `FILE.py:NAME` or `package.module:NAME` names: an object, or what makes one without arguments.

    Raises:
        ConfigError: it cannot be imported, or has no `render` and `parse`.
    """
    found = _made(load_named(name, "feedback template"))
    if not isinstance(found, FeedbackText):
        missing = [method for method in ("render", "parse") if not callable(getattr(found, method, None))]
        raise ConfigError(
            f"feedback template {name}",
            reason=f"it has no {' and no '.join(missing)}",
            remedy="name an object with render(feedback, document) and parse(text), or what makes one",
        )
    return OwnFeedbackTemplate(found, name)


@dataclass(frozen=True)
class OwnPromptTemplate:
    """Prompts by an object of one's own with `render(row) -> (prompt, told)`, with what it gives looked at.

    Args:
        own: the object; `chat_template_kwargs`, if it has any, go to the tokenizer's chat template.
        name: how messages call it.
    """

    own: Any
    name: str

    @property
    def chat_template_kwargs(self) -> Mapping[str, Any]:
        """Further variables of the tokenizer's chat template."""
        return getattr(self.own, "chat_template_kwargs", {})

    def render(self, question: Any, answer: Any, columns: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
        """(x, x (+) y), each a text or a list of messages; see `PromptTemplate.render`.

        Raises:
            DataError: the object gives something else.
        """
        found = self.own.render({**(columns or {}), "question": question, "answer": answer})
        if not isinstance(found, tuple | list) or len(found) != 2 or not all(map(_is_prompt, found)):
            raise DataError(
                f"{self.name}: render gave {found!r:.80}",
                reason="it writes two prompts: what inference sees, and the same told the answer",
                remedy="return (prompt, told), each a text or a list of {role: ..., content: ...}, none empty",
            )
        return found[0], found[1]

    def tell(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Any:
        """x (+) y of a row, with the answer and columns of `other` as far as the plain prompt does not show them."""
        question, answer = row["question"], other["answer"]
        plain, _ = self.render(question, row["answer"], row)
        swapped = {
            name: value
            for name, value in other.items()
            if name not in ("question", "answer") and self.render(question, answer, {**row, name: value})[0] == plain
        }
        return self.render(question, answer, {**row, **swapped})[1]

    def check(self, tokenizer: Any) -> None:
        """Nothing: control tokens that its prompts spell out are text."""


def own_prompt_template(name: str) -> OwnPromptTemplate:
    """The template that `FILE.py:NAME` or `package.module:NAME` names: an object, or what makes one without arguments.

    Raises:
        ConfigError: it cannot be imported, or has no `render`.
    """
    found = _made(load_named(name, "prompt template"))
    if not callable(getattr(found, "render", None)):
        remedy = "name an object with render(row) that gives (prompt, told), or what makes one"
        raise ConfigError(f"prompt template {name}", reason="it has no render", remedy=remedy)
    return OwnPromptTemplate(found, name)


def _made(found: Any) -> Any:
    """A template, made where what makes one is named."""
    makes_one = isinstance(found, type) or not hasattr(found, "render")
    return found() if makes_one and callable(found) else found


def _is_prompt(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in value)
    return isinstance(value, str) and bool(value)
