"""Feedback as text by a template of one's own: any object with `render` and `parse`."""

from __future__ import annotations

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
    found: Any = load_named(name, "feedback template")
    if isinstance(found, type) or not hasattr(found, "render"):
        found = found() if callable(found) else found
    if not isinstance(found, FeedbackText):
        missing = [method for method in ("render", "parse") if not callable(getattr(found, method, None))]
        raise ConfigError(
            f"feedback template {name}",
            reason=f"it has no {' and no '.join(missing)}",
            remedy="name an object with render(feedback, document) and parse(text), or what makes one",
        )
    return OwnFeedbackTemplate(found, name)
