"""What stands in a field of a row: found by a dotted name, kept in its type, or refused with what to do.

prompt = [{"role": "user", ...}]   -> messages            answer = ["5"]       -> "5"
prompt = "2+2?"                    -> text                answer = ["5", "V"]  -> ["5", "V"], each one right
answer = 10000000000000000000001   -> its digits          answer = 1e16, 0.1   -> "10000000000000000", "0.1"
"""

from __future__ import annotations

import datetime
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from ixt_rl.errors import DataError

Messages = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
_CONTENT = ("content", "value")
_SHAREGPT = {"human": "user", "gpt": "assistant"}
MISSING = object()
"""Stands for a field that a row does not have."""
_LARGEST = 400  # digits before or after the point that a number is written out with


class Written(Decimal):
    """A number with a point or an exponent as JSON writes it: 0.1, 1e16 and 3.0 keep their digits."""


def find(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field, or `MISSING`. `a.b` is the entry b of the field a, if no field is called `a.b`.

    Where a is null, so is `a.b`.
    """
    if name in row:
        return row[name]
    value: Any = row
    for number, part in enumerate(name.split(".")):
        if value is None and number:
            return None  # of nothing there is no entry
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def columns_for(names: Iterable[str]) -> list[str]:
    """The columns to read for fields: each by its name and, where that has a point, what may hold it; each once."""
    return list(dict.fromkeys(column for name in names for column in (name, name.partition(".")[0])))


def is_null(value: Any) -> bool:
    """Whether it is null or NaN, as which tables write what is missing in a column of numbers."""
    return value is None or (isinstance(value, float | Decimal) and value != value)


def is_missing(value: Any) -> bool:
    """Whether there is nothing: no such field, null, NaN, blank text, an empty object, a list of nothing else.

    Of messages the last one counts, which is the question or the reply.
    """
    if value is MISSING or is_null(value):
        return True
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        said, known = _content(value[-1]), not value[-1].keys().isdisjoint(_CONTENT)
        return (
            known and not value[-1].get("tool_calls") and (said is None or (isinstance(said, str) and is_missing(said)))
        )
    if isinstance(value, list):
        return all(map(is_missing, value))
    return isinstance(value, dict) and not value


def plain(value: Any) -> Any:
    """A value as Python's `json` would give it."""
    if isinstance(value, Written):
        return float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def as_text(value: Any, place: str) -> str:
    """One value as the text that it is written as; `place` names row and field.

    Raises:
        DataError: it is no text, number or date.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _refused(place, value, "it holds half a surrogate pair, which is no text", "correct it") from None
        return value
    if isinstance(value, bool):
        raise _refused(place, value, "it is true or false, not text", "write the word that is meant, as text")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float | Decimal):
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not exact.is_finite() or abs(exact.adjusted()) > _LARGEST:
            raise _refused(place, value, "it is not finite, or of too many digits", "give it as text")
        return format(exact, "f")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    if isinstance(value, bytes):
        raise _refused(
            place,
            value,
            "it is binary, not text",
            "write the column as strings, in Arrow: column.cast(pyarrow.string())",
        )
    if isinstance(value, Mapping):
        name = place.rpartition(": ")[2]
        inner = ", ".join(f"{name}.{key}" for key in value)
        raise _refused(place, value, "it is an object, not text", f"name one of its entries: {inner}")
    raise _refused(place, value, f"it is of type {type(value).__name__}, not text", "name another field")


def as_question(value: Any, place: str) -> str | Messages:
    """Text, or messages that end with a user's.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], Mapping):
        return as_question(value[0], place)
    if not isinstance(value, list):
        return as_text(value, place)
    messages = as_messages(value, place)
    if messages[-1]["role"] != "user":
        raise _refused(
            place, value, f"its last message is of role {messages[-1]['role']}", "end with what the user asks"
        )
    return messages


def as_messages(value: Any, place: str) -> Messages:
    """A conversation of system, user and assistant: at least one message, each with text.

    A message is {"role", "content"}, or {"from", "value"} with `human` and `gpt` for user and assistant (ShareGPT).

    Raises:
        DataError: something in it is none, or of another role.
    """
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value) or not value:
        raise _refused(place, value, "it is no list of messages", 'write [{"role": "user", "content": "..."}]')
    return [_message(item, f"{place}[{number}]") for number, item in enumerate(value)]


def _message(message: Mapping[str, Any], place: str) -> dict[str, str]:
    role, content = message.get("role", message.get("from")), _content(message)
    role = _SHAREGPT.get(role, role) if isinstance(role, str) else role
    if role not in ROLES or message.get("tool_calls"):
        what = "it calls tools" if role in ROLES else f"its role is {role!r}"
        raise _refused(place, message, what, f"roles are {', '.join(ROLES)}; leave rows with tools out")
    if not isinstance(content, str):
        raise _refused(place, message, "its content is no text", "give every message a text, and leave images out")
    return {"role": role, "content": as_text(content, place)}


