"""Judges and rewriters by name, `python:FILE.py:FUNCTION` for instance; checked before a model loads."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ixt_rl.backends import require
from ixt_rl.blocks.checks import refuse_adapter
from ixt_rl.blocks.judge_options import CALLED_WITH, check_options
from ixt_rl.blocks.python_name import cannot_be_called
from ixt_rl.errors import ConfigError
from ixt_rl.import_path import load_named
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.fingerprints import hash_model, hash_script
from ixt_rl.python_names import PythonName
from ixt_rl.types import SamplingParams

Kind = Literal["python", "openai", "hf", "vllm"]
AnyFunction = Callable[[Mapping[str, str]], Any]

FORMS = "python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"

_OF_OPENAI = ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")

_ANSWERS_DEPEND_ON = ("constrain", "dtype", "max_model_len", "chat_template_kwargs", "cut_loops")


@dataclass(frozen=True)
class JudgeSpec:
    """A judge that is not started yet. It can be pickled.

    Args:
        kind: what it is.
        target: the function's file and name, the model's name, or its folder.
        options: further arguments of `Endpoint` (openai) or of the engine.
        parameters: of the model, where they cannot be read from its folder.
        role: how messages call it.
    """

    kind: Kind
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    role: str = "judge"

    @property
    def name(self) -> str:
        """What answers are filed under: the model or function, and a hash of what is known of its content."""
        dtype = self.options.get("dtype")
        if self.kind == "python":
            file, function = _function_place(self.target, self.role)
            return f"{file.name}:{function} {hash_script(file)}"
        if self.kind == "openai":
            return self.target
        return f"{self.kind} {Path(self.target).resolve().name} {hash_model(Path(self.target))}" + (
            f" {dtype}" if dtype else ""
        )

    def identity(self) -> dict[str, Any]:
        """What the answers depend on, as JSON."""
        kept = ("constrain", "extra_body") if self.kind == "openai" else _ANSWERS_DEPEND_ON
        return {"kind": self.kind, "name": self.name} | {k: v for k, v in self.options.items() if k in kept}

    @property
    def constrained(self) -> bool:
        """Whether answers keep to the schema: of a function, an endpoint unless told not to, an engine if told to."""
        return bool(self.options.get("constrain", self.kind in ("python", "openai")))

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of the environment that it is asked by: its key, and what else the package openai reads there."""
        return (self.options.get("api_key_env", "OPENAI_API_KEY"), *_OF_OPENAI) if self.kind == "openai" else ()

    def check(self, sampling: SamplingParams) -> None:
        """Refuses, without loading a model, what cannot be started.

        Raises:
            ConfigError: no such file, function, folder or option (see `check_options`); a function that does not take
                what it is given; no room for an answer.
            BackendMissing: a package is not installed.
        """
        check_options(self.kind, self.options, self.role)
        if self.kind == "python":
            _of_fields(load_function(self.target, self.role), self)
        elif self.kind == "openai":
            with open_judge(self, sampling):
                pass  # no connection is made, but the key is looked for
        else:
            needed = "vllm" if self.kind == "vllm" else "transformers"
            require(needed, used_for=f"the {self.role} {self.kind}:{self.target}")
            folder = Path(self.target)
            if not (folder / "config.json").is_file():
                refuse_adapter(folder)
                raise ConfigError(
                    f"{self.role} {self.kind}:{self.target}",
                    reason="there is no folder with a config.json",
                    remedy="download the model first and name its folder",
                )
            self.prompt_limit(sampling)

    def prompt_limit(self, sampling: SamplingParams) -> int:
        """Most tokens of a prompt to the model in its folder, with room for an answer.

        Raises:
            ConfigError: there is none.
        """
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.target).get_text_config()
        most: int = self.options.get("max_model_len", getattr(config, "max_position_embeddings", 1 << 20))
        if most <= sampling.max_new_tokens:
            raise ConfigError(
                f"max_new_tokens={sampling.max_new_tokens} with the {self.role} {self.target}",
                reason=f"its limit is {most} tokens for a prompt and its answer: there is no room for a prompt",
                remedy="lower --max-tokens",
            )
        return most - sampling.max_new_tokens

    def model_parameters(self) -> int | None:
        """Parameters of the judge's model as far as they are known."""
        if self.parameters is not None or self.kind in ("python", "openai"):
            return self.parameters
        return sum(map(_elements, Path(self.target).glob("*.safetensors"))) or None


class OpenJudge:
    """A judge's backend, and what has to be closed with it; a context manager that gives the backend."""

    def __init__(self, backend: JudgeBackend, *closing: Callable[[], None]):
        self.backend = backend
        self._stack = ExitStack()
        for close in closing:
            self._stack.callback(close)
        self._stack.callback(backend.close)

    def __enter__(self) -> JudgeBackend:
        return self.backend

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def parse_judge(
    text: str,
    options: Mapping[str, Any],
    base_url: str | None = None,
    parameters: int | None = None,
    role: str = "judge",
) -> JudgeSpec:
    """The judge, or the rewriter, that the command line names.

    Raises:
        ConfigError: another form than `FORMS`, or a `base_url` for a judge that is no endpoint.
    """
    kind, colon, target = text.partition(":")
    if not colon or not target or kind not in ("python", "openai", "hf", "vllm"):
        raise ConfigError(f"{role} {text!r}", reason="its kind is not known", remedy=f"give {FORMS}")
    if kind != "openai":
        target = os.path.expanduser(target)  # behind `python:`, no shell does it
    if base_url is not None:
        if kind != "openai":
            raise ConfigError(f"base-url for the {role} {text}", reason="it is no endpoint", remedy="use openai:MODEL")
        options = {**options, "base_url": base_url}
    return JudgeSpec(kind, target, options, parameters, role)  # type: ignore[arg-type]


