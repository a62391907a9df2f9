"""Judges: rubrics as files, one client over engines, endpoints and functions, a tolerant parser, a cache.

Question(rubric, fields) --Judge(backend, sampling).ask--> Answer(verdict, axes, critique, votes)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_rl.judging.answer import Answer, Question, Tally, Vote
    from ixt_rl.judging.backend import JudgeBackend, Reply, Request
    from ixt_rl.judging.cache import JudgeCache
    from ixt_rl.judging.candidates import CandidateJudge, CandidateTally, CandidateVerdict
    from ixt_rl.judging.client import Judge
    from ixt_rl.judging.endpoint import Endpoint, EndpointBackend
    from ixt_rl.judging.engine import EngineBackend
    from ixt_rl.judging.function import FunctionBackend
    from ixt_rl.judging.opinion import AnswerOpinion
    from ixt_rl.judging.parse import Reading, parse_answer, strip_thinking
    from ixt_rl.judging.reward import JudgeReward, VerdictReward
    from ixt_rl.judging.rubric import Axis, Rubric, load_rubric, shipped_rubrics

# Loaded when used: only the engine needs torch, only the endpoint needs openai.
_HOMES = {
    "Answer": "answer", "Question": "answer", "Tally": "answer", "Vote": "answer", "JudgeBackend": "backend",
    "Reply": "backend", "Request": "backend", "JudgeCache": "cache", "Judge": "client", "Endpoint": "endpoint",
    "EndpointBackend": "endpoint", "EngineBackend": "engine", "FunctionBackend": "function", "Reading": "parse",
    "parse_answer": "parse", "strip_thinking": "parse", "Axis": "rubric", "Rubric": "rubric", "load_rubric": "rubric",
    "shipped_rubrics": "rubric", "CandidateJudge": "candidates", "CandidateTally": "candidates",
    "CandidateVerdict": "candidates", "AnswerOpinion": "opinion", "JudgeReward": "reward", "VerdictReward": "reward",
}  # fmt: skip

_MOVED = {
    "ixt_rl.rewriting": ("RewritePrompt", "RewriteReward", "RewriteTally", "Rewriter", "Thinker", "load_rewrite",
                         "shipped_rewrites"),
    "ixt_rl.conditioning.thought_marks": ("Woven", "interleaved", "predicted_suffix", "weave"),
    "ixt_rl.corpus.examples.spoil": ("SPOILERS",),
}  # fmt: skip
"""What stood here once and is still found here; new code takes it from there."""

__all__ = [
    "Answer",
    "AnswerOpinion",
    "Axis",
    "CandidateJudge",
    "CandidateTally",
    "CandidateVerdict",
    "Endpoint",
    "EndpointBackend",
    "EngineBackend",
    "FunctionBackend",
    "Judge",
    "JudgeBackend",
    "JudgeCache",
    "JudgeReward",
    "Question",
    "Reading",
    "Reply",
    "Request",
    "Rubric",
    "Tally",
    "VerdictReward",
    "Vote",
    "load_rubric",
    "parse_answer",
    "shipped_rubrics",
    "strip_thinking",
]


def __getattr__(name: str) -> Any:
    home = (
        f"{__name__}.{_HOMES[name]}"
        if name in _HOMES
        else next((m for m, names in _MOVED.items() if name in names), None)
    )
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
