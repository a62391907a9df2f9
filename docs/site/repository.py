"""Pages of the site for files of the repository: README and others under the site's names, sources as listings.

A page of docs/ links to `../configs/ixt/chain.yaml` so that the link works where the repository is read. On the site
the same file is a page under `source/`, made because something links to it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

ROOT_PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files at the repository's root."""

PICTURE = ".png"
"""Ending of pictures under docs/, which go along as they are."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".cfg": "ini", ".json": "json"}

_CODE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")


class PageError(Exception):
    """A page or a link that leads nowhere."""


def origin(page: str) -> str:
    """The repository's path of a page of the site."""
    if page in ROOT_PAGES:
        return ROOT_PAGES[page]
    return page.removeprefix("source/").removesuffix(".md") if _listed(page) else f"docs/{page}"


def address(path: str) -> str:
    """The site's page of a path of the repository."""
    named = {file: page for page, file in ROOT_PAGES.items()}
    if path in named:
        return named[path]
    if path.startswith("docs/") and path.endswith((".md", PICTURE)):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def linked(page: str, markdown: str) -> list[str]:
    """Paths of the repository that a page's text links to, code blocks aside."""
    base = posixpath.dirname(origin(page))
    return [posixpath.normpath(posixpath.join(base, link)) for link in _LINK.findall(_CODE.sub("", markdown))]


def relinked(page: str, markdown: str) -> str:
    """The text with its links to the repository's paths turned into links between pages of the site."""
    base = posixpath.dirname(origin(page))

    def moved(match: re.Match[str]) -> str:
        target = address(posixpath.normpath(posixpath.join(base, match[1])))
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return _outside_code(markdown, lambda text: _LINK.sub(moved, text))


def listing(root: Path, path: str) -> str:
    """A page that shows a file, or what is in a folder."""
    place = root / path
    head = f"---\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n"
    if place.is_dir():
        entries = sorted(one.name for one in place.iterdir() if not one.name.startswith((".", "__")))
        return head + "\n".join(f"- [{name}]({posixpath.basename(path)}/{name})" for name in entries) + "\n"
    text = place.read_text(encoding="utf-8")
    fence = "`" * max(4, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{head}{fence}{LANGUAGES.get(place.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def listings(root: Path, pages: dict[str, str]) -> dict[str, str]:
    """Pages under `source/` for all that `pages` (name -> text) link to, and for what folders among them hold.

    Raises:
        PageError: a link leads to no file.
    """
    made: dict[str, str] = {}
    waiting = dict(pages)
    while waiting:
        page, markdown = waiting.popitem()
        for path in linked(page, markdown):
            target = address(path)
            if not (root / path).exists():
                raise PageError(f"{origin(page)} links to {path}, which is not there")
            if _listed(target) and target not in made:
                made[target] = waiting[target] = listing(root, path)
    return made


def _listed(page: str) -> bool:
    return page.startswith("source/")


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for block in _CODE.finditer(markdown):
        parts += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(markdown[end:])])