def open_judge(spec: JudgeSpec, sampling: SamplingParams) -> OpenJudge:
    """Starts a judge.

    Args:
        spec: who.
        sampling: how it will answer.

    Raises:
        ConfigError, BackendMissing: see `JudgeSpec.check`.
    """
    if spec.kind == "python":
        from ixt_rl.judging.function import FunctionBackend

        function = FunctionBackend(_of_fields(load_function(spec.target, spec.role), spec), spec.name)
        function.capacity = 1  # a reply is kept as soon as it is there: a kill costs one call
        return OpenJudge(function)
    if spec.kind == "openai":
        from ixt_rl.judging.endpoint import Endpoint, EndpointBackend

        return OpenJudge(EndpointBackend(Endpoint(spec.target, **spec.options)))
    return _open_engine(spec, sampling)


def load_function(target: str, role: str = "judge") -> Callable[..., Any]:
    """`FILE.py:FUNCTION` or `package.module:FUNCTION`, imported; messages call it by its role. A file is imported as it
    is now, with what lies beside it.

    Raises:
        ConfigError: it cannot be imported, or there is no such function.
    """
    _function_place(target, role)
    return load_named(target, role, "function")


def _of_fields(function: Callable[..., Any], spec: JudgeSpec) -> AnyFunction:
    """`function` as one of the fields of a question, whichever of `CALLED_WITH` it takes.

    Raises:
        ConfigError: it takes none of them, or is a coroutine, which nobody waits for.
    """
    given = CALLED_WITH[spec.role]
    what = f"{spec.role} {spec.kind}:{spec.target}"
    if inspect.iscoroutinefunction(function):
        raise ConfigError(what, reason="it is async, and nobody waits for it", remedy="write def without async")
    names = next((names for names in given if _takes(function, names)), None)
    if names is None:
        raise cannot_be_called(what, f"{spec.target.rpartition(':')[2]}{inspect.signature(function)}", given)
    return function if names == ("fields",) else lambda fields: function(*(fields[name] for name in names))


def _takes(function: Callable[..., Any], names: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _function_place(target: str, role: str) -> tuple[Path, str]:
    """The source that a function stands in, and its name."""
    remedy = "write python:FILE.py:FUNCTION or python:package.module:FUNCTION"
    try:
        named = PythonName.parse(target, "FUNCTION")
    except ConfigError as error:
        raise ConfigError(f"{role} python:{target}", reason=error.reason, remedy=remedy) from None
    if named.file is None:
        reason = f"there is no {'file' if named.is_file else 'module with a source'} {named.place!r}"
        raise ConfigError(f"{role} python:{target}", reason=reason, remedy=remedy)
    return named.file, named.name


def _open_engine(spec: JudgeSpec, sampling: SamplingParams) -> OpenJudge:
    from ixt_rl.judging.engine import EngineBackend
    from ixt_rl.tokenizer_files import open_tokenizer

    tokenizer: Any = open_tokenizer(spec.target)
    options = dict(spec.options)
    batch, constrain = options.pop("batch_size", 256), bool(options.pop("constrain", False))
    shown, cut_loops = options.pop("chat_template_kwargs", None), bool(options.pop("cut_loops", True))
    if constrain:
        options["tokenizer"] = spec.target
    engine = _vllm(spec, tokenizer, options) if spec.kind == "vllm" else _transformers(spec, tokenizer, options, batch)
    limit = spec.prompt_limit(sampling)
    backend = EngineBackend(
        engine,
        tokenizer,
        spec.name,
        batch_size=batch,
        max_prompt_tokens=limit,
        constrain=constrain,
        chat_template_kwargs=shown,
        cut_loops=cut_loops,
    )
    return OpenJudge(backend, engine.close)


def _vllm(spec: JudgeSpec, tokenizer: Any, options: dict[str, Any]) -> Any:
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    return VLLMEngine(spec.target, eos_ids=_eos_ids(spec.target, tokenizer), **options)


def _transformers(spec: JudgeSpec, tokenizer: Any, options: dict[str, Any], batch: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from ixt_rl.rollout.transformers_engine import TransformersEngine

    model = AutoModelForCausalLM.from_pretrained(spec.target, dtype=options.get("dtype", "auto")).eval()
    if torch.cuda.is_available():
        model.to("cuda")
    eos = _eos_ids(spec.target, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos[0]
    return TransformersEngine(model, eos, pad, batch)


def _eos_ids(folder: str, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends an answer."""
    from ixt_rl.conditioning.ends import find_ends, read_generation_config

    return find_ends(tokenizer, read_generation_config(folder)).stops


def _elements(file: Path) -> int:
    with file.open("rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
