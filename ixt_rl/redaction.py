"""Keys and passwords leave this process in no message, row, cache or page: two functions take them out of texts.

A secret is what stands in an environment variable that is named like one (`OPENAI_API_KEY`, `HF_TOKEN`,
`DB_PASSWORD`), and what `keep_secret` was given. It is found as it is, escaped as in JSON, HTML or a URL, in
hexadecimal, and within base64, whatever stands before and after it there (`Basic` authorization, for instance).
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from functools import lru_cache

HIDDEN = "[hidden]"

_NAMED_SECRET = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_KEY|SECRET_KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_LEAST = 8  # characters; shorter values of the environment are hardly secrets, and would be found in any text
_USERINFO = re.compile(r"(?<=://)[^\s/?#@\"'<>]*(?:@[^\s/?#@\"'<>]*)*(?=@)")
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization|\b(?:x-)?api[-_]?key)(?P<is>[\"']?\s*[:=]\s*[\"']?)"
    r"(?:(?:bearer|basic|token)\s+)?[^\s\"',;<>]+",
    re.IGNORECASE,
)
_kept: set[str] = set()


def keep_secret(value: str) -> None:
    """Names a secret. Words of letters alone, `none` or `EMPTY`, stand in for a key and are none."""
    if len(value) >= _LEAST or (len(value) >= 4 and not value.isalpha()):
        _kept.add(value)


def without_secrets(text: str) -> str:
    """`text`, with every secret replaced by `[hidden]`; nothing else changes. For texts that others wrote."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        plain, cores = _patterns(secret)
        text = plain.sub(HIDDEN, text)
        for core in cores:
            text = _without_base64(text, core)
    return text


def redacted(text: str) -> str:
    """As `without_secrets`, and without the user's part of URLs and what authorizes in HTTP headers. For messages."""
    text = without_secrets(text)
    return _HEADER.sub(rf"\g<name>\g<is>{HIDDEN}", _USERINFO.sub(HIDDEN, text))


def _secrets() -> set[str]:
    named = {value for name, value in os.environ.items() if _NAMED_SECRET.search(name)}
    return _kept | {value for value in named if len(value) >= _LEAST and not re.search(r"\s", value)}


@lru_cache(maxsize=64)
def _patterns(secret: str) -> tuple[re.Pattern[str], tuple[re.Pattern[str], ...]]:
    """(the secret in plain or escaped, what of it stands in base64 at each of the three alignments)."""
    data = secret.encode("utf-8", "surrogatepass")
    plain = re.compile(f"{_escaped(secret)}|{re.escape(data.hex())}", re.IGNORECASE)
    cores = []
    for before in range(3):
        encoded = b64encode(b"\0" * before + data).decode().rstrip("=")
        start, end = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6  # characters that hold bits of it alone
        cores.append(re.compile(_escaped(encoded[start:end])))
    return plain, tuple(cores)


def _escaped(text: str) -> str:
    """A pattern of `text`, each character of it as itself or as JSON, HTML or a URL may write it.

    What repeats has a bound (five levels of JSON in JSON, eight of a URL in a URL): without one, a long run of
    backslashes in someone's text takes time that grows with its square, or worse.
    """
    return "".join(_backslashes(len(run)) if run[0] == "\\" else "".join(map(_character, run)) for run in _runs(text))


def _runs(text: str) -> list[str]:
    """`text` cut into runs of backslashes and what is between them."""
    return re.findall(r"\\+|[^\\]+", text)


def _backslashes(count: int) -> str:
    """A pattern of a run of backslashes, as a whole: one by one, each could begin with any of them."""
    escaped = r"%(?:25){0,8}5c|\\{1,32}u005c|&#(?:0{0,8}92|x0{0,8}5c);"
    return rf"(?:\\{{{count},{32 * count}}}|(?i:(?:{escaped}){{{count}}}))"


def _character(character: str) -> str:
    forms = [re.escape(character)]
    url = "".join(f"%(?:25){{0,8}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    forms.append(f"(?i:{url})")
    if not character.isalnum():
        forms.append(rf"\\{{1,32}}{re.escape(character)}")
    code = ord(character)
    forms += [rf"(?i:\\{{1,32}}u{code:04x})", f"(?i:&#(?:0{{0,8}}{code}|x0{{0,8}}{code:x});)"]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", " ": r"\+"}
    if character in named:
        forms.append(named[character])
    if character == "+":
        forms += [" ", "-"]  # a form's, and base64's in URLs
    if character == "/":
        forms.append("_")
    return f"(?:{'|'.join(forms)})"


def _without_base64(text: str, core: re.Pattern[str]) -> str:
    """`text` without the words of base64 that hold `core`."""
    parts: list[str] = []
    position = 0
    while found := core.search(text, position):
        start, end = found.span()
        while start > position and (text[start - 1].isalnum() or text[start - 1] in "+/_-%"):
            start -= 1
        while end < len(text) and (text[end].isalnum() or text[end] in "+/_-=%"):
            end += 1
        parts += [text[position:start], HIDDEN]
        position = end
    return "".join([*parts, text[position:]])
