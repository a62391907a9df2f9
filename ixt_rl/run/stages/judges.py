"""Judges and rewriters of a stage: a world's own functions, or a model by name with a cache of its replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ixt_rl.blocks.judges import RANDOM, WORLD, AskedModelBlock, JudgeBlock
from ixt_rl.blocks.passages import SuffixCorpusBlock, WorldPassagesBlock
from ixt_rl.judging import CandidateJudge, FunctionBackend, Judge, JudgeBackend, JudgeCache
from ixt_rl.judging.opening import open_judge, parse_judge
from ixt_rl.judging.random_judge import RandomJudge
from ixt_rl.methods.sip import SipStage
from ixt_rl.place import follows
from ixt_rl.rewriting import Rewriter, load_rewrite
from ixt_rl.rewriting.stored import StoredRewrites
from ixt_rl.rollout.trl_adapter import call_seed
from ixt_rl.run.stages.context import StageRun
from ixt_rl.types import SamplingParams
from ixt_rl.worlds import WORLDS

QUALITY = "quality"
"""The pairwise axis."""

STORED = "stored:"
_PATIENCE = 1  # a request that failed after its retries is waited for by the trainer, not skipped


@contextmanager
def candidate_judge(stage: SipStage, section: JudgeBlock, at: StageRun) -> Iterator[CandidateJudge | RandomJudge]:
    """The judge of a `judge` block; a model's replies are kept in the stage's folder, so that none is asked twice."""
    if section.model == RANDOM:
        yield RandomJudge(call_seed(section.seed, at.seed or 0))
        return
    with stage_judge(stage, section, at) as judge:
        yield CandidateJudge(judge, section.axes, against=section.against)


@contextmanager
def suffix_rewriter(stage: SipStage, tokenizer: Any, at: StageRun) -> Iterator[Rewriter | StoredRewrites]:
    """The rewriter of a stage."""
    section = stage.rewriter
    assert section is not None
    if section.model.startswith(STORED):
        yield StoredRewrites(section.model.removeprefix(STORED))
        return
    function: Callable[..., Any] = _no_function
    if section.model == WORLD:
        assert isinstance(stage.data, WorldPassagesBlock)
        function = partial(_rewritten, WORLDS[stage.data.world]().rewriter(section.error, at.seed or 0))
    tokens = stage.data.suffix_tokens if isinstance(stage.data, SuffixCorpusBlock) else stage.sampling.max_new_tokens
    parameters = rewriter_parameters(stage)
    with _backend(section, function, at, "rewriter") as (backend, cache):
        yield Rewriter(
            backend,
            _sampling(section),
            tokenizer,
            load_rewrite(section.prompt),
            suffix_tokens=tokens,
            cache=cache,
            patience=_PATIENCE,
            parameters=parameters,
        )


@contextmanager
def stage_judge(stage: SipStage, section: JudgeBlock, at: StageRun) -> Iterator[Judge]:
    """A judge whose replies are kept in the stage's folder; the console shows what it writes."""
    function: Callable[..., Any] = _no_function
    if section.model == WORLD:
        assert isinstance(stage.data, WorldPassagesBlock)
        function = partial(_by_axis, WORLDS[stage.data.world]().judge_functions)
    with _backend(section, function, at, "judge") as (backend, cache):
        yield Judge(
            backend, _sampling(section), repeats=section.repeats, cache=cache, patience=_PATIENCE,
            parameters=_parameters(section, stage.judge_parameters),
        )  # fmt: skip


@contextmanager
def _backend(
    section: AskedModelBlock,
    function: Callable[..., Any],
    at: StageRun,
    name: str,
) -> Iterator[tuple[JudgeBackend, JudgeCache | None]]:
    """What answers, and where answers are kept: nowhere for a world's function, which is faster than a look-up."""
    if section.model == WORLD or follows():  # rank 0 asks for all
        yield FunctionBackend(function, name=f"{WORLD} {name}"), None
        return
    spec = parse_judge(section.model, section.options, role=section.role)
    spec.check(_sampling(section))
    cache = JudgeCache(at.folder.path / f"{name}.sqlite")
    try:
        with open_judge(spec, _sampling(section)) as backend:
            backend.watch = at.console.asking(name)
            yield backend, cache
    finally:
        cache.close()


def _rewritten(rewrite: Callable[[str, str], str], fields: Mapping[str, str]) -> str:
    return rewrite(fields["prefix"], fields["suffix"])


def _by_axis(functions: Mapping[str, Callable[..., Any]], fields: Mapping[str, str]) -> Any:
    """A world's verdict on the axis whose texts these are."""
    axis = QUALITY if "a" in fields else "factuality" if "original" in fields else "safety"
    return functions[axis](fields)


def _no_function(fields: Mapping[str, str]) -> None:
    """Stands where a model is asked."""


def _sampling(section: AskedModelBlock) -> SamplingParams:
    return SamplingParams(section.max_new_tokens, section.temperature, section.top_p, seed=section.seed)


def judge_parameters(stage: SipStage) -> int | None:
    """Parameters of the judge, for its FLOPs; None where nobody says."""
    return _parameters(stage.judge, stage.judge_parameters)


def rewriter_parameters(stage: SipStage) -> int | None:
    """Parameters of the rewriter, for its FLOPs; None where nobody says."""
    return _parameters(stage.rewriter, stage.rewriter_parameters)


def _parameters(section: AskedModelBlock | None, named: int | None) -> int | None:
    if section is None or section.model in (WORLD, RANDOM) or section.model.startswith(STORED):
        return None
    return parse_judge(section.model, section.options, parameters=named).model_parameters()
