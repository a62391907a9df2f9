"""docs/llms.txt, the site in one line a page for language models (llmstxt.org), from the nav of mkdocs.yml.

.venv/bin/python docs/site/llms_txt.py            # writes it; a test says when it is stale
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from docs.site import api_pages, repository


def settings(root: Path) -> dict[str, Any]:
    """docs/site/mkdocs.yml."""
    return yaml.safe_load((root / "docs" / "site" / "mkdocs.yml").read_text(encoding="utf-8"))


def package_of(page: str) -> str:
    """`api/trainers.md` -> `ixt_rl.trainers`."""
    return f"{api_pages.PACKAGE}.{page.removeprefix('api/').removesuffix('.md')}"


def pages_of(nav: Any) -> list[str]:
    """All pages of the nav, in order."""
    return [page for _, pages in _sections(nav) for page in pages]


def written(root: Path) -> str:
    """The text of llms.txt.

    Raises:
        PageError: a page has no sentence to say of it.
    """
    config = settings(root)
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}."]
    for section, pages in _sections(config["nav"]):
        lines += ["", f"## {section}", ""]
        lines += [_line(root, page) for page in pages]
    return "\n".join(lines) + "\n"


def _sections(nav: Any) -> Iterator[tuple[str, list[str]]]:
    for entry in nav:
        yield from entry.items()


def _line(root: Path, page: str) -> str:
    if page.startswith("api/"):
        title = package_of(page)
        about = _first_sentence(api_pages.docstring(api_pages.package_folders(root)[title] / "__init__.py"))
    else:
        head, _, text = (root / repository.origin(page)).read_text(encoding="utf-8").partition("\n")
        title, about = head.removeprefix("# "), _first_sentence(text)
    if not about:
        raise repository.PageError(f"{page} has no sentence that says what it is about: begin it with one")
    return f"- [{title}]({page}): {about}"


def _first_sentence(text: str) -> str:
    """Of the first paragraph that is prose: no heading, code, table or list."""
    parts = (part.strip() for part in re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).split("\n\n"))
    prose = next((part for part in parts if part and part[0] not in "#|-"), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)  # links as their text
    return re.split(r"(?<=[.?])\s", " ".join(plain.split()), maxsplit=1)[0].rstrip(".:")
