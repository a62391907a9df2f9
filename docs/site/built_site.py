"""Checks of the built pages: nothing is loaded from elsewhere, and every link and anchor within the site is there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("link", "href")}
"""What a browser loads with a page; of `link`, `rel=canonical` and the like are only said."""

SAID = {"canonical", "next", "prev", "alternate"}


class _Page(HTMLParser):
    """Anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        for name, value in known.items():
            if (tag, name) in LOADED and known.get("rel") not in SAID:
                self.loads.append(value)


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the pages under `site`, one sentence each."""
    for file in sorted(site.rglob("*.html")):
        page, name = _read(file), file.relative_to(site)
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{name} loads {address}: the site must work without a network"
            elif file.name != "404.html" and not _resolves(site, file, address):
                yield f"{name} loads {address}, which is not there"
        if file.name == "404.html":  # its links are absolute: it is shown at any address
            continue
        for address in page.links:
            if not _resolves(site, file, address):
                yield f"{name} links to {address}, which is not there"
    for file in sorted(site.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        if any(f"url({quote}{scheme}" in text for quote in ("", "'", '"') for scheme in ("http", "//")):
            yield f"{file.relative_to(site)} loads something from elsewhere"


def _resolves(site: Path, file: Path, address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file() or site.resolve() not in target.resolve().parents:
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in _read(target.resolve()).anchors


@cache
def _read(file: Path) -> _Page:
    return _Page(file.read_text(encoding="utf-8"))