def _content(message: Mapping[str, Any]) -> Any:
    """What a message says; of parts their text, where every part is text."""
    content = next((message[name] for name in _CONTENT if message.get(name) is not None), None)
    if isinstance(content, list):
        parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(parts) if all(isinstance(part, str) for part in parts) else content or None
    return content


def as_golds(value: Any, place: str) -> str | list[str]:
    """A gold answer as text, or several, each of which is right; a list of one is that one.

    Raises:
        DataError: it is no text, number or date, nor a list of such.
    """
    if not isinstance(value, list):
        return as_text(value, place)
    if any(map(is_missing, value)):
        raise _refused(place, value, "one of its answers is blank or null", "leave that one out")
    golds = [as_text(item, place) for item in value]
    return golds[0] if len(golds) == 1 else golds


def question_text(question: str | Messages) -> str:
    """A question to be read: of messages what they say, beginning with the role where there are several."""
    if isinstance(question, str):
        return question
    if len(question) == 1:
        return question[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in question)


def as_reply(value: list[Any], prompt: str | Messages, place: str) -> tuple[str, str | Messages]:
    """(text, what it replies to) of a completion in messages: the assistant's, alone or behind a prompt.

    Args:
        prompt: as its own field has it; `value` itself where it has none.
    """
    *before, reply = as_messages(value, place)
    roles = ", ".join(message["role"] for message in [*before, reply])
    if reply["role"] != "assistant" or (prompt is value and not before):
        raise DataError(
            f"{place} of roles {roles}",
            reason="the reply to a prompt is the assistant's message, the last one",
            remedy="end it with what the assistant says, behind what it replies to or with `prompt` naming that",
        )
    if before and prompt is not value and not _repeats(before, prompt):
        raise DataError(
            f"{place} of roles {roles}",
            reason="what stands before its last message is another prompt than the row's own",
            remedy="give the reply alone, or set `prompt` to null where pairs hold whole conversations",
        )
    return reply["content"], as_question(before, place) if before else prompt


def _repeats(before: Messages, prompt: str | Messages) -> bool:
    asked = before[1:] if before[0]["role"] == "system" and not _begins_with_system(prompt) else before
    return asked == prompt if isinstance(prompt, list) else len(asked) == 1 and asked[0]["content"] == prompt


def _begins_with_system(prompt: str | Messages) -> bool:
    return isinstance(prompt, list) and prompt[0]["role"] == "system"


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that fields of rows can be called by, entries of objects with dots, in order of appearance."""
    found: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            found[name] = None
            if isinstance(value, Mapping):
                found.update(dict.fromkeys(f"{name}.{entry}" for entry in value))
    return list(found)


def _refused(place: str, value: Any, reason: str, remedy: str) -> DataError:
    return DataError(f"{place}={reprlib.repr(value)}", reason=reason, remedy=remedy)


def reply_and_prompt(text: Any, prompt: Any, names: Sequence[str], key: str) -> tuple[str, str | Messages]:
    """(text, what it replies to) of a row, the latter as text or messages.

    Args:
        names: of both columns; one name twice: of a conversation, which ends with the reply.
        key: of the row, for messages.

    Raises:
        DataError: one of them is no text.
    """
    if isinstance(prompt, list) and prompt is not text:
        prompt = as_question(prompt, f"{key}: {names[1]}")
    if isinstance(text, list) and text and isinstance(text[0], Mapping):
        text, prompt = as_reply(text, prompt, f"{key}: {names[0]}")
    elif names[0] == names[1]:
        raise _refused(
            f"{key}: {names[0]}", text, "it is no conversation", "name the field of what it replies to, `prompt`"
        )
    for name, value in zip(names, (text, prompt), strict=True):
        if not isinstance(value, str) and not (value is prompt and isinstance(value, list)):
            raise DataError(
                f"{key}: {name}={reprlib.repr(value)}",
                reason=f"it is of type {type(value).__name__}, not text",
                remedy="remove the row, or write its text as a string",
            )
        if isinstance(value, str) and not value.isascii():
            value.encode()  # half a surrogate pair is no text
    return text, prompt


def prompt_and_turns(asked: str | Sequence[Mapping[str, str]]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """`prompt` and `turns` of a document that replies to a text, or to messages."""
    return (asked, ()) if isinstance(asked, str) else ("", as_turns(asked))


def as_turns(messages: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Messages as the `turns` of a document."""
    return tuple((message["role"], message["content"]) for message in messages)
