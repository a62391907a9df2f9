"""What a server does not take: the fields of a request that it refuses are left out from then on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ixt_rl.redaction import redacted

_REFUSED = re.compile(
    r"unsupported|not (?:be |been |currently |yet )?(?:support|allow|permit|accept|recogni[sz]|implement|compatible)"
    r"|n['’]t (?:be )?(?:support|allow|permit|accept)|unrecogni[sz]ed|unknown|unexpected|extra (?:input|field|param)"
    r"|not (?:applicable|configurable)|unavailable|neither\b.*\bnor|\bfixed\b|expected (?:null|none)"
    r"|additional propert|deprecated|\bunset\b|omit|instead|mutually exclusive|incompatible|no such",
    re.IGNORECASE,
)
_PERHAPS = re.compile(  # as much of a value as of a field
    r"can(?:not|['’]t| not) (?:both )?be (?:specified|used|set|given|combined|provided|sent|passed|present)"
    r"|\bonly\b|forbidden|invalid|not (?:valid|available)|must (?:not|be (?:null|none|removed|1\b|set to 1\b))|remove",
    re.IGNORECASE,
)
_OF_A_VALUE = re.compile(
    r"between|greater|less|more than|at (?:least|most)|range|too (?:large|small|high|low)|exceed|maximum|minimum|[<>]=",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context.{0,20}(?:length|window|size|limit|exceed|full)|maximum .{0,20}length|too long"
    r"|too many (?:input |prompt )?tokens|(?:prompt|input|message).{0,40}exceed"
    r"|exceed.{0,40}(?:prompt|input|message)|reduce the length",
    re.IGNORECASE,
)
_EITHER = re.compile(
    r"both|\bone of|only one|\beither|together|simultaneous|mutually|at the same time"
    r"|when .*\b(?:is|are) (?:also )?(?:set|specified|given|used|provided|present)",
    re.IGNORECASE,
)
_ALSO_CALLED = {"response_format": r"json[_ ]?(?:schema|mode)|structured[_ ]outputs?|guided|grammar"}
_KEPT = ("model", "messages", "stream")
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def too_long(message: str) -> bool:
    """Whether a refusal is about the length of what was asked: this request's own fault."""
    return bool(_TOO_LONG.search(message))


class Dialect:
    """Fields of requests that a server refused by name (400 or 422), and so does not get any more.

    `max_tokens` and `max_completion_tokens` stand in for each other where the server names the other. Of fields that
    only exclude each other (temperature and top_p), the first stays.

    Attributes:
        notes: what was left out and why, once for each field.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._left_out: set[str] = set()
        self._renamed: dict[str, str] = {}

    def spoken(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request as this server takes it; `body` is flat, with what goes to `extra_body` in it."""
        renamed = {self._renamed.get(name, name): value for name, value in body.items()}
        return {name: value for name, value in renamed.items() if name not in self._left_out}

    def learns(self, sent: Mapping[str, Any], message: str, error: Mapping[str, Any]) -> bool:
        """Whether a refusal names fields of `sent` that the server does not take, so that asking again makes sense.

        Args:
            sent: the request, as `spoken` gave it.
            message: the server's.
            error: its error object; `param` names the field at some servers.
        """
        if too_long(message) or not _of_a_field(f"{message} {error.get('code', '')}"):
            return False
        named = _named(sent, message, str(error.get("param") or ""))
        if not named:
            return False
        for name in named:
            other = _LIMITS.get(name, "")
            if other and re.search(rf"\b{other}\b", message) and other not in {*self._renamed, *sent}:
                self._note(self._renamed.setdefault(name, other) == other, f"{name} is sent as {other}", message)
            else:
                self._note(name not in self._left_out, f"{name} is left out", message)
                self._left_out.add(name)
        return True

    def _note(self, new: bool, what: str, message: str) -> None:
        note = f"{what}: the server said {' '.join(redacted(message).split())[:200]!r}"
        if new and note not in self.notes:
            self.notes.append(note)


def _of_a_field(message: str) -> bool:
    return bool(_REFUSED.search(message) or (_PERHAPS.search(message) and not _OF_A_VALUE.search(message)))


def _named(sent: Mapping[str, Any], message: str, param: str) -> list[str]:
    """The fields that a refusal is about."""
    fields = [name for name in sent if name not in _KEPT]
    of_param = [name for name in fields if re.match(rf"(?:body\.)?{re.escape(name)}\b", param)]
    if of_param:
        return of_param
    named = [name for name in fields if _mention(name).search(message)]
    if len(named) > 1 and _EITHER.search(message):
        return named[1:]
    return named


def _mention(name: str) -> re.Pattern[str]:
    words = re.escape(name).replace("_", "[-_ ]?")
    other = _ALSO_CALLED.get(name)
    return re.compile(rf"(?<!\w)(?<!(?<!body)\.){words}(?!\w)" + (rf"|\b(?:{other})" if other else ""), re.IGNORECASE)
