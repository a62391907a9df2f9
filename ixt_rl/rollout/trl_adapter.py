"""A rollout engine as TRL's `rollout_func`, for this library's trainers and for anyone's GRPOTrainer.

    GRPOTrainer(..., rollout_func=EngineRollouts(engine))

One call, for an engine outside the trainer's model:

    prompts of all ranks -> main process -> [weights to the engine, if the policy has moved; parity probe]
      -> [tokens sampled ahead, or] engine.generate -> back to the ranks
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from accelerate.utils import gather_object
from trl.distributed import DistributedBackend
from trl.models.utils import add_hooks, remove_hooks, unwrap_model_for_generation

from ixt_rl.conditioning.prompts import Prompt, encode_prompt
from ixt_rl.errors import ConfigError, WeightsLost
from ixt_rl.rollout.asked import check_positions, repeats
from ixt_rl.rollout.draws import row_seeds
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.parity import PROBE_PROMPTS, check_in_process, check_parity, probe_sampling
from ixt_rl.rollout.sync import SharingRanks, from_rank_0, send_policy, with_policy
from ixt_rl.rollout.transformers_engine import TransformersEngine
from ixt_rl.rollout.weights.gathered import whole_on_every_rank
from ixt_rl.types import Rollout, SamplingParams, check_stop_strings

T = TypeVar("T")

_SAMPLER = -1
"""In place of the step in `EngineRollouts._synced`: the engine has the weights of the trainer's `sampler`."""


