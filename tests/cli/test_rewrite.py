"""`ixt-rl rewrite` as a user types it, and as docs/rewriting.md says it can be pasted."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.cli.shell import BAD_INPUT
from tests.unit.annotation.helpers import read_rows, write_lines
from tests.unit.annotation.rewriting import SUFFIX, passages, policy_folder, rewriter_file

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "rewriting.md"


@pytest.fixture
def words(tmp_path):
    """A command that works."""
    file = write_lines(tmp_path / "corpus.jsonl", passages(30))
    policy = policy_folder(tmp_path)
    return ["rewrite", file, tmp_path / "out", "--rewriter", f"python:{rewriter_file(tmp_path)}:mend", "--prompt",
            "quality", "--tokenizer", policy, "--suffix-tokens", SUFFIX]  # fmt: skip


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_it_rewrites_and_says_what_came_out(words, tmp_path):
    done = run(*words, "--shard-rows", 8)
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "out")
    names = ("copied", "rewritten", "undecided", "skipped")
    counts = [sum(row["rewrite_status"] == name for row in rows) for name in names]
    assert sum(counts) == 30 and min(counts[:3]) > 0
    assert ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True)) in done.stdout
    assert "rewriting.html" in done.stdout and "starting the rewriter" in done.stderr
    again = run(*words, "--shard-rows", 8)
    assert again.exit_code == 0 and "starting the rewriter" not in again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--prompt", "qualty"], "did you mean `quality`"),
        (["--rewriter", "gpt:4"], "rewriter 'gpt:4'"),
        (["--rewriter", "hf:none"], "no folder with a config.json"),
        (["--tokenizer", "none"], "tokenizer 'none'"),
        (["--suffix-tokens", "400"], "none of the first 30 documents can be cut"),
        (["--rewriter-option", "concurrency=3"], "rewriter option 'concurrency'"),
        (["--field", "promt=text"], "did you mean `prompt`"),
        (["--prompt", "thoughts"], "--tokenizer with --prompt thoughts"),
        (["--temperature", "-1"], "temperature=-1.0"),
    ],
)
def test_what_cannot_work_is_refused_by_name(words, change, said):
    done = run(*words, *change)
    assert done.exit_code == BAD_INPUT
    assert said in done.stderr and "remedy" in done.stderr
    assert "Traceback" not in done.output


def test_the_tokenizer_is_asked_for_where_something_is_cut(words):
    done = run(*words[:-4])
    assert done.exit_code == BAD_INPUT and "--prompt quality without --tokenizer" in done.stderr
    done = run(*words[:-2])
    assert done.exit_code == BAD_INPUT and "--prompt quality without --suffix-tokens" in done.stderr


def test_thoughts_need_no_tokenizer(words, tmp_path):
    rewriter_file(tmp_path, 'def mend(prefix, chunk):\n    return "<note> I see </note> " + chunk\n')
    done = run(*words[:-6], "--prompt", "thoughts")
    assert done.exit_code == 0 and "0 copied, 30 annotated, 0 undecided, 0 skipped" in done.stdout, done.output
    assert all(row["thoughts"] == f"<think> I see </think> {row['text']}" for row in read_rows(tmp_path / "out"))


def test_help_has_examples_of_rewriters_and_says_what_is_written():
    text = " ".join(run("rewrite", "--help").stdout.split())
    for word in ("--rewriter vllm:", "--rewriter openai:", "--rewriter python:", "--prompt thoughts", "prefix_ids"):
        assert word in text


def test_the_commands_of_the_page_work_when_pasted(tmp_path, monkeypatch):
    """Every bash block in an empty folder, its own commands in this process; what the page shows is what came out."""
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ").splitlines(keepends=True)
    ours = [shlex.split(line) for line in lines if line.startswith(".venv/bin/")]
    files = "".join(line for line in lines if not line.startswith(".venv/bin/"))
    subprocess.run(["bash", "-ec", files], check=True, timeout=60)
    said = ""
    for program, *words in ours:
        if program == ".venv/bin/python":
            exec(words[1], {})
            continue
        done = run(*words)
        assert done.exit_code == 0, done.output
        said += done.stdout
    shown = [block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "report: " in block]
    assert len(shown) == 2 and said == "".join(shown)
