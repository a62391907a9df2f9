"""What README and docs say can be pasted: links resolve, commands are accepted, self-contained code runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from docs.site import api_pages, built_site, llms_txt
from docs.site import pages as site_pages
from ixt_rl.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES = sorted((ROOT / "docs" / "studies").glob("*.md"))  # bash expands their commands, and nothing else
SELF_CONTAINED = [ROOT / "docs" / name for name in ("conditioning.md", "data.md", "worlds.md")]

RUNS = "# runs as it stands\n"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def quick_commands() -> list[list[str]]:
    """`ixt-rl` commands that only check: the others train for minutes."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("ixt-rl") and words[1] in ("check", "run", "schema"):
                arguments = words[1:] if words[1] != "run" or "--dry-run" in words else [*words[1:], "--dry-run"]
                found.append(arguments)
    return found


@pytest.mark.parametrize("page", [*PAGES, *STUDIES], ids=lambda p: p.name)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_name_the_environment_that_has_the_library(page):
    """Pasted in a shell where nothing is activated, `ixt-rl` is not found and `python` has no ixt_rl."""
    bare = re.compile(r"^\s*(?:[A-Z_]+=\S+ )*(?:ixt-rl|python|pytest|torchrun) ", re.MULTILINE)
    commands = re.sub(r"<<'?(\w+)'?.*?^\s*\1$", "", "\n".join(blocks(page, "bash")), flags=re.DOTALL | re.MULTILINE)
    assert bare.findall(commands.replace("\\\n", " ")) == []


def test_commands_are_accepted(monkeypatch):
    """In this process: tests/cli/test_cli.py has commands in ones of their own."""
    monkeypatch.chdir(ROOT)
    commands = {tuple(c) for c in quick_commands() if not any("..." in word for word in c)}
    assert len(commands) >= 5
    for command in sorted(commands):
        done = CliRunner().invoke(main, command)
        if "no such file" not in done.output:  # commands on the reader's own files
            assert done.exit_code == 0, (command, done.output, done.exception)


@pytest.mark.parametrize("page", SELF_CONTAINED, ids=lambda p: p.name)
def test_self_contained_code_runs(page):
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})


def marked() -> list[tuple[str, str]]:
    """Blocks that say of themselves that they run, with their page."""
    return [(page.stem, code) for page in PAGES for code in blocks(page, "python") if code.startswith(RUNS)]


@pytest.mark.parametrize(("page", "code"), marked(), ids=[page for page, _ in marked()])
def test_code_that_says_so_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_all_python_code_parses(page):
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")


def test_pages_are_those_of_the_nav_and_links_lead_to_files_of_the_repository():
    """Raises for a page outside the nav, a package that is not there, a name whose module no face tells."""
    pages = site_pages.pages(ROOT)
    assert {f"{page.stem}.md" for page in PAGES[2:]} <= set(pages)
    assert 'members: ["GRPOConfig", "GRPOTrainer"]' in pages["api/trainers.md"]
    assert "](source/examples/intro_loop.py.md)" in pages["intro.md"]
    assert "import" in pages["source/examples/intro_loop.py.md"]


def test_llms_txt_has_a_line_for_every_page():
    text = llms_txt.written(ROOT)
    for page in llms_txt.pages_of(llms_txt.settings(ROOT)["nav"]):
        assert re.search(rf"^- \[.+\]\({re.escape(page)}\): \S", text, re.MULTILINE), page


def test_what_a_page_says_is_in_a_file_is_there():
    """Rows of tables `| [file](link) | names | ...`; a row without a file goes on with the one above it."""
    page, file, checked = ROOT / "docs" / "follow-one-update.md", ROOT, 0
    for link, names in re.findall(
        r"^\| (\[.*?\]\(.*?\)|) ?\| (`.*?`) \|", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        if link:
            file = page.parent / re.search(r"\((.*)\)", link)[1]
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(def|class) {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE), (file, name)
            checked += 1
    assert checked >= 15


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="gone.html">x</a>', "a.html links to gone.html, which is not there"),
        ('<a href="#gone">x</a>', "a.html links to #gone, which is not there"),
        ('<a href="../outside.html">x</a>', "a.html links to ../outside.html, which is not there"),
        ('<script src="https://cdn.example/x.js">', "a.html loads https://cdn.example/x.js: the site must work"),
        ('<img src="gone.png">', "a.html loads gone.png, which is not there"),
        ('<link rel="stylesheet" href="//fonts.example/x">', "a.html loads //fonts.example/x: the site must work"),
        ('<a href="a.html#here">x</a><p id="here"><a href="https://example.org">x</a>', None),
    ],
)
def test_what_is_wrong_with_a_built_page_is_said(tmp_path, html, problem):
    (tmp_path / "outside.html").touch()
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.html").write_text(html)
    found = list(built_site.problems(site))
    assert found == [] if problem is None else found[0].startswith(problem)


def test_the_site_builds_without_a_warning(tmp_path):
    missing = [name for name in ("zensical", "mkdocstrings", "griffe_pydantic") if not importlib.util.find_spec(name)]
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {', '.join(missing)}: make setup-docs")
    done = subprocess.run(
        [sys.executable, "-m", "docs.site.build", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for page in llms_txt.pages_of(llms_txt.settings(ROOT)["nav"]):
        assert (tmp_path / "site" / page).with_suffix(".html").is_file()
    folders = api_pages.package_folders(ROOT)
    for page in (page for page in llms_txt.pages_of(llms_txt.settings(ROOT)["nav"]) if page.startswith("api/")):
        text, package = (tmp_path / "site" / page).with_suffix(".html").read_text(), llms_txt.package_of(page)
        for module, names in api_pages.public_names(package, folders[package]).items():
            assert [name for name in names if f'id="{module}.{name}"' not in text] == [], page
