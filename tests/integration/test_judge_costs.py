"""What judges of runs cost, and what they must not give away: runs whose judges are a small server."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.errors import RewardError
from ixt_rl.run import run_config
from tests.integration.run_helpers import config, online, rows, sip
from tests.unit.judging.server import completion, serve

TOKENS = 120  # of each request, as the server says
KEY = "sk-Key/of+Test=&0123456789"


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    """Drawing takes most of a small run's time, and is tested elsewhere; tests of files that are written keep it."""
    if "file" not in request.node.name:
        monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder / "report.html")


def judged(base_url: str, **changes: Any) -> dict[str, Any]:
    options = {"base_url": base_url, "retries": 0}
    reward = {"type": "judge", "judge": "openai:judge-1", "rubric": "verifier", "options": options, **changes}
    return online(
        "judged", type="grpo", init="model", steps=2, rollouts_per_step=8, group_size=4, rewards=[reward],
        evaluation={"every": 2, "problems": 4},
    )  # fmt: skip


def result(folder: Path, stage: str) -> dict[str, Any]:
    (found,) = [each for each in json.loads((folder / "summary.json").read_text())["stages"] if each["name"] == stage]
    return found


def verdict(body: dict[str, Any], number: int) -> str:
    return json.dumps({"reason": "", "verdict": "right" if number % 2 else "wrong"})


@pytest.mark.parametrize("parameters", [70_000, None])
def test_judges_of_rewards_are_in_the_ledger_by_their_own_size(parameters, tmp_path):
    size = {} if parameters is None else {"judge_parameters": parameters}
    with serve(verdict) as served:
        folder = run_config(config(tmp_path, [judged(served.base_url, **size)]))
    last = [row for row in rows(folder) if row["phase"] == "train"][-1]
    spent = TOKENS * len(served.bodies)
    assert last["flops/annotate"] == 2 * (parameters or 0) * spent
    assert last["flops"] == pytest.approx(sum(last[f"flops/{p}"] for p in ("rollout", "train", "score", "annotate")))
    notes = " ".join(result(folder, "judged")["notes"])
    assert ("uncounted" in notes) == (parameters is None)
    assert parameters is not None or f"{spent:,} tokens" in notes


def test_judge_and_rewriter_of_sip_are_charged_each_by_its_own_size(tmp_path):
    def respond(body: dict[str, Any], number: int) -> str:
        if "rewrite" in json.dumps(body["response_format"]):
            return json.dumps({"rewrite": "COPY"})
        return json.dumps({"reason": "", "verdict": "A"})

    with serve(respond) as served:
        asked = {"model": "openai:judge-1", "options": {"base_url": served.base_url}}
        stage = sip("sip", steps=2, rewriter=asked, judge=asked, evaluation=None, judge_parameters=5000)
        folder = run_config(config(tmp_path, [{**stage, "rewriter_parameters": 300}]))
        rewrites = sum("rewrite" in json.dumps(body["response_format"]) for body in served.bodies)
        last = [row for row in rows(folder) if row["phase"] == "train"][-1]
        comparisons = len(served.bodies) - rewrites
        assert rewrites and comparisons
        assert last["flops/annotate"] == 2 * TOKENS * (300 * rewrites + 5000 * comparisons)
        unknown = run_config(config(tmp_path, [stage], name="unknown"))  # the rewriter's size is not the judge's
    last = [row for row in rows(unknown) if row["phase"] == "train"][-1]
    assert last["flops/annotate"] == 2 * TOKENS * 5000 * comparisons
    assert "uncounted" in " ".join(result(unknown, "sip")["notes"])


# ----------------------------------------------------------------------------------------- secrets


def forms() -> list[str]:
    found = [KEY, quote(KEY, safe=""), html.escape(KEY), json.dumps(KEY)[1:-1].replace("/", "\\/"), KEY.encode().hex()]
    for user in ("", "user:", "api-key:"):
        found += [
            base64.b64encode((user + KEY).encode()).decode(),
            base64.urlsafe_b64encode((user + KEY).encode()).decode(),
        ]
    return found


