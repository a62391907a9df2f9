"""SIP's options, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from trl import SFTConfig

from ixt_rl.errors import ConfigError
from ixt_rl.trainers.options import PROMPTS, RATIO, refuse_options
from ixt_rl.types import CandidateSource

Objective = Literal["dpo", "rf-nll", "grpo", "nll", "sft-rewrite", "sft-rollout", "dpo-rewrite"]

UNJUDGED: dict[str, tuple[CandidateSource, ...]] = {
    "nll": ("original",),
    "sft-rewrite": ("rewrite",),
    "sft-rollout": ("rollout",),
    "dpo-rewrite": ("rewrite", "rollout"),
}
"""The baselines, which need no judge, and the candidates that each trains on."""

_JUDGED_ROLLOUTS = 16


@dataclass
class SIPConfig(SFTConfig):
    """`trl.SFTConfig` with SIP's options; SFT options it cannot honour are refused. `max_steps` is needed.

    `per_device_train_batch_size` counts prompts.

    Args:
        objective: judged: `dpo`, the best candidate over the worst; `rf-nll`, NLL on the best; `grpo`, all by their
            advantage in the group. Baselines without a judge: `nll` on suffixes, `sft-rewrite`, `sft-rollout`, and
            `dpo-rewrite`, the rewrite over a rollout.
        sources: candidates to judge, of `original`, `rewrite` and `rollout`; None: original and rollout, or what the
            baseline trains on.
        num_generations: K, rollouts a prefix; None: 16 for a judge, 1 for a baseline that trains on a rollout.
        max_completion_length: longest rollout, in tokens.
        temperature, top_p, top_k: how rollouts are sampled. Log-probs in the loss are those at temperature 1, with
            `grpo` those at the sampling temperature.
        beta: of DPO.
        reference: DPO's: a `frozen` copy of the initial model, one `synced` with the policy now and then, or `none`.
        reference_sync_steps: updates between two synchronizations; `synced` only.
        judge_patience: seconds to wait in all for a judge or rewriter that is down, before the run stops; what was
            trained until then is saved as a checkpoint.
        ds3_gather_for_generation: ZeRO-3: whether the model is gathered to sample in process.
    """

    objective: Objective = field(default="dpo")
    sources: list[str] | None = field(default=None)
    num_generations: int | None = field(default=None)
    max_length: int | None = field(default=None)
    max_completion_length: int = field(default=128)
    temperature: float = field(default=1.0)
    top_p: float = field(default=1.0)
    top_k: int = field(default=0)
    beta: float = field(default=0.1)
    reference: Literal["frozen", "synced", "none"] = field(default="frozen")
    reference_sync_steps: int | None = field(default=None)
    judge_patience: float = field(default=600.0)
    ds3_gather_for_generation: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, PROMPTS, RATIO if self.objective == "grpo" else {})
        self._check_choices()
        self.sources = self._sources()
        self.num_generations = self._rollouts()
        if self.max_steps <= 0:
            raise ConfigError(
                f"max_steps={self.max_steps}",
                reason="prompts stream by, and a stream has no length",
                remedy="set max_steps; documents / prompts of an update is one pass",
            )
        if (self.reference == "synced") != (self.reference_sync_steps is not None):
            raise ConfigError(
                f"reference={self.reference!r} with reference_sync_steps={self.reference_sync_steps}",
                reason="a synced reference needs its steps, and no other has any",
                remedy="give both (reference='synced', reference_sync_steps=100) or neither",
            )
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.remove_unused_columns = False
        self.ignore_data_skip = True  # the cursor knows better
        self.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]  # prompts are no tensors

    @property
    def judged(self) -> bool:
        return self.objective not in UNJUDGED

    @property
    def paired(self) -> bool:
        return self.objective in ("dpo", "dpo-rewrite")

    def _check_choices(self) -> None:
        for name, value, known in (
            ("objective", self.objective, get_args(Objective)),
            ("reference", self.reference, ("frozen", "synced", "none")),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name}={value!r}", reason="there is no such one", remedy=f"one of {', '.join(known)}"
                )
        for name, number, low in (
            ("max_completion_length", self.max_completion_length, 1),
            ("reference_sync_steps", self.reference_sync_steps, 1),
            ("judge_patience", self.judge_patience, 0),
        ):
            if number is not None and not number >= low:
                raise ConfigError(f"{name}={number}", reason=f"it is at least {low}", remedy="give more")
        for name, above in (("beta", self.beta), ("temperature", self.temperature)):
            if not above > 0:
                raise ConfigError(f"{name}={above}", reason="it is above 0", remedy=f"give more, or leave {name} out")

    def _sources(self) -> list[str]:
        own = UNJUDGED.get(self.objective)
        sources: list[str] = [*(own or ("original", "rollout"))] if self.sources is None else [*self.sources]
        wrong = [source for source in sources if source not in get_args(CandidateSource)]
        if wrong or not sources or len({*sources}) < len(sources):
            raise ConfigError(
                f"sources={sources}",
                reason="candidates are of one or more of these, each named once",
                remedy=f"choose of {', '.join(get_args(CandidateSource))}",
            )
        if own is not None and {*sources} != {*own}:
            raise ConfigError(
                f"sources={sources} with objective={self.objective!r}",
                reason=f"it trains on {' and '.join(own)}, and on nothing else",
                remedy="leave sources out",
            )
        if own is None and len(sources) == 1 and sources != ["rollout"]:
            raise ConfigError(
                f"sources={sources} with objective={self.objective!r}",
                reason="one candidate is nothing to choose from",
                remedy="give more sources",
            )
        return sources

    def _rollouts(self) -> int:
        asked = "rollout" in (self.sources or ())
        given = self.num_generations
        number = ((_JUDGED_ROLLOUTS if self.judged else 1) if asked else 0) if given is None else given
        alone = self.judged and self.sources == ["rollout"]
        if number < (2 if alone else int(asked)) or (not asked and number) or (not self.judged and number > 1):
            raise ConfigError(
                f"num_generations={number} with objective={self.objective!r} and sources={self.sources}",
                reason="a judge chooses from two candidates or more; a baseline trains on one rollout, if on any",
                remedy="leave num_generations out, or change sources",
            )
        return number
