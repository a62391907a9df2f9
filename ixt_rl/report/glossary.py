"""What the words and metric names of a report mean; the page shows those that occur in the run."""

from __future__ import annotations

from ixt_rl.methods.registry import SPECS

GLOSSARY = {
    "sampled, greedy, told": "how held-out problems are answered: sampled from the policy, its most likely tokens, "
    "and sampled with the right answer shown in the prompt",
    "view": "what the reward looks at: the whole answer or a coarse part of it, such as its parity; or the data file",
    "checked": "share of completions whose answer passes the reward's check; of a reward of other values than 0 and 1 "
    "its mean",
    "strict": "share in which every step is right, whatever the reward looks at",
    "lucky share": "share of the checked completions that are not strict: right by luck",
    "undecided": "share that the reward could call neither right nor wrong; excluded from `checked`",
    "undecided as 0": "`checked` with every undecided completion counted as 0: a lower bound where no score is below",
    "no reasoning": "share of completions that give an answer without steps",
    "length": "mean tokens of a completion",
    "truncated": "share of completions cut off at the token limit",
    "FLOPs": "of the stage: sampling, passes of the model that is told, passes that only score (of a reference model, "
    "of the policy that sampled, of answers after a rationale), training, and what judges and rewriters of known size "
    "read and wrote; evaluation left out; G is 10⁹, T is 10¹²",
    "trained tokens": "of documents and the feedback with them, once for every time they are seen; "
    "stages on documents that this one goes on from are included, in FLOPs and annotation too",
    "worst prefix": "the worst feedback in place of the best before every problem: it should make the model worse",
    "no prefix": "no feedback before the problem: what the model does when not asked for quality",
    "right": "share of continuations without any error, by a judge that no training listens to",
    "quality, factuality, safety": "of continuations, mean of that judge's scores on 0 to 1",
    "win rate": "share of prefixes where the continuation is better than the other side's, by that judge, a tie "
    "counting one half; without ties: wins over wins and losses; its 95 % interval is clustered by document where "
    "one gives several prefixes",
    "grounding": "of continuations, how much of what they state their prefix and the original bear out; by a program: "
    "the share of their names and numbers that stand there",
    "repetition": "mean share of a continuation's 4-grams of tokens that it has said before",
    "copied from the prefix": "mean share of a continuation's 4-grams of tokens that its prefix has",
    "likelihood": "mean log-prob a token, in nats, that a frozen model gives continuations after it has read the true "
    "text",
    "likelihood win rate": "share of prefixes where that model finds the continuation likelier than the other side's",
    "ended": "share of continuations that ended by themselves",
    "chosen/rollout": "share of rollouts among the chosen candidates; `raw`: before equal texts are merged; `alone`: "
    "texts that only a rollout wrote",
    "ties/best": "share of prefixes where several texts have the highest score, and one of them is drawn",
    "candidates/identical": "share of candidates whose text another candidate of the prefix has too",
    "filtered/all": "share of prefixes of which every candidate but the document's own suffix was filtered",
    "verified/chosen": "share of the chosen texts that are right, by a verifier that no training listens to",
    "verified/any_rollout": "share of prefixes with some rollout that is right, by the same",
    "errors/teacher_kept": "of the prefixes whose own suffix is wrong, by that verifier, those whose rewrite is too",
    "errors/teacher_made": "of the prefixes whose own suffix is right, those whose rewrite is wrong",
    "errors/judge": "of the prefixes with a right candidate, those where a wrong one is chosen",
    "corpus/changed": "share of prefixes whose trained text is not the document's own suffix",
    "corpus/length": "tokens of the trained texts, over those of the documents' own suffixes",
    "corpus/vocabulary": "different tokens in an update's trained texts, over those in its own suffixes",
    "corpus/new_tokens": "share of the trained texts' tokens that stand nowhere in their document",
    "heldout/loss": "mean negative log-likelihood, in nats a token, of documents that are not trained, shown without "
    "feedback; with a name in between, of one source",
    "heldout/perplexity": "e to the power of that loss",
    "pairs/margin": "by how much the better reply to an unseen prompt is likelier than the worse, in nats, both cut to "
    "the shorter one's length; a mean over pairs, under the wish behind the @ (without one the arm's own); in brackets "
    "its interval, 95 %, over conversations",
    "pairs/accuracy": "share of unseen pairs with a margin above 0",
    "pairs/perplexity": "of the better replies to unseen prompts, as far as they are measured",
    "pairs@none/drop": "by how much that margin is lower than under the wish before; `drop_p` is its two-sided p-value",
    "pairs@worst/drop": "the same under the worst wish",
    "rollout/kept": "share of the training rollouts that are trained on: the rewards that decide reach keep_reward",
    "rollout/trained": "share of the training rollouts that are trained on: those with an advantage that is not 0",
    "rollout/drawn_again": "groups of rollouts that a batch took beyond its own, in place of those that teach nothing",
    "rollout/lucky_of_kept": "share of the kept (where all are trained on: right) training rollouts that are not "
    "right in every step",
    "rollout/reasoned": "share of training rollouts that have steps",
    "rollout/undecided": "share of training rollouts that do not count: a reward they need is undecided, or failed",
    "source/<name>/...": "of the training rollouts, or held-out problems, of one source of problems, by its name; the "
    "metric without that is over all of them",
    "entropy": "entropy of the policy's next-token distribution, in nats",
}
GLOSSARY |= {name: says for spec in SPECS for name, says in spec.report.glossary.items()}
"""Name or words -> meaning. Names with `_` or `/` are keys of metrics.jsonl."""


def glossary(keys: set[str]) -> list[tuple[str, str]]:
    """The entries that concern a run with these metric names."""
    keys = keys | {"source/<name>/..." for key in keys if key.startswith("source/")}
    suffixes = {key.rsplit("/", 1)[-1] for key in keys}
    modes = {key.partition("/")[0].partition("@")[::2] for key in keys}
    suffixes |= {wish for _, wish in modes}
    needs = {
        "sampled, greedy, told": "answered",
        "view": "checked",
        "lucky share": "lucky_of_checked",
        "undecided as 0": "checked_lower",
        "no reasoning": "reasoned",
        "FLOPs": "flops",
        "trained tokens": "tokens",
        "worst prefix": "worst",
        "no prefix": "none",
        "win rate": "win_rate",
        "likelihood win rate": "likelihood_win_rate",
        "copied from the prefix": "copying",
        "quality, factuality, safety": "quality",
    }
    if any(how in ("sampled", "greedy", "told") for how, _ in modes):
        suffixes.add("answered")
    shown = []
    for name, meaning in GLOSSARY.items():
        is_key = "_" in name or "/" in name or name == "entropy"
        if name in keys if is_key else needs.get(name, name) in suffixes:
            shown.append((name, meaning))
    return shown
