"""The true posterior in an `evaluate` stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ixt_rl.evaluation.evaluate import EvaluationPlan
from ixt_rl.evaluation.posterior import PosteriorSummary, over_questions
from ixt_rl.evaluation.posterior_pass import PosteriorPlan, SequenceScorer, posterior_kl, read_out
from ixt_rl.evaluation.tasks import Task
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.models import load_model
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.ranks.split_engine import SplitEngine
from ixt_rl.run.stages.context import StageRun
from ixt_rl.types import SamplingParams


def measured_posterior(
    stage: EvaluateStage,
    at: StageRun,
    engine: RolloutEngine,
    tokenizer: Any,
    task: Task,
    rows: Sequence[dict[str, Any]],
    plan: EvaluationPlan,
) -> PosteriorSummary | None:
    """What `posterior` asks for, over the first problems; None where the stage does not ask.

    Args:
        engine: with the weights of `at.origin`.
        rows: with their prompts' ids.
        plan: of the stage's evaluation; the posterior is measured at its temperature.
    """
    if stage.posterior is None or not rows:
        return None
    wanted = stage.posterior
    own = PosteriorPlan(
        SamplingParams(plan.max_new_tokens, plan.temperature, stop=plan.stop),
        wanted.samples,
        wanted.least_effective,
        plan.max_prompt_tokens,
        plan.chat_template_kwargs,
    )
    scorer = SequenceScorer(_model(at, engine), plan.temperature, tokenizer.pad_token_id)
    judged = read_out(task, tokenizer, plan.stop)
    return over_questions(posterior_kl(engine, scorer, tokenizer, rows[: wanted.problems], judged, own))


def posterior_metrics(found: PosteriorSummary | None) -> dict[str, float]:
    """`posterior/...`, as far as it is decided."""
    if found is None:
        return {}
    values = {
        "kl": found.true_told.value,
        "kl_per_token": found.per_token.value,
        "kl_reverse": found.told_true.value,
        "kl_policy": found.true_policy.value,
        "gain": found.gain.value,
        "effective": found.effective,
        "undecided": found.undecided / found.questions,
    }
    return {f"posterior/{name}": value for name, value in values.items() if value is not None}


def _model(at: StageRun, engine: RolloutEngine) -> Any:
    """The model that an engine in this process has, or one more where it is elsewhere."""
    own = engine.whole if isinstance(engine, SplitEngine) else engine
    if isinstance(own, TransformersEngine):
        return own.model
    model = load_model(at.origin, at.model, train=False)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return model.to(device or "cpu")  # type: ignore[arg-type]  # transformers wraps `to` for its type
