"""The pages of the site, as the generator takes them: docs/, what stands at the root, the API, and what they link to.

docs/*.md, docs/studies/*.md, README, CONTRIBUTING, CHANGELOG --links between pages--> build/docs-pages/
faces of the packages -> api/*.md          linked files of the repository -> source/*.md
"""

from __future__ import annotations

import shutil
from pathlib import Path

from docs.site import api_pages, llms_txt, repository


def pages(root: Path) -> dict[str, str]:
    """Markdown of every page by its name.

    Raises:
        PageError: the nav names a page that nothing makes, a page is not in the nav, or a link leads nowhere.
        FaceError: see `api_pages.public_names`.
    """
    nav = llms_txt.pages_of(llms_txt.settings(root)["nav"])
    docs = root / "docs"
    files = [*docs.glob("*.md"), *(docs / "studies").glob("*.md")]
    texts = {file.relative_to(docs).as_posix(): file.read_text(encoding="utf-8") for file in files}
    texts |= {page: (root / path).read_text(encoding="utf-8") for page, path in repository.ROOT_PAGES.items()}
    texts |= {page: _api_page(root, page) for page in nav if page.startswith("api/")}
    for page in sorted(set(nav) ^ set(texts)):
        raise repository.PageError(f"{page} is {'only' if page in nav else 'not'} in the nav of docs/site/mkdocs.yml")
    texts |= repository.listings(root, texts)
    return {page: repository.relinked(page, text) for page, text in texts.items()}


def write(root: Path, target: Path) -> None:
    """Writes all pages, pictures of docs/ and llms.txt beside them, into the folder `target`, cleared before."""
    shutil.rmtree(target, ignore_errors=True)
    for page, text in pages(root).items():
        (target / page).parent.mkdir(parents=True, exist_ok=True)
        (target / page).write_text(text, encoding="utf-8")
    for picture in (root / "docs").rglob(f"*{repository.PICTURE}"):
        copied = target / picture.relative_to(root / "docs")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copied)
    (target / "llms.txt").write_text(llms_txt.written(root), encoding="utf-8")


def _api_page(root: Path, page: str) -> str:
    package, folders = llms_txt.package_of(page), api_pages.package_folders(root)
    if package not in folders:
        raise repository.PageError(f"the nav has {page}, and setup.cfg no package {package}")
    return api_pages.page(package, folders[package])
