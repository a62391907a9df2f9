"""What a run is, in plain sentences, from its config."""

from __future__ import annotations

import math
from typing import Any

from ixt_rl.report.arms import kept_levels, shows_feedback
from ixt_rl.report.run_folder import RunRecord, StageRecord, number, unique


def describe(run: RunRecord) -> str:
    """What the run is, in one sentence."""
    model = run.config.get("model") or {}
    new = model.get("new") or {}
    if new:
        start = f"A new {new.get('architecture', 'llama')} model"
    else:
        start = f"The model {model['path']}" if model.get("path") else "A model"
    parts = []
    for stage in run.stages:
        if stage.role == "base" and not stage.documents:
            world = (stage.config.get("data") or {}).get("world")
            steps = stage.config.get("steps")
            on = f" on the {world} world" if world else ""
            parts.append(f"is pretrained{on}" + (f" for {steps:,} steps" if isinstance(steps, int) else ""))
    if run.document_stages:
        parts.append(("then " if parts else "is ") + f"trained on documents{_arms(run.document_stages)}")
    if run.suffix_stages:
        names = [stage.name for stage in run.suffix_stages]
        each = f", in {len(names)} arms: {listed(names)}" if len(names) > 1 else ""
        parts.append(("then " if parts else "is ") + f"trained on continuations{each}")
    online = run.online_stages
    if online:
        labels = unique(stage.label for stage in online)
        parts.append(("then " if parts else "is ") + f"trained by {listed(labels)}{_rollouts(online)}")
    views = unique(stage.view for stage in online if stage.view)
    views_said = f", in the view{'s' if len(views) > 1 else ''} {listed(views)}" if views else ""
    seeds = run.summary.get("seeds") or run.config.get("seeds") or []
    seeds_said = f", over {len(seeds)} seeds" if len(seeds) > 1 else ", with one seed" if seeds else ""
    trained = any(stage.trained for stage in run.stages)
    return f"{start} {listed(parts) or 'is measured'}{views_said}{seeds_said if trained else ''}."


def arms(run: RunRecord) -> list[tuple[str, str]]:
    """(name, what it sees) of every stage on documents whose config is known."""
    return [
        (stage.name, _chooses(stage) if stage.suffixes else _sees(stage))
        for stage in run.stages
        if (stage.documents or stage.suffixes) and stage.config
    ]


def uncertainty(run: RunRecord) -> str:
    """How far a share may be off by the choice of problems."""
    counts = [count for stage in run.trained_stages if (count := _held_out(stage.config)) is not None]
    if not counts:
        return ""
    n = min(counts)
    return f"{n} held-out problems: a share of 0.5 has a standard error of {0.5 / math.sqrt(n):.3f} within a seed."


def _held_out(config: dict[str, Any]) -> int | None:
    """Problems, or prefixes, that an evaluation of a stage asks: no more than its files set aside."""
    block = config.get("evaluation") or {}
    count = block.get("problems", block.get("prefixes"))
    if not isinstance(count, int):
        return None
    data = block.get("data") or config.get("data") or {}
    aside = [source.get("eval_rows") or 0 for source in data.get("sources") or [data] if isinstance(source, dict)]
    return min(count, sum(aside)) if any(aside) else count


def listed(items: list[str]) -> str:
    """`a, b and c`."""
    return ", ".join(items[:-1]) + (" and " if len(items) > 1 else "") + items[-1] if items else ""


def _rollouts(stages: list[StageRecord]) -> str:
    budgets = list(dict.fromkeys(_sampled(stage.config) for stage in stages))
    if len(budgets) != 1 or budgets[0] is None:
        return ""
    count, updates = budgets[0]
    each = " each" if len(stages) > 1 else ""
    return f" on {count} rollouts{each} ({updates})"


