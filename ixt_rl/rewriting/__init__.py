"""Rewriters: suffixes made better and thoughts put between sentences, by a model that is asked; stored ones; rewards.

prefix, suffix --Rewriter(backend, prompt)--> Candidate | None;  document --Thinker--> the document with thoughts
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_rl.rewriting.prompt import RewritePrompt, load_rewrite, shipped_rewrites
    from ixt_rl.rewriting.reward import RewriteReward
    from ixt_rl.rewriting.rewriter import Rewriter, RewriteTally
    from ixt_rl.rewriting.stored import StoredRewrites
    from ixt_rl.rewriting.thinker import Thinker

_HOMES = {
    "RewritePrompt": "prompt", "load_rewrite": "prompt", "shipped_rewrites": "prompt", "RewriteReward": "reward",
    "Rewriter": "rewriter", "RewriteTally": "rewriter", "StoredRewrites": "stored", "Thinker": "thinker",
}  # fmt: skip

__all__ = [
    "RewritePrompt",
    "RewriteReward",
    "RewriteTally",
    "Rewriter",
    "StoredRewrites",
    "Thinker",
    "load_rewrite",
    "shipped_rewrites",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
