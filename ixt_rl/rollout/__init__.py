"""Rollout engines: prompts as ids in, completions as ids with their log-probs out."""

from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.transformers_engine import TransformersEngine

__all__ = ["RolloutEngine", "TransformersEngine"]
