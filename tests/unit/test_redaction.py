"""Secrets are found however a server or a library writes them; other text stays as it is."""

from __future__ import annotations

import base64
import html
import json
import random
import string
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest

from ixt_rl import redaction
from ixt_rl.errors import ConfigError
from ixt_rl.redaction import HIDDEN, keep_secret, redacted, without_secrets

KEYS = ["sk-abc/DEF+123=", "p&ss<w>ord'9\"", "naïve-ключ-1", "plainkeyplainkey", "0123456789"]


@pytest.fixture(params=KEYS)
def key(request, monkeypatch):
    monkeypatch.setattr(redaction, "_kept", set())
    keep_secret(request.param)
    return request.param


def written(key: str) -> list[str]:
    forms = [key, quote(key), quote(key, safe=""), quote_plus(key), quote(quote(key)), html.escape(key)]
    forms += [json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1], json.dumps(json.dumps(key))[3:-3]]
    forms += [key.encode().hex(), "".join(f"%{byte:02x}" for byte in key.encode()), key.replace("/", "\\/")]
    for user in ("", ":", "user:", "me:", "a-longer-name:"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            basic = encode((user + key).encode()).decode()
            forms += [basic, basic.rstrip("="), quote(basic, safe=""), json.dumps(basic).strip('"').replace("/", "\\/")]
    return forms


def test_every_form_of_a_key_is_hidden(key):
    for form in written(key):
        for text in (f"before {form} after", f"Basic {form}", f'{{"key": "{form}"}}', f"{form},{form}"):
            assert without_secrets(text) == text.replace(form, HIDDEN), form


def test_other_text_stays(key):
    rng = random.Random(0)
    alphabet = string.printable + "éß漢"
    for _ in range(300):
        text = "".join(rng.choices(alphabet, k=80))
        assert without_secrets(text) == text
    for text in (
        "see http://user:word@host/",
        "Authorization: Bearer of news",
        key[: len(key) // 2],
        key[:2] + key[3:],
    ):
        assert without_secrets(text) == text


def test_keys_of_the_environment_are_hidden(monkeypatch):
    for name in ("SOME_API_KEY", "HF_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "CLIENT_SECRET"):
        monkeypatch.setenv(name, f"value-of-{name}")
        assert without_secrets(f"x value-of-{name} x") == f"x {HIDDEN} x"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    monkeypatch.setenv("OTHER_TOKEN", "short")
    assert without_secrets("falsefalse short") == "falsefalse short"


def test_placeholders_are_no_secrets(monkeypatch):
    monkeypatch.setattr(redaction, "_kept", set())
    for word in ("none", "EMPTY", "x", ""):
        keep_secret(word)
    assert without_secrets("none of it is EMPTY, x") == "none of it is EMPTY, x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:word@host/v1", f"http://{HIDDEN}@host/v1"),
        ("https://token@host/v1 and https://host/@me", f"https://{HIDDEN}@host/v1 and https://host/@me"),
        ("ftp://u:p@ss@host", f"ftp://{HIDDEN}@host"),
        ("Authorization: Bearer abc.def", f"Authorization: {HIDDEN}"),
        ("'Authorization': 'Basic dTpw'", f"'Authorization': '{HIDDEN}'"),
        ('{"x-api-key": "abc"}', f'{{"x-api-key": "{HIDDEN}"}}'),
        ("mail me@host, not me", "mail me@host, not me"),
        ("export OPENAI_API_KEY=..., or else", "export OPENAI_API_KEY=..., or else"),
    ],
)
def test_messages_show_no_passwords(text, shown):
    assert redacted(text) == shown
    error = ConfigError(text, reason=text, remedy=text)
    assert str(error) == f"{shown}\n  reason: {shown}\n  remedy: {shown}" and error.what == shown


def test_long_runs_of_what_escapes_are_read_in_one_pass():
    """In a process of its own: a pattern that goes back and forth over such a text cannot be interrupted."""
    script = (
        "from ixt_rl.redaction import keep_secret, redacted\n"
        "for key in ('5e7470ee5396ed881d0723bb', 'p' + chr(92) * 4 + '%25+/& #', chr(92) * 9 + '1', '&#0%%25'):\n"
        "    keep_secret(key)\n"
        "runs = (chr(92), '%25', '%', '&#0', '0', chr(92) + 'u0035', '+', ' ', 'AAAA', '5e7470ee', '://', '@')\n"
        "for run in runs:\n"
        "    text = run * (20_000 // len(run))\n"
        "    assert redacted(text) == text, run\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_backslashes_of_a_key_are_found_however_deep(monkeypatch):
    monkeypatch.setattr(redaction, "_kept", set())
    key = "a" + "\\" * 3 + "b" + "\\" + "c12"
    keep_secret(key)
    form = key
    for _ in range(4):  # JSON in JSON, and so on
        assert without_secrets(f"<{form}>") == f"<{HIDDEN}>"
        form = json.dumps(form)[1:-1]
