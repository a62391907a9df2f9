"""SIP's options, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from trl import SFTConfig

from ixt_rl.blocks.sip_choices import (
    UNJUDGED,
    Objective,
    ReferenceKind,
    candidate_sources,
    check_reference,
    rollouts_of_a_prompt,
)
from ixt_rl.errors import ConfigError
from ixt_rl.trainers.refused_options import PROMPTS, RATIO, refuse_options
from ixt_rl.trainers.sip.objectives import OBJECTIVES


@dataclass
class SIPConfig(SFTConfig):
    """`trl.SFTConfig` with SIP's options; SFT options it cannot honour are refused. `max_steps` is needed, unless
    the prompts end (`Repeated(..., passes=1)`, a `SuffixStream` of documents that do): then the updates of all their
    passes are counted.

    `per_device_train_batch_size` counts prompts.

    Args:
        objective: judged: `dpo`, the best candidate over the worst; `rf-nll`, NLL on the best; `grpo`, all by their
            advantage in the group. Baselines without a judge: `nll` on suffixes, `sft-rewrite`, `sft-rollout`, and
            `dpo-rewrite`, the rewrite over a rollout.
        sources: candidates to judge: `original`, `rewrite`, `rollout`, and those of the trainer's `sources` by their
            names; None: original and rollout, or what the baseline trains on.
        num_generations: K, rollouts a prefix; None: 16 for a judge, 1 for a baseline that trains on a rollout.
        max_completion_length: longest rollout, in tokens.
        temperature, top_p, top_k, min_p: how rollouts are sampled. Log-probs in the loss are those at temperature 1,
            with `grpo` those at the sampling temperature.
        beta: of DPO.
        reference: DPO's: a `frozen` copy of the initial model, one `synced` with the policy now and then, or `none`.
        reference_sync_steps: updates between two synchronizations; `synced` only.
        judge_parts: into how many parts the prompts of an update are split, so that one is judged while the next is
            sampled; 1: sampling ends before judging begins. Worth it with a judge that runs elsewhere. The rollouts
            of an update depend on it, as they do on the seed.
        judge_patience: seconds to wait in all for a judge or rewriter that is down, before the run stops; what was
            trained until then is saved as a checkpoint.
        ds3_gather_for_generation: ZeRO-3: whether the model is gathered to sample in process.
        disable_dropout: no dropout in training, LoRA's included: policy and reference are compared without noise.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    objective: Objective = field(default="dpo")
    sources: list[str] | None = field(default=None)
    num_generations: int | None = field(default=None)
    max_length: int | None = field(default=None)
    max_completion_length: int = field(default=128)
    temperature: float = field(default=1.0)
    top_p: float = field(default=1.0)
    top_k: int = field(default=0)
    min_p: float = field(default=0.0)
    beta: float = field(default=0.1)
    reference: ReferenceKind = field(default="frozen")
    reference_sync_steps: int | None = field(default=None)
    judge_parts: int = field(default=1)
    judge_patience: float = field(default=600.0)
    ds3_gather_for_generation: bool = field(default=True)
    disable_dropout: bool = field(default=True)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, PROMPTS, RATIO if self.objective == "grpo" else {})
        self._check_choices()
        self.sources = candidate_sources(self.objective, self.sources, known=None)  # the trainer knows them all
        self.num_generations = rollouts_of_a_prompt(
            self.objective, self.sources, self.num_generations, "num_generations"
        )
        check_reference(self.reference, self.reference_sync_steps)
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.remove_unused_columns = False
        self.ignore_data_skip = True  # the cursor knows better
        self.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]  # prompts are no tensors

    @property
    def judged(self) -> bool:
        return self.objective not in UNJUDGED

    @property
    def paired(self) -> bool:
        return OBJECTIVES[self.objective].loss == "pairs"

    def _check_choices(self) -> None:
        for name, value, known in (
            ("objective", self.objective, get_args(Objective)),
            ("reference", self.reference, get_args(ReferenceKind)),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name}={value!r}", reason="there is no such one", remedy=f"one of {', '.join(known)}"
                )
        for name, number, low in (
            ("max_completion_length", self.max_completion_length, 1),
            ("reference_sync_steps", self.reference_sync_steps, 1),
            ("judge_parts", self.judge_parts, 1),
            ("judge_patience", self.judge_patience, 0),
        ):
            if number is not None and not number >= low:
                raise ConfigError(f"{name}={number}", reason=f"it is at least {low}", remedy="give more")
        for name, above in (("beta", self.beta), ("temperature", self.temperature)):
            if not above > 0:
                raise ConfigError(f"{name}={above}", reason="it is above 0", remedy=f"give more, or leave {name} out")
