"""Rows of files as documents: which columns are text, prompt, feedback; what is refused, by file and row.

files --readers--> rows --DocumentSource's columns--> Documents, pass after pass

Imports no torch: `ixt-rl check` looks at first rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ixt_rl.data.feedback_columns import read_feedback
from ixt_rl.data.fields import (
    MISSING,
    as_messages,
    columns_for,
    find,
    is_missing,
    names_of,
    prompt_and_turns,
    reply_and_prompt,
)
from ixt_rl.data.readers import FIRST_ROWS, READERS, Cursor, check_file, columns_of, kind_of, read_hub
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Document, Feedback

if TYPE_CHECKING:
    from ixt_rl.conditioning.prompts import PromptTemplate

_FEEDBACK_COLUMNS = ("level", "scores", "critique", "judge", "tokens")


class SetAside(Protocol):
    """Documents that no training sees; see `ixt_rl.data.holdout`."""

    amount: int | float

    def excludes(self, document: Document) -> bool: ...


@dataclass(frozen=True)
class DocumentSource:
    """Where documents come from, and how often.

    Args:
        files: .jsonl, .json and .parquet files, read in this order; or one hub dataset's id.
        text: column of the document; with `prompt`, of the reply.
        prompt: column of what the text replies to, as text or, for a chat, as messages; None: documents of their own.
        messages: column of conversations, lists of messages that end with an assistant's; in place of text and prompt.
        feedback: prefix of the feedback columns that `ixt-rl annotate` wrote; None: feedback is not read.
        weight: share of the documents drawn from this source, relative to the other sources' weights.
        name: configuration of the hub dataset.
        split: split of the hub dataset.
        template: how prompts are shown: its `prompt` as text or, with `chat`, as messages; its system message goes
            before conversations that have none. None: as they are.
        control_tokens: whether control tokens that text and prompt spell out are such (see `Document`).
        tag: column of the documents' tags, shown in place of what a judge said, or beside it; None: they have none.
        tag_text: the tag of all documents of a source without such a column.

    In names of columns `a.b` is the entry b of column a, if no column is called `a.b`.

    Raises:
        ConfigError: no file, or a weight that is not a positive number.
    """

    files: tuple[str, ...]
    text: str = "text"
    prompt: str | None = None
    feedback: str | None = "feedback"
    weight: float = 1.0
    name: str | None = None
    split: str = "train"
    messages: str | None = None
    template: PromptTemplate | None = None
    control_tokens: bool = False
    tag: str | None = None
    tag_text: str = ""

    def __post_init__(self) -> None:
        if not self.files or isinstance(self.files, str):
            raise ConfigError(
                f"files={self.files!r}",
                reason="a source reads a list of files",
                remedy="give at least one, also if it is only one, in a list",
            )
        if not isfinite(self.weight) or self.weight <= 0:
            raise ConfigError(
                f"weight={self.weight!r} of {self.files[0]}",
                reason="documents are drawn in proportion to the weights",
                remedy="give a positive number, or leave the source out",
            )

    @property
    def is_hub(self) -> bool:
        """Whether `files` is the id of one dataset, not files."""
        return len(self.files) == 1 and kind_of(self.files[0]) not in READERS and not Path(self.files[0]).is_file()

    @property
    def columns(self) -> list[str]:
        """Every column that is read, and what holds it where its name has dots."""
        feedback = [f"{self.feedback}_{name}" for name in _FEEDBACK_COLUMNS] if self.feedback else []
        read = [*self.said, *([self.tag] if self.tag else [])]
        return [*columns_for(read), *feedback]

    @property
    def said(self) -> list[str]:
        """The columns of the text: text and prompt, or messages."""
        return [self.messages] if self.messages else [self.text, *([self.prompt] if self.prompt else [])]

    @property
    def required(self) -> list[str]:
        """The columns that there must be: of the text, of the feedback its level, and the tag."""
        return [*self.said, *([self.tag] if self.tag else []), *([f"{self.feedback}_level"] if self.feedback else [])]


class SourceReader:
    """The documents of one source, pass after pass; `cursor` and `epoch` say where it is."""

    def __init__(self, source: DocumentSource, holdout: SetAside | None = None):
        self.source, self.holdout = source, holdout
        self.cursor = Cursor()
        self.epoch = 0
        self.empty = 0
        self._rows = self._pass()

    def check(self, *, begins_only: bool = False) -> None:
        """Reads the first row of every file, and more of them where a column is not in it, or as long as one is null.

        Args:
            begins_only: look at no more than the first 1,000 rows of the first file.

        Raises:
            DataError: a file that is missing, empty or of an unknown kind, a column that is missing or always null, a
                row that is not text.
        """
        for file in range(1 if begins_only else len(self.source.files)):
            if not self.source.is_hub:
                self._check_file(self.source.files[file])
            cursor = Cursor(file=file)
            lacking, null, row = self.source.required, self.source.said, None
            for number, row in enumerate(self._read(cursor), 1):
                self._document(row, cursor)
                lacking = [name for name in lacking if find(row, name) is MISSING]
                null = [name for name in null if find(row, name) in (MISSING, None)]
                if not null if not lacking else number == FIRST_ROWS:
                    break
                if begins_only and number == FIRST_ROWS:
                    null = []  # further on there may be text
                    break
            if row is None:
                raise DataError(
                    f"{self.source.files[file]}: empty",
                    reason="it has no row",
                    remedy="leave it out of `files`, or write it again",
                )
            if lacking:
                raise self._no_column(lacking[0], names_of([row]), f"{self.source.files[file]}:{cursor.row}")
            if null:
                raise DataError(
                    f"{self.source.files[file]}: {null[0]}=None in every row",
                    reason="it is of type NoneType, not text: there is nothing to train on",
                    remedy="leave the file out, or name another column with `text`, `prompt` or `messages`",
                )

    def next(self) -> Document | None:
        """The next document that is not empty; None at the end of a pass, after which the next one begins.

        Raises:
            DataError: a row that cannot be used, or a whole pass of empty documents.
        """
        for document in self._rows:
            if document is None:
                self.empty += 1
            elif self.holdout is None or not self.holdout.excludes(document):
                return document
        self.epoch += 1
        self.cursor = Cursor()
        self._rows = self._pass()
        return None

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "empty": self.empty, **asdict(self.cursor)}

    def load(self, state: Mapping[str, Any]) -> None:
        place = dict(state)
        self.epoch, self.empty = place.pop("epoch"), place.pop("empty")
        self.cursor = Cursor(**place)
        self._rows = self._pass()

    def _pass(self) -> Iterator[Document | None]:
        """From the cursor to the end of the last file; the cursor is past a document before it is given out."""
        cursor = self.cursor
        while cursor.file < len(self.source.files):
            for row in self._read(cursor):
                yield self._document(row, cursor)
            cursor.next_file()

    def _read(self, cursor: Cursor) -> Iterator[Mapping[str, Any]]:
        source, path = self.source, self.source.files[cursor.file]
        if source.is_hub:
            return read_hub(path, source.name, source.split, cursor)
        return READERS[kind_of(path)](path, cursor, source.columns)

    def _check_file(self, path: str) -> None:
        check_file(path)
        columns = columns_of(path)
        if columns is None:
            return
        for name in self.source.required:
            if name not in columns and name.partition(".")[0] not in columns:
                raise self._no_column(name, columns, path)

    def _no_column(self, name: str, present: Sequence[str], place: str) -> DataError:
        return DataError(
            f"{place}: no column {name!r}",
            reason=f"its columns are {', '.join(map(repr, present))}",
            remedy="name another with `text`, `prompt` or `messages`; of pairs with `prompt`, `chosen` or `rejected`"
            if name in self.source.said
            else "name another with the source's `tag`"
            if name == self.source.tag
            else "annotate the file with `ixt-rl annotate`, or set the source's `feedback` to null",
        )

    def _document(self, row: Mapping[str, Any], cursor: Cursor) -> Document | None:
        """The document of a row; None where there is nothing to train on: no text, or no prompt for it."""
        source, key = self.source, f"{self.source.files[cursor.file]}:{cursor.row}"
        said = [find(row, name) for name in source.said]
        if any(map(is_missing, said)):
            return None
        try:
            text, asked = self._said(said, key)
            if not text or text.isspace():
                return None
            judged = (row.get(f"{source.feedback}_tokens") or 0) if source.feedback and self.epoch == 0 else 0
            feedback = read_feedback(row, source.feedback) if source.feedback else None
            tag = self._tag(row)
        except (AttributeError, TypeError, ValueError) as error:  # feedback of other types among them
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{key}: a row that cannot be used", reason=str(error), remedy="correct the row, or remove it"
            ) from None
        if tag:
            feedback = replace(feedback or Feedback(), tag=tag)
        shown = self._shown(asked)
        as_read = None if shown == asked else _as_read(text, asked)
        prompt, turns = prompt_and_turns(shown)
        context = 0 if source.messages else len(turns)
        return Document(text, prompt, feedback, key, judged, turns, context, source.control_tokens, as_read)

    def _tag(self, row: Mapping[str, Any]) -> str:
        """What the row says of where it comes from; "" where it is null.

        Raises:
            TypeError: it is no text.
        """
        if self.source.tag is None:
            return self.source.tag_text
        found = find(row, self.source.tag)
        if is_missing(found):
            return ""
        if not isinstance(found, str):
            raise TypeError(f"{self.source.tag} is of type {type(found).__name__}, not text")
        return found

    def _said(self, said: list[Any], key: str) -> tuple[str, str | list[dict[str, str]]]:
        """(text, what it replies to): the prompt as text or messages, "" where there is none."""
        source = self.source
        if source.messages:
            *before, last = as_messages(said[0], f"{key}: {source.messages}")
            if last["role"] != "assistant" or not before:
                raise DataError(
                    f"{key}: {source.messages} of roles {', '.join(m['role'] for m in [*before, last])}",
                    reason="what is trained is an assistant's reply to something",
                    remedy="end conversations with the assistant's message, or leave the row out",
                )
            return last["content"], before
        names = (source.text, source.prompt or "")
        return reply_and_prompt(said[0], said[1] if source.prompt else "", names, key)

    def _shown(self, asked: str | list[dict[str, str]]) -> str | list[dict[str, str]]:
        """What a text replies to as the template shows it."""
        template = self.source.template
        if template is None or not asked:
            return asked
        if self.source.messages is None:
            return template.ask(asked)
        assert isinstance(asked, list)
        if template.system is None or asked[0]["role"] == "system":
            return asked
        return [{"role": "system", "content": template.system}, *asked]


def _as_read(text: str, asked: str | list[dict[str, str]]) -> Document:
    prompt, turns = prompt_and_turns(asked)
    return Document(text, prompt, turns=turns)
