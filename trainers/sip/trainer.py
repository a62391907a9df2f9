"""SIP: self-improving pretraining (arXiv 2601.21343). One update:

    prompts (prefix, suffix), as ids
      -> candidates: the original suffix, K rollouts of the policy, what `sources` write  `propose`
      -> equal ids merged, judged, the best and the worst drawn                          `judged`, `ask`
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

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel

from ixt_rl.conditioning import Batch, prompt_completion
from ixt_rl.kernels.correction import Correction
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.rollout.trl_adapter import EngineRollouts, call_seed
from ixt_rl.trainers.hooks import hook
from ixt_rl.trainers.prompt_stream import PromptTrainer
from ixt_rl.trainers.reference_policy import Reference
from ixt_rl.trainers.sip.changes import changes, trained_texts
from ixt_rl.trainers.sip.config import SIPConfig
from ixt_rl.trainers.sip.filters import CandidateFilter, filter_names, filtered_groups
from ixt_rl.trainers.sip.groups import Group, Proposed
from ixt_rl.trainers.sip.losses import candidate_loss, pair_loss
from ixt_rl.trainers.sip.metrics import all_sources, choices, metric_names, verified
from ixt_rl.trainers.sip.objectives import OBJECTIVES, Example, Objective
from ixt_rl.trainers.sip.parts import asked_sources, check_parts, check_proposed
from ixt_rl.trainers.sip.scoring import Asked, CandidateScorer, CandidateWriter, Scoring, at_update, candidates_of
from ixt_rl.trainers.update_stream import Resumable
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

_DRAWS = 3  # purpose of a seed, beside evaluation (0) and training (1) rollouts and InTRO's candidates (2)


class SIPTrainer(PromptTrainer):
    """SIP and its baselines on TRL's SFTTrainer, whose data and loss are replaced.

    To change the method, give it further sources of candidates, or override `propose` (which candidates a prompt has),
    `ask` (how they get their scores), `example` and `count` (what of them is trained, what the loss is divided by).

    Attributes:
        sources: further sources of candidates by name, which `SIPConfig.sources` chooses from; a subclass may set it.

    Args:
        model: the policy.
        args: see `SIPConfig`.
        train_dataset: a `SuffixStream` or another source of `PrefixSuffix` with a cursor, or a list of them, which is
            repeated in another order each time.
        processing_class: the tokenizer.
        judge: scores candidates; for the judged objectives, and only for them. Undecided candidates are left out.
        rewriter: writes candidates of source `rewrite`, where `SIPConfig.sources` has them.
        sources: further sources of candidates by name, each a `CandidateWriter`; all are in `SIPConfig.sources`. A name
            gives metrics their names: `chosen/<name>`, `score/<name>`, `<name>/missing`, ...
        filters: which candidates may be judged, by the name that logs call a filter (`filters.py`).
        rollouts: samples, `EngineRollouts(engine)`; default: the model itself, in process.
        correction: `grpo` only: importance correction of what an engine outside the model sampled.
        verifier: correctness of texts on 0..1, or None, from (prefixes, originals, texts): logged, never trained on.
        other arguments: as in `trl.SFTTrainer`.

    Raises:
        ConfigError: judge, rewriter, sources or correction do not go with the config, or a hook has other arguments.
        BackendFailed: while training, judge or rewriter is down for longer than `judge_patience`. What was trained is
            in the last checkpoint then; a resumed run samples the same rollouts again, and a judge with a cache does
            not ask again for what was answered.
    """

    config_class: ClassVar[type] = SIPConfig
    _tag_names = ["trl", "ixt-rl", "sip"]
    _name = "SIP"
    sources: Mapping[str, CandidateWriter] = {}

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: SIPConfig,
        train_dataset: Resumable[PrefixSuffix] | Sequence[PrefixSuffix],
        processing_class,
        *,
        judge: CandidateScorer | None = None,
        rewriter: CandidateWriter | None = None,
        sources: Mapping[str, CandidateWriter] | None = None,
        filters: Mapping[str, CandidateFilter] | None = None,
        rollouts: EngineRollouts | None = None,
        correction: Correction | None = None,
        verifier: Callable[[list[str], list[str], list[str]], Sequence[float | None]] | None = None,
        **kwargs: Any,
    ):
        check_parts(args, judge, rewriter, correction)
        complete = type(self).propose is SIPTrainer.propose
        self.sources = asked_sources(args.sources or [], type(self).sources, sources or {}, rewriter, complete)
        self.named_sources = all_sources(args.sources or [])
        self.filters = filters or {}
        metrics = (*metric_names(self.named_sources), *filter_names(self.filters))
        super().__init__(model, args, train_dataset, processing_class, rollouts=rollouts, metrics=metrics, **kwargs)
        self.judge, self.rewriter, self.correction, self.verifier = judge, rewriter, correction, verifier
        self.objective: Objective = OBJECTIVES[args.objective]
        self.temperature = args.temperature if args.objective == "grpo" else 1.0
        compares = args.paired and args.reference != "none"
        self.reference = Reference(self, args.reference_sync_steps) if compares else None
        self.scoring = Scoring(self.accelerator, self.ledger, args.judge_patience, gave_up=self.save_now)

    # ---------------------------------------------------------------- override these

    @hook
    def propose(self, items: Sequence[PrefixSuffix], part: int = 0) -> list[list[Proposed]]:
        """The candidates of each prompt, in any order, equal ones not merged.

        Args:
            items: this rank's prompts of one part of the update.
            part: number of the part.
        """
        asked = {name: self.scoring.start(source, list(items), source) for name, source in self.sources.items()}
        original = "original" in self.args.sources
        found = [[Proposed(self.candidate("original", item.suffix_ids))] if original else [] for item in items]
        copies = self.args.num_generations
        if copies:
            rollouts = self.sample([tuple(item.prefix_ids) for item in items], copies, part)
            for index, rollout in enumerate(rollouts):
                candidate = self.candidate("rollout", rollout.completion_ids, self.rollouts.stop)
                found[index // copies].append(Proposed(candidate, rollout.logprobs, rollout.finish_reason))
            self.means.add("rollout/tokens", [float(len(one.completion_ids)) for one in rollouts])
            self.means.add("rollout/ended", [float(one.finish_reason != "length") for one in rollouts])
        for name, question in asked.items():
            written = [candidates_of(name, answer) for answer in self.scoring.finish(question)]
            for of_item, several in zip(found, written, strict=True):
                of_item += [Proposed(candidate) for candidate in several]
            self.means.add(f"{name}/missing", [float(not several) for several in written])
        return found

    @hook
    def ask(self, items: Sequence[PrefixSuffix], groups: Sequence[Group]) -> Asked | None:
        """Has the judge score the groups' candidates, in the background; None without a judge."""
        if self.judge is None:
            return None
        asked = [
            (self.text(item.prefix_ids), self.text(item.suffix_ids), [text.candidate for text in group.texts])
            for item, group in zip(items, groups, strict=True)
        ]
        judge = self.judge
        return self.scoring.start(lambda everyone: judge(*map(list, zip(*everyone, strict=True))), asked, judge)

    @hook
    def example(self, group: Group) -> Example | None:
        """What a group puts into the loss; None where there is nothing to choose, or nothing decided."""
        return self.objective.example(group)

    @hook
    def count(self, group: Group, example: Example | None) -> int:
        """What a group adds to the loss's denominator: a pair, its trained tokens, or its decided candidates."""
        return self.objective.count(group, example)

    # ---------------------------------------------------------------- the update

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The next update's micro-batches: examples, spread evenly, and the denominator of the update."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self.model.train()
        items = self.prompts_of(batches)
        self.check_lengths([item.prefix_ids for item in items])
        groups = self.judged(items)
        examples = [self.example(group) for group in groups]
        measured = choices(groups, examples, self.args.judged, self.args.sources, self.named_sources)
        of_all = gather_object(trained_texts(items, examples))  # different tokens are no sum over ranks
        for name, values in {**measured, **self._verified(items, groups, examples), **changes(of_all)}.items():
            self.means.add(name, values)
        local = sum(self.count(*pair) for pair in zip(groups, examples, strict=True))
        total = self.accelerator.reduce(torch.tensor(float(local), device=self.accelerator.device), "sum")
        made = [example for example in examples if example is not None]
        ends = [len(made) * part // num_batches for part in range(num_batches + 1)]  # prompts may end amid an update
        parts = [made[first:last] for first, last in pairwise(ends)]
        return [{"examples": part, "total": total} for part in parts], None

    def judged(self, items: Sequence[PrefixSuffix]) -> list[Group]:
        """The groups of an update's prompts, with verdicts, and with their best and worst, if there is a judge."""
        for who in self._asked():
            at_update(who, self.state.global_step)
        most = self.accelerator.gather(torch.tensor(len(items), device=self.accelerator.device)).max()
        number = min(self.args.judge_parts, int(most))  # on all ranks, whose parts are judged together
        ends = [len(items) * part // number for part in range(number + 1)]
        parts: list[tuple[list[Group], Asked | None]] = []
        for part, (first, last) in enumerate(pairwise(ends)):
            chosen = items[first:last]
            proposed = [check_proposed(of_item, self.named_sources) for of_item in self.propose(chosen, part)]
            groups = filtered_groups(self.filters, chosen, proposed, self.processing_class, self.means.add)
            open_ = [(item, group) for item, group in zip(chosen, groups, strict=True) if not group.fallback]
            parts.append((groups, self.ask([item for item, _ in open_], [group for _, group in open_])))
        seed = call_seed(self.args.seed, self.state.global_step, _DRAWS)
        found: list[Group] = []
        for groups, asked in parts:
            answers = iter([] if asked is None else self.scoring.finish(asked))
            unasked = [asked is None or group.fallback for group in groups]
            found += [g if done else g.judged(next(answers), seed) for g, done in zip(groups, unasked, strict=True)]
        return found

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The micro-batch's part of the update's loss, 0-d; `inputs` as `get_batch_samples` gives them."""
        examples: list[Example] = inputs["examples"]
        batch = self.collate([prompt_completion(e.prefix_ids, text.ids) for e in examples for text in e.texts])
        reference_N = None if self.reference is None else self._reference_logprobs(model, batch)
        self.ledger.add("train", batch.counted)
        per_rank = inputs["total"] / self.accelerator.num_processes  # gradients of ranks are averaged
        if self.objective.loss != "pairs" and examples:
            nll = partial(self.trained_nll, model, batch, self.temperature)
            graded = self.objective.loss == "candidates"
            found = candidate_loss(nll, batch, examples, self.correction, self.means.add) if graded else nll()
            loss, logp_N, auxiliary = found
            self.means.add("train/logp", logp_N)
            return loss / per_rank + auxiliary
        logp_N, auxiliary = self.trained_logprobs(model, batch, self.temperature)
        self.means.add("train/logp", logp_N)
        if not examples:
            return logp_N.sum() + auxiliary
        return pair_loss(logp_N, reference_N, batch, self.args.beta, self.means.add) / per_rank + auxiliary

    def _reference_logprobs(self, model: Any, batch: Batch) -> Tensor:
        assert self.reference is not None
        self.ledger.add("score", batch.counted)
        with self.reference.active(model) as reference:
            return self.logprobs(reference, batch, self.temperature)

    # ---------------------------------------------------------------- logs and checkpoints

    def _verified(
        self, items: Sequence[PrefixSuffix], groups: Sequence[Group], examples: Sequence[Example | None]
    ) -> dict[str, list[float]]:
        if self.verifier is None:
            return {}
        texts = [(item, text) for item, group in zip(items, groups, strict=True) for text in group.texts]
        asked = [(self.text(item.prefix_ids), self.text(item.suffix_ids), text.candidate.text) for item, text in texts]
        right = self.verifier(*map(list, zip(*asked, strict=True))) if asked else []
        return verified(groups, examples, right, self.named_sources)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.judge is not None or self.sources:
            logs |= {"judge/retries": self.scoring.retries, "judge/waited_seconds": self.scoring.waited}
        agreement = getattr(getattr(self.judge, "tally", None), "self_agreement", None)
        if agreement is not None:
            logs["judge/self_agreement"] = agreement
        super().log(logs, start_time)

    def after_update(self, update: int) -> None:
        if self.reference is not None:
            self.reference.after(update)

    def own_state(self) -> dict[str, Any]:
        return {**super().own_state(), **self.scoring.state_dict(self._asked())}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.scoring.load_state_dict(state, self._asked())

    def save_beside(self, folder: Path) -> None:
        if self.reference is not None:
            self.reference.save(folder)

    def load_beside(self, folder: Path) -> None:
        if self.reference is not None:
            self.reference.load(folder)

    # ---------------------------------------------------------------- helpers

    def candidate(self, source: str, ids: Sequence[int], stop: Sequence[str] = ()) -> Candidate:
        """A candidate of these ids, with their text."""
        return Candidate(source, tuple(ids), self.text(ids, stop))

    def text(self, ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        """What a judge reads of ids: no special tokens, and nothing from a stop string on."""
        return text_before_stop(self.processing_class, ids, stop)

    def _asked(self) -> list[Any]:
        """Judge and sources, as far as there are any."""
        return [who for who in (self.judge, *self.sources.values()) if who is not None]