def _sampled(config: dict[str, Any]) -> tuple[str, str] | None:
    """How many rollouts an online stage samples, and for which updates; None where its config does not say."""
    steps, rollouts = number(config.get("steps")), number(config.get("rollouts_per_step"))
    if not steps or not rollouts:
        return None
    times, together = (int(number(config.get(key)) or 1) for key in ("num_iterations", "steps_per_generation"))
    count = math.ceil(steps / (times * together)) * together * int(rollouts)
    again = config.get("dynamic_sampling") or (
        config.get("type") == "star" and (config.get("star") or {}).get("told") == "failed"
    )
    trained = f", each trained on {times} times" if times > 1 else ""
    return f"{'at least ' if again else ''}{count:,}", f"{int(steps)} steps of {int(rollouts)}{trained}"


def _arms(stages: list[StageRecord]) -> str:
    """`, in 3 arms: plain, level and critique (600 k tokens each)`."""
    budgets = unique(_budget(stage) for stage in stages)
    each = " each" if len(stages) > 1 else ""
    budget = f" ({budgets[0]}{each})" if len(budgets) == 1 and budgets[0] else ""
    if len(stages) == 1:
        return budget
    return f" in {len(stages)} arms, {listed([stage.name for stage in stages])}{budget}"


def _budget(stage: StageRecord) -> str:
    steps = number(stage.config.get("steps"))
    epochs = number(stage.config.get("epochs"))
    return f"{steps:,} steps" if steps else f"{epochs:g} epochs" if epochs else ""


_OBJECTIVES = {
    "dpo": "DPO, the best candidate over the worst",
    "rf-nll": "next-token prediction on the best candidate",
    "grpo": "GRPO over all candidates",
    "nll": "next-token prediction on the original suffixes, without a judge",
    "sft-rewrite": "next-token prediction on the rewrites, without a judge",
    "sft-rollout": "next-token prediction on one rollout, without a judge",
    "dpo-rewrite": "DPO, the rewrite over a rollout, without a judge",
}


def _chooses(stage: StageRecord) -> str:
    """What a SIP stage learns from."""
    config = stage.config
    said = [_OBJECTIVES.get(str(config.get("objective")), str(config.get("objective")))]
    if config.get("judge"):
        sources = config.get("sources") or ["original", "rollout"]
        rollouts = config.get("group_size") or 16
        of_policy = "one rollout" if rollouts == 1 else f"{rollouts} rollouts"
        named = [of_policy if source == "rollout" else source for source in sources]
        said.append(f"of {listed(named)}")
        chance = config["judge"].get("model") == "random"
        axes = listed(list(config["judge"].get("axes") or {}))
        said.append("chosen at random" if chance else f"judged on {axes}")
    rewriter = config.get("rewriter") or {}
    if number(rewriter.get("error")):
        said.append(f"{rewriter['error']:.0%} of the rewrites wrong")
    return ", ".join(said)


def _sees(stage: StageRecord) -> str:
    if stage.type == "dpo":
        return "of each pair the chosen reply over the rejected one"
    kept, data = kept_levels(stage.config), stage.config.get("data") or {}
    said = f"only documents of level {listed([str(level) for level in kept])}" if kept else "every document"
    if data.get("pairs"):
        one = {5: "chosen", 1: "rejected"}[kept[0]] if len(kept) == 1 else ""
        said = f"of each pair the {one} reply" if one else "both replies of each pair"
    if not shows_feedback(stage.config):
        return f"{said}, without feedback"
    feedback: dict[str, Any] = stage.config["feedback"]
    template = feedback["template"]
    tags = template == "tag"
    name = f" `{template}`" if isinstance(template, str) else ""
    share, hidden = number(feedback.get("fraction")), number(feedback.get("dropout"))
    shown = "the tag of where it comes from" if tags else f"feedback{name}"
    parts = [said, f"with {shown}{' after it' if feedback.get('position') == 'after' else ''}"]
    if share is not None and share < 1:
        parts.append(f"{share:.0%} of them annotated")
    if hidden:
        parts.append(f"hidden {hidden:.0%} of the time")
    if (cooldown := number(feedback.get("cooldown"))) is not None:
        parts.append(f"without it in the last {cooldown:.0%} of the updates")
    if feedback.get("shuffle"):
        parts.append("shuffled among the documents")
    if data.get("judge") and not tags:
        parts.append(f"judge: {data['judge']}")
    return ", ".join(parts)
