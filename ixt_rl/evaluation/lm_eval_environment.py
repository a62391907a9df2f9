"""An environment for lm-evaluation-harness beside this one: its math tasks refuse every antlr4 runtime but 4.11, and
the core needs 4.13.2. It sees the packages of this environment behind its own, so that torch is not installed twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from ixt_rl.errors import BackendMissing, ConfigError
from ixt_rl.locks import locked

LM_EVAL = "0.4.13"
"""Version of lm_eval that the environment gets."""

_PACKAGES = (f"lm-eval[math]=={LM_EVAL}", "antlr4-python3-runtime==4.11.0")
_OF_CORE = ("torch", "transformers", "datasets", "accelerate", "numpy")  # other versions: another environment
_ASKED = ("lm_eval", "torch", "transformers", "antlr4-python3-runtime")
_LAST_LINES = 6


def lm_eval_python(say: Callable[[str], None]) -> Path:
    """The interpreter of the environment, which is made where there is none: in a folder of another name, so that a
    kill leaves none half made.

    Args:
        say: gets what will be made, before it is.

    Raises:
        BackendMissing: it could not be made; with the last lines that were said.
        OSError: the cache folder cannot be written.
    """
    cache = _cache()
    sites = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages") and Path(path).is_dir()]
    folder = cache / _stamp(sites)
    if not _interpreter(folder).exists():
        with locked(cache, "making an environment for lm_eval", wait=lambda who: say(f"waiting for {who}")):
            if not _interpreter(folder).exists():
                say(
                    f"making an environment for lm_eval {LM_EVAL}, once: {folder} (pip, about 400 MB, a minute; torch "
                    "and transformers are those of here). --python PATH names an interpreter that has lm_eval instead"
                )
                _make(folder, sites)
    return _interpreter(folder)


def versions_in(python: Path | str, env: Mapping[str, str]) -> dict[str, str | None]:
    """Versions of Python, lm_eval and what it stands on, as an interpreter sees them.

    Raises:
        ConfigError: it does not run, or has no lm_eval.
    """
    asking = (
        "import json, platform; from importlib.metadata import version, PackageNotFoundError\n"
        "def of(name):\n    try: return version(name)\n    except PackageNotFoundError: return None\n"
        f"print(json.dumps({{'python': platform.python_version(), **{{name: of(name) for name in {_ASKED!r}}}}}))"
    )
    remedy = f'name the interpreter of an environment with `pip install "{_PACKAGES[0]}"`, or leave --python out'
    try:
        done = subprocess.run([str(python), "-c", asking], capture_output=True, text=True, check=False, env=dict(env))
    except OSError as error:
        raise ConfigError(f"--python {python}", reason=str(error.strerror), remedy=remedy) from None
    try:
        found: dict[str, str | None] = json.loads(done.stdout)
    except ValueError:
        said = _last_lines(done.stdout + done.stderr)
        raise ConfigError(f"--python {python}", reason=f"it is no Python that runs: {said}", remedy=remedy) from None
    if found["lm_eval"] is None:
        raise ConfigError(f"--python {python}", reason="it has no package lm_eval", remedy=remedy)
    return found


def alone() -> dict[str, str]:
    """This process' variables without PYTHONPATH, whose folders would come before the environment's own."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _cache() -> Path:
    """The folder for what ixt-rl makes once on a machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixt-rl"


def _stamp(sites: list[str]) -> str:
    """Name of the environment that belongs to this one."""
    known = [sys.version, sys.prefix, *sites, *_PACKAGES, *(f"{name} {metadata.version(name)}" for name in _OF_CORE)]
    return f"lm-eval-{LM_EVAL}-{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:10]}"


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _make(folder: Path, sites: list[str]) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of one that was killed; nobody else is here: the cache is locked
    try:
        _fill(part, sites)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.rename(folder)


def _fill(part: Path, sites: list[str]) -> None:
    _call([sys.executable, "-m", "venv", str(part)])
    (own,) = part.glob("lib/python*/site-packages")
    seen = "".join(f"import site; site.addsitedir({site!r})\n" for site in sites)  # behind `own`, with their .pth files
    (own / "packages_of_ixt_rl.pth").write_text(seen, encoding="utf-8")
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    _call([str(_interpreter(part)), "-m", "pip", "install", *quiet, *_PACKAGES])


def _call(command: list[str]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, env=alone()
    )
    if done.returncode != 0:
        raise BackendMissing(
            f"no environment for lm_eval {LM_EVAL}: `{' '.join(command)}` ended with status {done.returncode}",
            reason=_last_lines(done.stdout),
            remedy="set pip's index (PIP_INDEX_URL) and run this again; or make an environment yourself, "
            f'`python -m venv DIR && DIR/bin/python -m pip install "{_PACKAGES[0]}"`, and add --python DIR/bin/python',
        )


def _last_lines(said: str) -> str:
    return "\n    ".join(said.strip().splitlines()[-_LAST_LINES:]) or "it said nothing"
