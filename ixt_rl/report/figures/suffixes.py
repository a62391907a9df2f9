"""SIP's figures: continuations of held-out prefixes over training, who wins, and which candidates are chosen."""

from __future__ import annotations

from typing import Any

import matplotlib

from ixt_rl.pages.drawing import RC, Drawing, grid
from ixt_rl.report.figures.plotter import Plotter, legend, share_axis, x_axis
from ixt_rl.report.figures.series import against, plain
from ixt_rl.report.run_folder import StageRecord

_PROPERTIES = ("right", "quality", "factuality", "safety", "grounding")
_CHOICES = (
    ("chosen/rollout", "rollouts among the chosen"),
    ("chosen_alone/rollout", "chosen, and written by rollouts alone"),
    ("chosen_raw/rollout", "the same before equal texts are merged"),
    ("chosen/rewrite", "rewrites among the chosen"),
    ("chosen/original", "originals among the chosen"),
    ("ties/best", "several texts have the highest score"),
    ("candidates/identical", "candidates with another's text"),
    ("rejected/rollout", "rollouts among the rejected"),
)
_SCORES = (
    ("verified/chosen", "the chosen are right"),
    ("verified/any_rollout", "prefixes with some right rollout"),
    ("verified/rollout", "rollouts are right"),
    ("errors/teacher_kept", "wrong originals, rewritten wrong"),
    ("errors/teacher_made", "right originals, rewritten wrong"),
    ("errors/judge", "wrong chosen, though something is right"),
    ("score/rollout", "mean score of rollouts"),
    ("score/rewrite", "mean score of rewrites"),
    ("score/original", "mean score of originals"),
    ("judge/self_agreement", "judge: same verdict in both orders"),
    ("candidates/undecided", "candidates undecided"),
)
_CHANGES = (
    ("corpus/changed", "trained texts that are not the originals"),
    ("corpus/length", "their tokens, over the originals'"),
    ("corpus/vocabulary", "different tokens, over the originals'"),
    ("corpus/new_tokens", "tokens that the document has not"),
    ("rewrite/missing", "prefixes without a rewrite"),
)


def continuations(plotter: Plotter, view: str) -> Drawing | None:
    """Properties of continuations against updates (first row) and FLOPs (second row)."""
    stages = plotter.suffix_stages(view)
    panels = [(f"{mode}/{name}", f"{mode}, {name}") for name in _PROPERTIES for mode in ("sampled", "greedy")]
    found = [panel for panel in panels if plotter.has(stages, "eval", panel[0])]
    caption = "Held-out prefixes, by a judge that no training listens to; update 0 is the model that the stage got."
    words = (f"continuations-{view}", f"Continuations{_of(view)}", caption)
    return plotter.accuracies(stages, found[:4], "step", words, ylabel="mean over prefixes")


def said_again(plotter: Plotter, view: str) -> Drawing | None:
    """What continuations say twice, and what they copy."""
    stages = plotter.suffix_stages(view)
    panels = [
        (f"{mode}/{name}", f"{mode}, {title}")
        for name, title in (("repetition", "repeated"), ("copying", "copied from the prefix"))
        for mode in ("sampled", "greedy")
        if plotter.has(stages, "eval", f"{mode}/{name}")
    ]
    caption = "Shares of 4-grams of tokens. Who wins by these is read before it is believed."
    words = (f"said-again-{view}", f"Said again{_of(view)}", caption)
    return plotter.accuracies(stages, panels, "step", words, ylabel="mean over prefixes")


def heldout(plotter: Plotter, view: str) -> Drawing | None:
    """What the stage costs the suffixes that stand there: their perplexity."""
    stages = [stage for stage in plotter.suffix_stages(view) if plotter.has([stage], "eval", "heldout/perplexity")]
    panels = [("heldout/perplexity", "held-out documents, perplexity")] if stages else []
    caption = "Suffixes of documents set aside by evaluation.holdout, as they stand there; every token weighs the same."
    words = (f"heldout-suffixes-{view}", f"What stands there{_of(view)}", caption)
    return plotter.accuracies(stages, panels, "step", words, ylabel="perplexity")


def comparisons(plotter: Plotter, view: str) -> Drawing | None:
    """Win rates against the stage that `evaluation.against` names."""
    stages = [stage for stage in plotter.suffix_stages(view) if against(stage)]
    names = " or ".join(sorted({against(stage) for stage in stages}))
    words = (f"wins-{view}", f"Win rates{_of(view)}", f"Against {names}, as the config says for each arm.")
    return _wins(plotter, stages, words)


def against_originals(plotter: Plotter, view: str) -> Drawing | None:
    """Win rates of the stages that are compared with the originals."""
    stages = [stage for stage in plotter.suffix_stages(view) if not against(stage)]
    words = (f"wins-originals-{view}", f"Win rates against the originals{_of(view)}", "Against what stands there.")
    return _wins(plotter, stages, words)


def _wins(plotter: Plotter, stages: list[StageRecord], words: tuple[str, str, str]) -> Drawing | None:
    panels = [
        (f"{mode}/{name}", f"{mode}, {title}")
        for name, title in (
            ("win_rate", "win rate, ties one half"),
            ("likelihood_win_rate", "win rate by a frozen model"),
            ("ties", "ties"),
        )
        for mode in ("sampled", "greedy")
        if plotter.has(stages, "eval", f"{mode}/{name}")
    ]
    return plotter.accuracies(stages, panels, "step", words, ylabel="share of prefixes")


def choices(plotter: Plotter, view: str) -> Drawing | None:
    """Who wrote what is chosen and rejected, and how often candidates are equal or tie."""
    return _training(plotter, view, _CHOICES, "choices", "Who is chosen", shares=True)


def scores(plotter: Plotter, view: str) -> Drawing | None:
    """What a world's verifier says of the candidates, the training judge's scores by source, and its agreement."""
    return _training(plotter, view, _SCORES, "scores", "Candidates, by the verifier and by the judge", shares=False)


def changes(plotter: Plotter, view: str) -> Drawing | None:
    """What becomes of the corpus: how the texts that are trained differ from the suffixes that stood there."""
    return _training(plotter, view, _CHANGES, "corpus", "What is trained, beside the documents", shares=False)


def _training(
    plotter: Plotter, view: str, wanted: tuple[tuple[str, str], ...], name: str, title: str, shares: bool
) -> Drawing | None:
    stages = plotter.suffix_stages(view)
    panels = [panel for panel in wanted if plotter.has(stages, "train", panel[0])]
    if not panels:
        return None
    shown = [stage for stage in stages if any(plotter.has([stage], "train", key) for key, _ in panels)]
    columns = min(3, len(panels))
    rc: dict[Any, Any] = RC
    with matplotlib.rc_context(rc):
        fig, axes = grid(-(-len(panels) // columns), columns, width=3.7)
        flat = [ax for row in axes for ax in row]
        for ax, (key, panel_title) in zip(flat, panels, strict=False):
            for stage in shown:
                plotter.line(ax, stage, "train", "step", plain(key))
            ax.set_title(panel_title)
            if shares:
                share_axis(ax)
            x_axis(ax, "step")
        for ax in flat[len(panels) :]:
            ax.remove()
        legend(fig, [plotter.handle(stage.label, marker=False) for stage in shown])
        return plotter.save(fig, f"{name}-{view}", f"{title}{_of(view)}", plotter.smoothing(shown))


def _of(view: str) -> str:
    return f", view {view}" if view else ""