def call_seed(*parts: int) -> int:
    """A 63-bit seed from integers; equal parts give equal seeds in every process and run."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def step_seed(trainer: Any, purpose: int, ahead: int = 0, *, of_all: bool = False) -> int:
    """A seed for this micro-step and rank, or for the one `ahead` steps later, `of_all`: the same on all ranks; a
    resumed run gets those of the straight run."""
    micro_step = 0 if ahead else trainer._step % trainer.args.gradient_accumulation_steps
    rank = 0 if of_all else trainer.accelerator.process_index
    return call_seed(trainer.args.seed, trainer.state.global_step + ahead, micro_step, rank, purpose)


class EngineRollouts:
    """Calls an engine for TRL: prompts in, ids with log-probs out.

    TRL hands over this process's prompts with each one already repeated `num_generations` times. Sampling is
    seeded by (seed, step, micro-step), so a resumed run draws what the straight run drew, and several ranks draw what
    one process would, where rows draw from generators of their own (`decodes_in_slots`). Without an engine the
    trainer's own model samples, in process, and its log-probs are compared with the trainer's once, before it samples.
    An engine outside it belongs to rank 0, which calls it for all ranks; its weights follow the policy's, whatever
    wraps the model, and after each update its log-probs are compared.

    Args:
        engine: where to sample; None builds a `TransformersEngine` on the trainer's model. One outside it is
            rank 0's; the others have an `EngineOfRankZero` in its place.
        batch_size: rows generated at once by the default engine.
        staleness: batches that may be sampled ahead, by a policy up to that many updates old, while the trainer
            steps; 0 samples each batch from the policy it trains. Needs an engine with `submit` (`RayPool`) and a
            trainer of this library.
        parity_limit: largest |log-prob difference| between engine and trainer that training goes on with; None
            takes `ixt_rl.rollout.parity.default_limit` of the model's dtype. A trainer whose `args.self_checks` has
            `engine: False` is not compared with its own model.
        max_prompt_tokens: longer prompts lose their beginning; None: none does.
        stop: texts that end a completion (`ixt_rl.rollout.stops`). What this library's trainers show to rewards ends
            before them; TRL's own decodes all ids.
        ranks: of a run, which share its evaluations; None: each measures by itself what its own model samples.

    Raises:
        ConfigError: staleness with an engine that cannot sample in the background, or a stop string that is none.
    """

    def __init__(
        self,
        engine: RolloutEngine | None = None,
        batch_size: int = 256,
        *,
        staleness: int = 0,
        parity_limit: float | None = None,
        max_prompt_tokens: int | None = None,
        stop: Sequence[str] = (),
        ranks: SharingRanks | None = None,
    ):
        check_stop_strings(stop)
        if staleness and not hasattr(engine, "submit"):
            raise ConfigError(
                f"staleness={staleness} with {type(engine).__name__}",
                reason="it samples only while the trainer waits",
                remedy="use RayPool (engine.type: ray-vllm), or staleness 0",
            )
        self.engine = engine
        self.batch_size = batch_size
        self.staleness = staleness
        self.parity_limit = parity_limit
        self.max_prompt_tokens = max_prompt_tokens
        self.stop = tuple(stop)
        self._ranks = ranks
        self.upcoming: list[list[list[int]]] = []
        """Prompt ids of this process's next batches, set by the trainer when `staleness` is above 0."""
        self._ahead: dict[int, tuple[list[list[int]], Any]] = {}  # step -> prompts of all ranks, ticket
        self._synced: tuple[int, int] | None = None  # trainer and step whose weights the engine has
        self._compared: tuple[int, int] | None = None  # and with which log-probs were compared
        self._probe: list[list[int]] = []

    @property
    def in_process(self) -> bool:
        """Whether the trainer's own model samples."""
        return self.engine is None or isinstance(self.engine, TransformersEngine)

    def __call__(self, prompts: list[Prompt], trainer: Any) -> dict[str, list]:
        """prompt_ids, completion_ids, logprobs, finish_reason and policy_version, one each a prompt."""
        options = getattr(trainer.args, "chat_template_kwargs", None)
        return self.of_ids(
            [encode_prompt(trainer.processing_class, prompt, self.max_prompt_tokens, options) for prompt in prompts],
            trainer,
        )

    def of_ids(self, ids: list[list[int]], trainer: Any, part: int = 0) -> dict[str, list]:
        """As a call, of prompts that are ids already; `part` as in `sample`.

        Raises:
            DataError: one leaves no room for a completion.
        """
        check_positions(ids, trainer)
        rollouts = self.sample(ids, trainer, part)
        return {
            "prompt_ids": [list(r.prompt_ids) for r in rollouts],
            "completion_ids": [list(r.completion_ids) for r in rollouts],
            "logprobs": [list(r.logprobs) for r in rollouts],
            "finish_reason": [r.finish_reason for r in rollouts],
            "policy_version": [r.policy_version for r in rollouts],
        }

    def sample(self, ids: list[list[int]], trainer: Any, part: int = 0) -> list[Rollout]:
        """One rollout a prompt, from the trainer's current policy; all ranks call it.

        Args:
            ids: this process's prompts, repeated ones beside each other.
            trainer: as TRL hands it over.
            part: tells calls of one micro-step apart, so that each has noise of its own.
        """
        if not self.in_process:
            return self._from_engine(ids, trainer, part)
        compared = self._compared is not None and self._compared[0] == id(trainer)
        if not compared and getattr(trainer.args, "self_checks", {}).get("engine", True):
            self.compare(ids, trainer)
        with self._sampled_model(trainer) as model, self.in_process_engine(trainer, model) as engine:
            sampling = self._sampling(trainer, part=part)
            own: dict[str, Any] = _seeds_of_rank(len(ids), sampling, trainer)
            return [group[0] for group in engine.generate(ids, sampling, **own)]

    def compare(self, ids: list[list[int]], trainer: Any) -> float:
        """Samples a few prompts in process and compares the log-probs with the trainer's; all ranks call it.

        Returns:
            The largest |log-prob difference| of a sampled token, in nats.

        Raises:
            ParityError: it is above the limit.
        """
        everyone, _ = _of_all_ranks(ids, trainer)
        probe = [list(p) for p in dict.fromkeys(map(tuple, ids or everyone))][:PROBE_PROMPTS]
        with self.in_process_engine(trainer) as engine:
            rollouts = [group[0] for group in engine.generate(probe, probe_sampling(trainer))]
        difference = check_in_process(trainer, rollouts, self.parity_limit)  # with sharded weights sharded again
        self._compared = (id(trainer), trainer.state.global_step)
        return difference

    def evaluated(self, trainer: Any, measure: Callable[[RolloutEngine], T]) -> T:
        """`measure(engine)` of an engine with the trainer's current weights, anew where it loses them meanwhile; on
        rank 0 alone, unless in process without `ranks`. All ranks call it."""
        if self.in_process:
            with self.in_process_engine(trainer) as own:
                return measure(own) if self._ranks is None else self._ranks.shared(own, measure)
        engine = self.engine
        assert engine is not None
        decided = from_rank_0 if self._ranks is None else self._ranks.decided
        return with_policy(lambda again: self.sync(trainer, again), lambda: measure(engine), decided)

    @contextmanager
    def _sampled_model(self, trainer: Any) -> Iterator[Any]:
        """The model that training samples from: the policy, wrapped, or what the trainer's `sampler` has in its place.

        Yields None for the policy.
        """
        sampler = _sampler(trainer)
        if sampler is None:
            yield None
        else:
            with sampler.active(trainer.model_wrapped) as model:
                yield model

    @contextmanager
    def in_process_engine(self, trainer: Any, model: Any = None) -> Iterator[TransformersEngine]:
        """An engine on the trainer's own model, or another one that is wrapped alike; gathered where it is sharded."""
        wrapped, version = trainer.model_wrapped, trainer.state.global_step
        if model is not None:
            wrapped, version = model, 0
        with whole_model(trainer, wrapped) as model, trainer.accelerator.autocast():
            engine = self.engine
            if not isinstance(engine, TransformersEngine):
                tokenizer = trainer.processing_class
                engine = TransformersEngine(
                    model, trainer.eos_token_ids, tokenizer.pad_token_id, self.batch_size, tokenizer
                )
            engine.model = model
            engine.update_weights((), version)
            yield engine

    def sync(self, trainer: Any, again: bool = False) -> None:
        """Moves the engine to the policy's current weights, once a step or `again`, and compares log-probs. All ranks
        call it.

        Raises:
            ParityError: the engine's log-probs are further from the trainer's than the limit.
        """
        now = (id(trainer), trainer.state.global_step)
        assert self.engine is not None
        if again or self._synced != now:
            engine = self.engine if trainer.accelerator.is_main_process else None
            send_policy(engine, trainer.model_wrapped, trainer.state.global_step)
            self._synced = now
        if self._probe and self._compared != now:
            check_parity(self.engine, trainer, self._probe, self.parity_limit)
            self._compared = now

    def _follow(self, trainer: Any) -> None:
        """Moves the engine to what training samples from: the policy, or the trainer's `sampler`."""
        if _sampler(trainer) is None:
            self.sync(trainer)
            return
        if self._compared is None or self._compared[0] != id(trainer):
            self.sync(trainer)  # log-probs are compared with the policy's
        now = (id(trainer), _SAMPLER)
        if self._synced != now:
            with self._sampled_model(trainer) as model:
                send_policy(self.engine if trainer.accelerator.is_main_process else None, model, 0)
            self._synced = now

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self, trainer: Any) -> dict[str, Any]:
        """What was sampled ahead and what log-probs are compared on, for a checkpoint. All ranks call it; it waits for
        the rollouts under way, and they stay those of the batches they were sampled for."""
        ahead: list[tuple[int, list[list[int]], list[dict[str, Any]]]] = []
        now = trainer.state.global_step
        for step, (prompts, ticket) in self._ahead.items():
            rollouts = self._sampled(ticket, partial(self._start, prompts, trainer, step - now), trainer)
            self._ahead[step] = (prompts, [rollouts])
            ahead.append((step, prompts, [vars(rollout) for rollout in rollouts]))
        compared = self._compared[1] if self._compared is not None else None
        return {"ahead": ahead, "probe": self._probe, "compared": compared}

    def load_state_dict(self, state: dict[str, Any], trainer: Any) -> None:
        """Goes on from what `state_dict` gave."""
        self._ahead = {step: (prompts, [[Rollout(**row) for row in rows]]) for step, prompts, rows in state["ahead"]}
        self._probe = state["probe"]
        self._compared = None if state["compared"] is None else (id(trainer), state["compared"])

    # ---------------------------------------------------------------- helpers

    def _sampling(self, trainer: Any, ahead: int = 0, part: int = 0) -> SamplingParams:
        args = trainer.args
        seed = step_seed(trainer, int(trainer.model.training), ahead, of_all=True)
        return SamplingParams(
            max_new_tokens=args.max_completion_length,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k or 0,  # None is all, too
            min_p=args.min_p or 0.0,
            stop=self.stop,
            seed=call_seed(seed, part) if part else seed,
        )

    def _from_engine(self, ids: list[list[int]], trainer: Any, part: int) -> list[Rollout]:
        """This rank's rollouts; the engine is called by rank 0 for all ranks."""
        everyone, first = _of_all_ranks(ids, trainer)
        if not self._probe:
            self._probe = [list(p) for p in dict.fromkeys(map(tuple, everyone))][:PROBE_PROMPTS]
        if self.staleness and trainer.model.training:
            rollouts = self._overlapped(everyone, trainer)
        else:
            self._follow(trainer)
            rollouts = self._sampled(None, lambda: self._start(everyone, trainer, part=part), trainer)
        return rollouts[first : first + len(ids)]

    def _overlapped(self, everyone: list[list[int]], trainer: Any) -> list[Rollout]:
        """What was sampled ahead for this step, if anything was; then starts the batches of the next steps."""
        step = trainer.state.global_step
        prompts, ticket = self._ahead.pop(step, (None, None))
        if prompts != everyone:  # the first batch of an epoch, or of a resumed run
            self._ahead.clear()
            self._follow(trainer)
            ticket = None
        rollouts = self._sampled(ticket, lambda: self._start(everyone, trainer), trainer)
        self._follow(trainer)
        for ahead, batch in enumerate(self.upcoming, start=1):
            if step + ahead not in self._ahead and step + ahead < trainer.state.max_steps:
                check_positions(batch, trainer)
                later, _ = _of_all_ranks(batch, trainer)
                self._ahead[step + ahead] = (later, self._begun(later, trainer, ahead))
        return rollouts

    def _begun(self, everyone: list[list[int]], trainer: Any, ahead: int) -> Any:
        """What `_start` gives on rank 0, where it stays; None elsewhere."""
        begun: list[Any] = [None]
        from_rank_0(lambda: begun.append(self._start(everyone, trainer, ahead)))
        return begun[-1]

    def _start(self, everyone: list[list[int]], trainer: Any, ahead: int = 0, part: int = 0) -> Any:
        """Starts sampling, on rank 0: a ticket, or the rollouts where the engine has no `submit`."""
        engine: Any = self.engine
        groups, n = repeats(everyone)
        start = getattr(engine, "submit", engine.generate)
        return start(groups, self._sampling(trainer, ahead, part), n)

    def _sampled(self, started: Any, start: Callable[[], Any], trainer: Any) -> list[Rollout]:
        """The rollouts of what `_start` gave, on every rank; started anew if the engine lost the policy's weights."""
        while (rollouts := from_rank_0(partial(_finished, started, start))) is None:
            self._synced = started = None
            self._follow(trainer)
        return rollouts


