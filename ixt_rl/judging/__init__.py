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
    from ixt_rl.judging.reward import JudgeReward
    from ixt_rl.judging.rewrite_prompt import RewritePrompt, load_rewrite, shipped_rewrites
    from ixt_rl.judging.rewriter import Rewriter, RewriteTally
    from ixt_rl.judging.rubric import Axis, Rubric, load_rubric, shipped_rubrics
    from ixt_rl.judging.spoil import SPOILERS
    from ixt_rl.judging.thoughts import Thinker, Woven, interleaved, predicted_suffix, weave
    from ixt_rl.judging.training_rewards import RewriteReward, VerdictReward

# Loaded when used: only the engine needs torch, only the endpoint needs openai.
_HOMES = {
    "Answer": "answer", "Question": "answer", "Tally": "answer", "Vote": "answer", "JudgeBackend": "backend",
    "Reply": "backend", "Request": "backend", "JudgeCache": "cache", "Judge": "client", "Endpoint": "endpoint",
    "EndpointBackend": "endpoint", "EngineBackend": "engine", "FunctionBackend": "function", "Reading": "parse",
    "parse_answer": "parse", "strip_thinking": "parse", "Axis": "rubric", "Rubric": "rubric", "load_rubric": "rubric",
    "shipped_rubrics": "rubric", "CandidateJudge": "candidates", "CandidateTally": "candidates",
    "CandidateVerdict": "candidates", "Rewriter": "rewriter", "RewriteTally": "rewriter",
    "RewritePrompt": "rewrite_prompt", "load_rewrite": "rewrite_prompt", "shipped_rewrites": "rewrite_prompt",
    "AnswerOpinion": "opinion", "JudgeReward": "reward",
    "Thinker": "thoughts", "Woven": "thoughts", "interleaved": "thoughts",
    "predicted_suffix": "thoughts", "weave": "thoughts",
    "SPOILERS": "spoil", "RewriteReward": "training_rewards", "VerdictReward": "training_rewards",
}  # fmt: skip

__all__ = [
    "SPOILERS",
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
    "RewritePrompt",
    "RewriteReward",
    "RewriteTally",
    "Rewriter",
    "Rubric",
    "Tally",
    "Thinker",
    "VerdictReward",
    "Vote",
    "Woven",
    "interleaved",
    "load_rewrite",
    "load_rubric",
    "parse_answer",
    "predicted_suffix",
    "shipped_rewrites",
    "shipped_rubrics",
    "strip_thinking",
    "weave",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
