"""A server's chat completion -> a reply. Servers differ in names, shapes and numbers.

content         text, or parts: those of text are joined, those of thinking and of other things left out
finish reason   by what its words say: stop, length, looped, refused, or an error of the server; where they say
                nothing, stop if there is a text; of what looped the first copy is kept
usage           whole numbers that a model could have read and written; others count as not given
error           the status that it names, whatever the status of the response was, and under whatever key it stands
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from ixt_rl.judging.backend import Finish, Reply, counted
from ixt_rl.judging.rubric import well_formed
from ixt_rl.redaction import without_secrets
from ixt_rl.rollout.loops import text_before_repeats

_FINISHES: tuple[tuple[Finish | Literal["error"], str], ...] = (
    ("looped", r"repetiti|\bloop"),
    (
        "refused",
        r"filter|safety|refus|recitation|block|prohibit|spii|guardrail|moderat|sensitive|policy|flag|toxic"
        r"|tool|function",
    ),
    ("error", r"error|fail|abort|cancel|timeout|overload|unavailable|resource|malformed"),
    ("length", r"length|max|limit|trunc|incomplete|budget|window"),
    ("stop", r"^$|stop|\beos|\beot|\bend|complete|finish|done|normal|null|none"),
)
_THINKING_PARTS = re.compile(r"think|reason|thought")
_STATUSES = (
    (429, r"rate|too.?many|throttl|exhausted"),
    (503, r"overload|unavailable|capacity|busy"),
    (504, r"timeout|timed.?out|deadline"),
    (401, r"authenticat|invalid_api_key|unauthori[sz]ed"),
    (403, r"permission|forbidden|moderation|flagged"),
    (404, r"not_found|no such model"),
    (400, r"invalid_request|bad.?request|invalid_argument|unsupported"),
)


class NotACompletion(Exception):
    """A response that says nothing, as half of one does, or a proxy's page; another attempt may."""


class ReplyTooLarge(Exception):
    """A response beyond the limit; the rest of it is not read."""


class ServerError(Exception):
    """An error in place of an answer.

    Args:
        status: the HTTP status that it stands for.
        message: what the server says.
        body: the error, as far as it is a JSON object.
        retry_after: seconds that the server asks to wait.
    """

    def __init__(self, status: int, message: str, body: Mapping[str, Any], retry_after: float = 0.0):
        super().__init__(message)
        self.status, self.body, self.retry_after = status, body, retry_after


def read_completion(data: bytes) -> tuple[Reply, bool]:
    """(reply, whether both of its token counts were given) of a response's body.

    Secrets of this process that the server wrote into the text are taken out of it.

    Raises:
        NotACompletion: no JSON object with a choice.
        ServerError: an error object.
    """
    try:
        completion = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotACompletion(f"{type(error).__name__}: {data[:80]!r}") from None
    if not isinstance(completion, dict):
        raise NotACompletion(f"JSON, but {type(completion).__name__}, not an object")
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if wrong := completion.get("error") or (choice is None and _error_of(completion)):
        raise server_error(wrong)
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise NotACompletion("there is no choice with a message")
    if wrong := choice.get("error"):
        raise server_error(wrong)
    message = choice["message"]
    text, refusal = _text(message.get("content"))
    refusal = refusal or (message["refusal"] if isinstance(message.get("refusal"), str) else "")
    said = choice.get("finish_reason")
    finish: Finish = "refused" if refusal and not text else _finish(said, text)
    problem = refusal or f"finish reason {said!r}"
    if finish == "looped":
        text = text_before_repeats(text)
    prompt, completed, complete = _usage(completion.get("usage"))
    reply = Reply(
        text=without_secrets(well_formed(text)),
        finish=finish,
        prompt_tokens=prompt,
        completion_tokens=completed,
        error=problem if finish in ("refused", "looped") else "",
    )
    return reply, complete


def _error_of(body: Mapping[str, Any]) -> Any:
    """What stands in place of an answer: `{"object": "error", ...}`, `{"detail": ...}`, `{"errors": [...]}`."""
    if body.get("object") == "error" or isinstance(body.get("message"), str):
        return body
    return body.get("detail") or body.get("errors")


def server_error(error: Any, status: int = 500) -> ServerError:
    """The error that a body holds: its own status if it names one, by number or by name, else `status`."""
    if isinstance(error, list) and error:
        error = error[0]
    body = error if isinstance(error, dict) else {}
    message = body.get("message", error)
    for named in (body.get("code"), body.get("status")):
        if isinstance(named, int | float | str) and (found := re.fullmatch(r"([45]\d\d)(?:\.0)?", str(named))):
            return ServerError(int(found[1]), str(message), body)
    names = " ".join(str(body.get(key, "")) for key in ("code", "type", "status")) if body else str(error)
    status = next((status for status, pattern in _STATUSES if re.search(pattern, names.lower())), status)
    return ServerError(status, str(message), body)


def _text(content: Any) -> tuple[str, str]:
    """(what the judge says, why it refuses) of a message's content."""
    if content is None or isinstance(content, str):
        return content or "", ""
    texts: list[str] = []
    refusals: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        kind = str(part.get("type", "text")).lower() if isinstance(part, dict) else "text"
        words = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
        if _THINKING_PARTS.search(kind) or (isinstance(part, dict) and part.get("thought") is True):
            continue
        if isinstance(words, dict):
            words = words.get("value")
        if isinstance(words, str):
            (refusals if "refus" in kind else texts).append(words)
        elif not isinstance(part, dict | None):
            raise NotACompletion(f"content is {type(content).__name__} without text")
    return "".join(texts), "".join(refusals)


def _finish(said: Any, text: str) -> Finish:
    if isinstance(said, dict):  # SGLang's own: {"type": "stop", "matched": 2}
        said = said.get("type")
    words = "" if said is None else str(said).lower()
    for finish, pattern in _FINISHES:
        if re.search(pattern, words):
            if finish == "error":
                raise ServerError(500, f"finish reason {said!r}", {})
            return finish
    return "stop" if text else "refused"


def _usage(usage: Any) -> tuple[int, int, bool]:
    given = usage if isinstance(usage, dict) else {}
    prompt, completion = counted(given.get("prompt_tokens")), counted(given.get("completion_tokens"))
    return prompt or 0, completion or 0, prompt is not None and completion is not None