def _finished(started: Any, start: Callable[[], Any]) -> list[Rollout] | None:
    """All rollouts of what was started, or else starts now; None: the engine lost the policy's weights."""
    with suppress(WeightsLost):
        started = start() if started is None else started
        groups = started.result() if hasattr(started, "result") else started
        return [rollout for group in groups for rollout in group]
    return None


def _of_all_ranks(ids: list[list[int]], trainer: Any) -> tuple[list[list[int]], int]:
    """The prompts of all ranks in their order, and where this one's begin."""
    parts = gather_object([ids])
    return [prompt for part in parts for prompt in part], sum(map(len, parts[: trainer.accelerator.process_index]))


def _seeds_of_rank(rows: int, sampling: SamplingParams, trainer: Any) -> dict[str, Any]:
    """Of several ranks, the `seeds` that this one's rows have among those of all; nothing in one process."""
    if trainer.accelerator.num_processes == 1 or not sampling.temperature:
        return {}
    counts = gather_object([rows])
    first = sum(counts[: trainer.accelerator.process_index])
    return {"seeds": row_seeds(sum(counts), sampling.seed)[first : first + rows]}


@contextmanager
def whole_model(trainer: Any, wrapped: Any) -> Iterator[Any]:
    """The plain model of a `wrapped` one with all weights in this process: passes through it wait for no other rank."""
    accelerator, kwargs = trainer.accelerator, trainer.args.gradient_checkpointing_kwargs
    # ZeRO-3 is gathered before: all weights at once could be read on CPUs before they have come
    unwrapped = unwrap_model_for_generation(wrapped, accelerator, False, gradient_checkpointing_kwargs=kwargs)
    fsdp1 = DistributedBackend(accelerator).summon_full_params(wrapped, recurse=False)
    with whole_on_every_rank(wrapped, remove_hooks, add_hooks), unwrapped as model, fsdp1:
        yield model


def _sampler(trainer: Any) -> Any:
    """What a trainer's rollouts are sampled from in the policy's place (`trainers.star`); None: the policy, as always
    in evaluation."""
    return getattr(trainer, "sampler", None) if trainer.model.training else None