SAID = " and ".join([*forms(), f"Authorization: Bearer {KEY}", f"https://user:{quote(KEY, safe='')}@host/v1"])


def telling(body: dict[str, Any], number: int) -> Any:
    """Repeats the key in whatever it says; in the end it refuses it."""
    headers = {"X-Key": KEY, "WWW-Authenticate": f"Basic {forms()[-2]}"}
    answers = [
        (200, completion(json.dumps({"reason": SAID, "critique": SAID, "verdict": "right", "overall": 4})), headers),
        (200, completion(SAID, "content_filter", refusal=SAID), headers),
        (200, {"error": {"message": SAID, "code": 400}}, headers),
        (500, SAID.encode(), headers),
        (400, {"error": {"message": SAID}}, headers),
        (200, f"<html>{SAID}</html>".encode(), headers),
        (400, {"error": {"message": f"temperature is not supported: {SAID}", "param": "temperature"}}, headers),
    ]
    return answers[number % len(answers)] if number < 14 else (401, {"error": {"message": SAID}}, headers)


def leaks(folder: Path, printed: str = "") -> list[tuple[str, str]]:
    """(where, which form of the key) over all files below a folder, what SQLite holds, and what was printed."""
    texts = {"printed": printed.encode()}
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in (".safetensors",):
            texts[str(file)] = file.read_bytes()
    for file in folder.rglob("*.sqlite"):
        with sqlite3.connect(file) as connection:
            texts[f"rows of {file}"] = "\n".join(
                row[0] for row in connection.execute("SELECT reply FROM replies")
            ).encode()
    wanted = {form.encode() for form in (*forms(), KEY[:12])}
    return [(where, form.decode()) for where, text in texts.items() for form in wanted if form in text]


def test_no_file_of_a_run_holds_the_key_that_a_server_repeats(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(telling) as served:
        stage = {**judged(served.base_url), "reward_errors": {"max_share": 0.0}}
        with pytest.raises(RewardError) as failed:
            run_config(config(tmp_path, [stage]))
    assert served.headers[0]["authorization"] == f"Bearer {KEY}"
    out = capfd.readouterr()
    assert leaks(tmp_path / "runs", str(failed.value) + out.out + out.err) == []
    folder = tmp_path / "runs" / "run"
    assert (folder / "stages" / "judged" / "seed1" / "reward_failures.jsonl").is_file()
    for name in ("reward_failures.jsonl", "../../../summary.json", "../../../report.html"):
        assert "[hidden]" in (folder / "stages" / "judged" / "seed1" / name).read_text()


def test_no_file_of_an_annotation_holds_the_key_that_a_server_repeats(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"document {number}"}) + "\n" for number in range(40)))
    with serve(telling) as served:
        words = [
            "annotate",
            str(corpus),
            str(tmp_path / "out"),
            "--judge",
            "openai:judge-1",
            "--base-url",
            served.base_url,
        ]
        words += ["--rubric", "web-text", "--judge-option", "retries=0", "--judge-option", "concurrency=1"]
        done = CliRunner().invoke(main, words)
    assert done.exit_code != 0 and "401" in done.output and "[hidden]" in done.output
    assert leaks(tmp_path, done.output + str(done.exception)) == []


def test_a_password_in_an_address_is_refused_before_anything_is_written(tmp_path):
    from ixt_rl.config.problems import InvalidConfig

    address = f"http://user:{quote(KEY, safe='')}@127.0.0.1:9/v1"
    for options in ({"base_url": address}, {"extra_body": {"api_key": KEY}}):
        with pytest.raises(InvalidConfig) as failed:
            config(tmp_path, [{**judged("http://127.0.0.1:9/v1"), "rewards": [{
                "type": "judge", "judge": "openai:judge-1", "rubric": "verifier", "options": options}]}])  # fmt: skip
        assert "export OPENAI_API_KEY" in str(failed.value)
        assert leaks(tmp_path / "runs", str(failed.value)) == []
