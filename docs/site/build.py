"""Builds the site: its pages, the package for the reader of docstrings, Zensical with warnings as errors, a last check.

make docs       # or, with the extra `docs`: .venv/bin/python docs/site/build.py [FOLDER]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import api_pages, built_site, pages, repository

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> list[str]:
    """Builds into `folder`/site; returns what is wrong with it, nothing where all is well."""
    for made in ("site", ".cache"):
        shutil.rmtree(folder / made, ignore_errors=True)
    try:
        pages.write(ROOT, folder / "pages")
        api_pages.copy_package(ROOT, folder / "sources")
    except (repository.PageError, api_pages.FaceError) as error:
        return [str(error)]
    shutil.copy(ROOT / "docs" / "site" / "mkdocs.yml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # colours
        only_warnings = said.rstrip().endswith("Aborted because --strict flag is set")
        return [said.partition("Traceback (most")[0] if only_warnings else said]
    shutil.copytree(folder / "pages", folder / "site", dirs_exist_ok=True)  # what llms.txt links to
    return list(built_site.problems(folder / "site"))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs").resolve()
    found = build(target)
    if found:
        sys.exit("\n".join(found))
    print(f"site: {target / 'site' / 'index.html'}")
