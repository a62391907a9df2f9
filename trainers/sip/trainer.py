"""SIP: self-improving pretraining (arXiv 2601.21343). One update:

    prompts (prefix, suffix), as ids
      -> candidates: the original suffix, its rewrite, K rollouts of the policy          `propose`
      -> equal ids merged, judged, the best and the worst drawn                          `ask`
      -> what each prompt puts into the loss, and the update's denominator               `example`, `count`
      -> DPO:      mean over pairs of - log sigmoid(margin)                              `compute_loss`
         NLL:      mean over all trained tokens of the update of - log p
         GRPO:     - mean over candidates i of A_i mean over tokens t of r_it

All but the loss is done for the whole update before its first micro-batch. So the denominators (pairs, tokens,
candidates) are those of the update over all ranks, and loss and gradient do not depend on how it is split. Rewriter
and judge are asked in the background: rewrites are written while rollouts are sampled, and with `judge_parts` above 1
one part of the update's prompts is judged while the next is sampled.

In GRPO the ratio r is 1 at the current policy, r = p / stopped p, for every candidate: originals and rewrites have no
sampling log-probs, and rollouts are trained once. With a correction, a rollout's is p / mu (mu: as it was sampled).

Shapes: B rows, T tokens, N loss-bearing tokens, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ixt_rl.blocks.sip_choices import UNJUDGED
from ixt_rl.conditioning import Batch, prompt_completion
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.preference import dpo_loss, nll_loss, sequence_logprobs
from ixt_rl.rollout.trl_adapter import EngineRollouts, call_seed
from ixt_rl.trainers.prompt_stream import PromptTrainer
from ixt_rl.trainers.reference_policy import Reference
from ixt_rl.trainers.sip.config import SIPConfig
from ixt_rl.trainers.sip.groups import Group, Text, merge
from ixt_rl.trainers.sip.metrics import METRICS, Shares, Verified
from ixt_rl.trainers.sip.scoring import (
    Asked,
    CandidateScorer,
    Scoring,
    SuffixRewriter,
    at_update,
    counts_of,
    recount,
    tallies,
)
from ixt_rl.trainers.update_stream import Source
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

__all__ = ["Example", "SIPConfig", "SIPTrainer"]

_DRAWS = 3  # purpose of a seed, beside evaluation (0) and training (1) rollouts and InTRO's candidates (2)


@dataclass(frozen=True)
class Example:
    """What one prompt puts into the loss.

    Args:
        prefix_ids: seen, not trained.
        texts: of a pair, the chosen and the rejected.
        advantages: GRPO: of each text; empty otherwise.
    """

    prefix_ids: tuple[int, ...]
    texts: tuple[Text, ...]
    advantages: tuple[float, ...] = ()


class SIPTrainer(PromptTrainer):
    """SIP and its baselines on TRL's SFTTrainer, whose data and loss are replaced.

    To change the method, override one of:

    - `propose`: which candidates a prompt has;
    - `ask`: how they get their scores;
    - `example` and `count`: what of them is trained, and by what the loss is divided.

    Args:
        model: the policy.
        args: see `SIPConfig`.
        train_dataset: a `SuffixStream` or another source of `PrefixSuffix` with a cursor, or a list of them, which is
            repeated in another order each time.
        processing_class: the tokenizer.
        judge: scores candidates; for the judged objectives, and only for them. Undecided candidates are left out.
        rewriter: writes candidates of source `rewrite`, where `sources` has them.
        rollouts: samples, `EngineRollouts(engine)`; default: the model itself, in process.
        correction: `grpo` only: importance correction of what an engine outside the model sampled.
        verifier: correctness of texts on 0..1, or None, from (prefixes, originals, texts): logged, never trained on.
        other arguments: as in `trl.SFTTrainer`.

    Raises:
        ConfigError: judge, rewriter or correction do not go with the objective.
        BackendFailed: while training, judge or rewriter is down for longer than `judge_patience`. What was trained is
            in the last checkpoint then; a resumed run samples the same rollouts again, and a judge with a cache does
            not ask again for what was answered.
    """

    config_class: ClassVar[type] = SIPConfig
    _tag_names = ["trl", "ixt-rl", "sip"]
    _name = "SIP"

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: SIPConfig,
        train_dataset: Source[PrefixSuffix] | Sequence[PrefixSuffix],
        processing_class,
        *,
        judge: CandidateScorer | None = None,
        rewriter: SuffixRewriter | None = None,
        rollouts: EngineRollouts | None = None,
        correction: Correction | None = None,
        verifier: Callable[[list[str], list[str], list[str]], Sequence[float | None]] | None = None,
        **kwargs: Any,
    ):
        _check_parts(args, judge, rewriter, correction)
        super().__init__(model, args, train_dataset, processing_class, rollouts=rollouts, metrics=METRICS, **kwargs)
        self.judge, self.rewriter, self.correction, self.verifier = judge, rewriter, correction, verifier
        self.temperature = args.temperature if args.objective == "grpo" else 1.0
        compares = args.paired and args.reference != "none"
        self.reference = Reference(self, args.reference_sync_steps) if compares else None
        self.scoring = Scoring(self.accelerator, self.ledger, args.judge_patience, gave_up=self.save_now)

    # ---------------------------------------------------------------- override these

    def propose(self, items: Sequence[PrefixSuffix], part: int = 0) -> list[tuple[Text, ...]]:
        """The candidates of each prompt, equal ones merged.

        Args:
            items: this rank's prompts of one part of the update.
            part: number of the part.
        """
        rewrites = None if self.rewriter is None else self.scoring.start(self.rewriter, list(items), self.rewriter)
        found: list[list[tuple[Candidate, tuple[float, ...] | None]]] = [[] for _ in items]
        if "original" in self.args.sources:
            for of_item, item in zip(found, items, strict=True):
                of_item.append((self._candidate("original", item.suffix_ids), None))
        copies = self.args.num_generations
        if copies:
            rollouts = self.sample([tuple(item.prefix_ids) for item in items], copies, part)
            for index, rollout in enumerate(rollouts):
                candidate = self._candidate("rollout", rollout.completion_ids)
                found[index // copies].append((candidate, rollout.logprobs))
            self.means.add("rollout/tokens", [float(len(one.completion_ids)) for one in rollouts])
            self.means.add("rollout/ended", [float(one.finish_reason == "eos") for one in rollouts])
        if rewrites is not None:
            written = self.scoring.finish(rewrites)
            for of_item, rewrite in zip(found, written, strict=True):
                if rewrite is not None and rewrite.ids:
                    of_item.append((rewrite, None))
            self.means.add("rewrite/missing", [float(one is None or not one.ids) for one in written])
        return [merge([c for c, _ in one], [logprobs for _, logprobs in one]) for one in found]

    def ask(self, items: Sequence[PrefixSuffix], groups: Sequence[Group]) -> Asked | None:
        """Has the judge score the groups' candidates, in the background; None without a judge."""
        if self.judge is None:
            return None
        asked = [
            (self._decode(item.prefix_ids), self._decode(item.suffix_ids), [text.candidate for text in group.texts])
            for item, group in zip(items, groups, strict=True)
        ]
        judge = self.judge
        return self.scoring.start(lambda everyone: judge(*map(list, zip(*everyone, strict=True))), asked, judge)

    def example(self, group: Group) -> Example | None:
        """What a group puts into the loss; None where there is nothing to choose, or nothing decided."""
        if self.args.objective == "grpo":
            weighed = [(text, advantage) for text, advantage in group.advantages() if advantage]
            texts, advantages = zip(*weighed, strict=True) if weighed else ((), ())
            return Example(group.prefix_ids, texts, advantages) if texts else None
        if self.args.judged:
            wanted = [group.best, group.worst] if self.args.paired else [group.best]
        else:
            wanted = [group.written_by(source) for source in UNJUDGED[self.args.objective]]
        different = {text.ids: text for text in wanted if text is not None}
        return Example(group.prefix_ids, tuple(different.values())) if len(different) == len(wanted) else None

    def count(self, group: Group, example: Example | None) -> int:
        """What a group adds to the loss's denominator: a pair, its trained tokens, or its decided candidates."""
        if self.args.objective == "grpo":
            return sum(text.copies for text, _ in group.advantages())
        if example is None:
            return 0
        return 1 if self.args.paired else sum(len(text.ids) for text in example.texts)

    # ---------------------------------------------------------------- the update

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The next update's micro-batches: examples, spread evenly, and the denominator of the update."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self.model.train()
        items = [item for batch in batches for item in batch]
        self.check_lengths([item.prefix_ids for item in items])
        groups = self.judged(items)
        examples = [self.example(group) for group in groups]
        self._observe(groups, examples)
        self._verify(items, groups)
        local = sum(self.count(*pair) for pair in zip(groups, examples, strict=True))
        total = self.accelerator.reduce(torch.tensor(float(local), device=self.accelerator.device), "sum")
        made = [example for example in examples if example is not None]
        ends = [len(made) * part // len(batches) for part in range(len(batches) + 1)]
        parts = [made[first:last] for first, last in pairwise(ends)]
        return [{"examples": part, "total": total} for part in parts], None

    def judged(self, items: Sequence[PrefixSuffix]) -> list[Group]:
        """The groups of an update's prompts, with verdicts, and with their best and worst, if there is a judge."""
        for who in (self.judge, self.rewriter):
            at_update(who, self.state.global_step)
        number = min(self.args.judge_parts, len(items))
        ends = [len(items) * part // number for part in range(number + 1)]
        parts: list[tuple[list[Group], Asked | None]] = []
        for part, (first, last) in enumerate(pairwise(ends)):
            chosen = items[first:last]
            texts = self.propose(chosen, part)
            groups = [Group(tuple(item.prefix_ids), of_item) for item, of_item in zip(chosen, texts, strict=True)]
            parts.append((groups, self.ask(chosen, groups)))
        seed = call_seed(self.args.seed, self.state.global_step, _DRAWS)
        found: list[Group] = []
        for groups, asked in parts:
            if asked is None:
                found += groups
                continue
            answers = self.scoring.finish(asked)
            found += [group.judged(answer, seed) for group, answer in zip(groups, answers, strict=True)]
        return found

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The micro-batch's part of the update's loss, 0-d; `inputs` as `get_batch_samples` gives them."""
        examples: list[Example] = inputs["examples"]
        batch = self.collate([prompt_completion(e.prefix_ids, text.ids) for e in examples for text in e.texts])
        reference_N = None if self.reference is None else self._reference_logprobs(model, batch)
        self.ledger.add("train", int(batch.attention_mask.sum()))
        logp_N, auxiliary = self.trained_logprobs(model, batch, self.temperature)
        self.means.add("train/logp", logp_N)
        if not examples:
            return logp_N.sum() + auxiliary
        per_rank = inputs["total"] / self.accelerator.num_processes  # gradients of ranks are averaged
        if self.args.paired:
            return self._pair_loss(logp_N, reference_N, batch) / per_rank + auxiliary
        if self.args.objective == "grpo":
            return self._group_loss(logp_N, batch, examples) / per_rank + auxiliary
        return nll_loss(logp_N, per_rank) + auxiliary

    def _pair_loss(self, logp_N: Tensor, reference_N: Tensor | None, batch: Batch) -> Tensor:
        """Sum over pairs; rows are chosen, rejected, chosen, rejected, ..."""
        policy = sequence_logprobs(logp_N, batch.target_rows, len(batch.input_ids))
        reference: list[Tensor] = []
        if reference_N is not None:
            sums = sequence_logprobs(reference_N, batch.target_rows, len(batch.input_ids))
            reference = [sums[0::2], sums[1::2]]
        losses, stats = dpo_loss(policy[0::2], policy[1::2], self.args.beta, *reference)
        for name, values in vars(stats).items():
            self.means.add(f"dpo/{name}", values)
        return losses.sum()

    def _group_loss(self, logp_N: Tensor, batch: Batch, examples: Sequence[Example]) -> Tensor:
        """Sum over candidates of minus advantage times the mean ratio of their tokens."""
        texts = [text for example in examples for text in example.texts]
        rows_N, device = batch.target_rows, logp_N.device
        advantages = torch.tensor([one for example in examples for one in example.advantages], device=device)
        rollouts = torch.tensor([float(text.written["rollout"]) for text in texts], device=device)
        others = torch.tensor([float(text.copies) for text in texts], device=device) - rollouts
        sampled_N = torch.tensor([p for text in texts for p in text.logprobs or [nan] * len(text.ids)], device=device)
        log_ratio_N = logp_N.detach().float() - sampled_N
        self.means.add("mismatch/logp_abs", log_ratio_N.abs())
        weights_N = torch.ones_like(log_ratio_N)
        if self.correction is not None:
            weights_N = self.correction.weights(log_ratio_N, rows_N)
        lengths = batch.loss_mask.sum(dim=1)
        weights_N = (others[rows_N] + rollouts[rows_N] * weights_N) * (advantages / lengths)[rows_N]
        return -(weights_N * (logp_N - logp_N.detach()).exp()).sum()

    def _reference_logprobs(self, model: Any, batch: Batch) -> Tensor:
        assert self.reference is not None
        self.ledger.add("score", int(batch.attention_mask.sum()))
        with self.reference.active(model) as reference:
            return self.logprobs(reference, batch, self.temperature)

    # ---------------------------------------------------------------- logs and checkpoints

    def _observe(self, groups: Sequence[Group], examples: Sequence[Example | None]) -> None:
        shares = Shares()
        for group, example in zip(groups, examples, strict=True):
            skipped, absent = example is None, False
            if self.args.judged:
                shares.see(group, not skipped)
            else:
                absent = any(group.written_by(source) is None for source in self.args.sources)
            self.means.add("skipped/no_rewrite", [float(absent)])
            self.means.add("skipped/tie", [float(skipped and not absent and group.tied)])
            self.means.add("skipped/undecided", [float(skipped and not absent and not group.tied)])
        for name, values in shares.values.items():
            self.means.add(name, values)

    def _verify(self, items: Sequence[PrefixSuffix], groups: Sequence[Group]) -> None:
        if self.verifier is None:
            return
        texts = [(item, text) for item, group in zip(items, groups, strict=True) for text in group.texts]
        asked = [(item.prefix_ids, item.suffix_ids, text.ids) for item, text in texts]
        right = iter(self.verifier(*([self._decode(ids) for ids in column] for column in zip(*asked, strict=True))))
        verified = Verified()
        for group in groups:
            verified.see(group, [next(right) for _ in group.texts])
        for name, values in verified.values.items():
            self.means.add(name, values)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.judge is not None or self.rewriter is not None:
            logs |= {"judge/retries": self.scoring.retries, "judge/waited_seconds": self.scoring.waited}
        agreement = getattr(getattr(self.judge, "tally", None), "self_agreement", None)
        if agreement is not None:
            logs["judge/self_agreement"] = agreement
        super().log(logs, start_time)

    def after_update(self, update: int) -> None:
        if self.reference is not None:
            self.reference.after(update)

    def own_state(self) -> dict[str, Any]:
        asked = [counts_of(tally) for who in (self.judge, self.rewriter) for tally in tallies(who)]
        waits = {"retries": self.scoring.retries, "waited": self.scoring.waited}
        return {**super().own_state(), "asked": asked, **waits}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        found = [tally for who in (self.judge, self.rewriter) for tally in tallies(who)]
        for tally, saved in zip(found, state["asked"], strict=True):
            recount(tally, saved)
        self.scoring.retries, self.scoring.waited = state["retries"], state["waited"]

    def save_beside(self, folder: Path) -> None:
        if self.reference is not None:
            self.reference.save(folder)

    def load_beside(self, folder: Path) -> None:
        if self.reference is not None:
            self.reference.load(folder)

    # ---------------------------------------------------------------- helpers

    def _candidate(self, source: Any, ids: Sequence[int]) -> Candidate:
        return Candidate(source, tuple(ids), self._decode(ids))

    def _decode(self, ids: Sequence[int]) -> str:
        return self.processing_class.decode(ids, skip_special_tokens=True)


def _check_parts(
    args: SIPConfig,
    judge: CandidateScorer | None,
    rewriter: SuffixRewriter | None,
    correction: Correction | None,
) -> None:
    needs = {
        "judge": (judge, args.judged, f"objective={args.objective!r}"),
        "rewriter": (rewriter, "rewrite" in (args.sources or ()), f"sources={args.sources}"),
    }
    for name, (given, needed, why) in needs.items():
        if (given is not None) != needed:
            raise ConfigError(
                f"{'no ' if needed else 'a '}{name} with {why}",
                reason="its answers are needed" if needed else "its answers would not be used",
                remedy=f"give SIPTrainer a {name}" if needed else f"leave {name} out, or change the config",
            )
    if correction is not None and args.objective != "grpo":
        raise ConfigError(
            f"a correction with objective={args.objective!r}",
            reason="only grpo weighs rollouts by how likely they were sampled",
            remedy="leave correction out",
        )
