"""vLLM in this process, without children unless the model is sharded; stepped by its owner.

`VLLMEngine.generate` is a loop over `add` and `step`, which the workers of a pool drive themselves. vLLM is imported
when an engine is built.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ixt_rl.backends import require
from ixt_rl.errors import ConfigError, WeightMismatch
from ixt_rl.rollout import vllm_worker
from ixt_rl.rollout.stops import ends_early
from ixt_rl.rollout.vllm_requests import VllmRequest, make_requests
from ixt_rl.rollout.vllm_stops import watch_ends, written
from ixt_rl.rollout.weights.broadcast import Meeting
from ixt_rl.rollout.weights.manifest import TensorEntry, whole_set
from ixt_rl.types import FinishReason, Rollout, SamplingParams
from ixt_rl.under_way import UnderWay, WatchUnderWay

CPU_KV_CACHE_GIB = 1.0
"""KV cache on a machine without a GPU, where vLLM would take 90 % of the memory."""

CPU_BLOCK = 32
"""Tokens of a KV block on CPU; vLLM's 128 there would share no prefix shorter than that."""


class VLLMEngine:
    """vLLM on one copy of a model, in this process; a `RolloutEngine`.

    - Completions end at the first of `eos_ids` and keep it, or with the token that completes one of
      `SamplingParams.stop`; nothing else stops them, whatever the model's folder says.
    - Log-probs are those of the distribution sampled from, after temperature and truncation. At temperature 0, of
      the plain softmax; `top_p` and `top_k` are then ignored.
    - Every prompt has its own seed, so what it gets does not depend on the other prompts, up to the rounding of
      batched arithmetic.
    - Prefix caching is on; its key holds the version of the weights, and an update empties the cache.
    - vLLM's build for CPU replaces a few functions of torch in the process (`torch.set_num_threads`, events,
      `torch.accelerator.synchronize`); a pool keeps that out of the trainer's process.

    Args:
        model: folder of a Hugging Face model. Its weights are version 0.
        eos_ids: every id that ends a completion.
        dtype: of weights and activations, as a name of torch's; `auto` takes the folder's.
        max_model_len: longest prompt plus completion, in tokens; None takes the model's own.
        max_num_seqs: sequences decoded at once.
        tensor_parallel_size: GPUs the model is split over; above 1 vLLM starts a process for each.
        gpu_memory_utilization: share of a GPU's memory vLLM may take, weights included.
        kv_cache_gib: size of the KV cache; None takes what `gpu_memory_utilization` leaves, on CPU 1 GiB.
        enforce_eager: no CUDA graphs and no torch.compile: a faster start, slower steps.
        tokenizer: folder of the model's tokenizer. `SamplingParams.json_schema` and `stop` need it, and nothing else
            does; with it, `constrains` is True.

    `watch`, where it is set, is told of every step of `generate`.

    Raises:
        BackendMissing: vLLM is not installed.
        ConfigError: this process is one of several that train together.
    """

    watch: WatchUnderWay | None = None

    def __init__(
        self,
        model: str,
        *,
        eos_ids: Sequence[int],
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gib: float | None = None,
        enforce_eager: bool = False,
        tokenizer: str | None = None,
    ):
        require("vllm", used_for="the vLLM rollout engine")
        _refuse_ranks()
        _set_environment()
        from vllm import EngineArgs, LLMEngine
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if kv_cache_gib is None and on_cpu:
            kv_cache_gib = CPU_KV_CACHE_GIB
        self.eos_ids = tuple(eos_ids)
        self.device: str = current_platform.device_type
        self.processes = tensor_parallel_size
        self.constrains = tokenizer is not None
        self.policy_version = 0
        self._running: dict[str, VllmRequest] = {}
        self._fitting: dict[str, tuple[int, ...]] = {}  # the last shapes that the model takes
        args = EngineArgs(
            model=model,
            tokenizer=tokenizer,
            skip_tokenizer_init=tokenizer is None,
            # a grammar that allows any white space lets a model write it until the limit
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},  # type: ignore[arg-type]
            generation_config="vllm",
            dtype=dtype,  # type: ignore[arg-type]
            max_model_len=max_model_len,  # type: ignore[arg-type]
            max_num_seqs=max_num_seqs,
            tensor_parallel_size=tensor_parallel_size,
            distributed_executor_backend="mp" if tensor_parallel_size > 1 else "uni",
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_memory_bytes=None if kv_cache_gib is None else int(kv_cache_gib * 2**30),
            block_size=CPU_BLOCK if on_cpu else None,
            enable_prefix_caching=True,
            # prefilling a seeded prompt in parts rewinds its generator, which torch's CPU generator cannot do
            enable_chunked_prefill=False if on_cpu else None,
            enforce_eager=enforce_eager,
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        with _rng_kept():
            self._engine: Any = LLMEngine.from_engine_args(args)
            config = self._engine.model_config
            self.max_model_len: int = config.max_model_len
            self.vocab_size: int = config.get_vocab_size()
            self.tied_head = bool(getattr(config.hf_text_config, "tie_word_embeddings", False))
            self._warm_up()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Rollout]]:
        """`n` rollouts a prompt, in the prompts' order; see `RolloutEngine`.

        Raises:
            DataError: a prompt that is empty, has an id outside the vocabulary, or leaves no room for a completion.
            ConfigError: see `make_requests`.
        """
        requests = make_requests(
            prompts, sampling, n, self.max_model_len, self.vocab_size, seeds=seeds, constrains=self.constrains
        )
        done: dict[int, list[Rollout]] = {}
        with _rng_kept():
            for request in requests:
                self.add(request)
            while self.outstanding:
                done.update(self.step())
                if self.watch is not None:
                    self.watch(self._under_way(done.values()))
        return [done[index] for index in range(len(prompts))]

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Loads every weight of the model and empties the prefix cache; no request may be unfinished.

        An update that is refused, or whose tensors cannot be had, leaves the engine as it was. Needs room for a copy of
        the weights on the CPU, unless `named_tensors` is a collection that holds them all.

        Args:
            named_tensors: the whole model under the names of its `state_dict()`, a tied `lm_head.weight` included.
            version: what rollouts carry from now on.

        Raises:
            WeightMismatch: weights are missing, or the model has none of a name or shape.
            RuntimeError: requests are unfinished.
        """
        tensors = whole_set(named_tensors)
        self.check_weights({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        self._check_idle()
        self.load_weights(tensors.items())
        self.finish_update(version)

    def close(self) -> None:
        """Frees the model and the KV cache, and ends vLLM's processes if it has any."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            self._engine = None
            gc.collect()

    # What a pool's worker drives.

    @property
    def outstanding(self) -> int:
        """Groups added and not yet returned by `step`."""
        return len(self._running)

    def add(self, request: VllmRequest) -> None:
        """Queues a group; its samples are one vLLM request, so they share the prompt's KV blocks."""
        from vllm.inputs.engine import tokens_input

        name = str(request.key)
        self._running[name] = request
        prompt = tokens_input(list(request.prompt_ids), cache_salt=f"v{self.policy_version}")
        self._engine.add_request(name, prompt, self._vllm_params(request))
        if ends_early(request.sampling):
            watch_ends(self._engine, name, request.sampling)

    def step(self) -> list[tuple[int, list[Rollout]]]:
        """Decodes one token of every running sequence; the groups that are now complete, under their keys."""
        finished = []
        for output in self._engine.step():
            if output.finished:
                request = self._running.pop(output.request_id)
                rollouts = [self._rollout(request, completion) for completion in output.outputs]
                # greedy samples are all the same one, and vLLM refuses to draw it twice
                finished.append((request.key, rollouts if len(rollouts) == request.n else rollouts * request.n))
        return finished

    def check_weights(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses weights that the model would not take; nothing of the engine changes.

        Args:
            shapes: of every tensor, by its name.

        Raises:
            WeightMismatch: see `update_weights`.
        """
        self.check_head(shapes)
        if shapes == self._fitting:
            return
        for misfit, missing in self._engine.collective_rpc(vllm_worker.fitting, args=(dict(shapes),)):
            if misfit is not None:
                raise WeightMismatch(
                    f"vLLM's model takes no {misfit[0]}",
                    reason=misfit[1],
                    remedy="start the engine from the model that is trained",
                )
            _refuse_missing(missing)
        self._fitting = dict(shapes)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Loads tensors as from a checkpoint, one layer at a time; neither the version nor the cache changes. What the
        model may not take is for `check_weights` to say before: what fails here leaves old and new weights."""
        tensors = list(whole_set(named_tensors).items()) if self.processes > 1 else named_tensors
        self._engine.collective_rpc(vllm_worker.load, args=(tensors,))

    def join(self, meeting: Meeting, first_rank: int, node: str) -> None:
        """Joins the group that weights are broadcast in; the k-th process of this engine as rank `first_rank + k`.
        `node` tells this machine from others."""
        self._engine.collective_rpc(vllm_worker.join, args=(meeting, first_rank, node))

    def receive(self) -> list[dict[str, TensorEntry]]:
        """Loads a broadcast of weights as it comes, after `join`; neither the version nor the cache changes.

        Returns:
            Of each process of this engine, what arrived, by name.

        Raises:
            WeightMismatch: see `update_weights`. Like any other error here, it leaves old and new weights in the
                engine, which must not be used.
            TransferBroken: some process went away.
        """
        received = self._engine.collective_rpc(vllm_worker.receive_and_load)
        self.check_weights({name: entry.shape for name, entry in received[0].items()})
        return received

    def check_head(self, names: Iterable[str]) -> None:
        """Refuses names without the tied head: vLLM's CPU build keeps a copy of it that only its own entry renews.

        Raises:
            WeightMismatch: the model ties its head, and no name is `lm_head.weight`.
        """
        if self.tied_head and not any(name.endswith("lm_head.weight") for name in names):
            raise WeightMismatch(
                "the weights have no lm_head.weight",
                reason="the model ties it to its embedding, and vLLM may keep a copy that would go stale",
                remedy="pass state_dict().items(), which has it, not named_parameters()",
            )

    def finish_update(self, version: int) -> None:
        """Empties the prefix cache after `load_weights` and moves to `version`; no request may be unfinished."""
        self._check_idle()
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache")
        self.policy_version = version

    def _check_idle(self) -> None:
        if self.outstanding:
            raise RuntimeError(f"weights change between generations; {self.outstanding} groups are unfinished")

    def _under_way(self, done: Iterable[Sequence[Rollout]]) -> UnderWay:
        """What the call that finished `done` writes."""
        ended = [rollout for group in done for rollout in group]
        begun, queued, tokens = written(self._engine)
        return UnderWay(begun, queued, len(ended), tokens + sum(len(one.completion_ids) for one in ended))

    def _vllm_params(self, request: VllmRequest) -> Any:
        from vllm import SamplingParams as VLLMSamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling, greedy = request.sampling, request.sampling.temperature == 0
        schema = sampling.json_schema
        return VLLMSamplingParams(
            n=1 if greedy else request.n,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            seed=request.seed,
            stop_token_ids=list(self.eos_ids),
            ignore_eos=True,
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=False,
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _rollout(self, request: VllmRequest, completion: Any) -> Rollout:
        ids = tuple(completion.token_ids)
        early: FinishReason = "looped" if completion.stop_reason == "looped" else "stop"
        stopped: FinishReason = early if completion.finish_reason == "stop" else "length"
        return Rollout(
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=tuple(completion.logprobs.logprobs),
            finish_reason="eos" if ids[-1] in self.eos_ids else stopped,
            policy_version=self.policy_version,
        )

    def _warm_up(self) -> None:
        """Samples a few tokens, so that what vLLM compiles at first use is not waited for later."""
        for key in range(2):
            self.add(VllmRequest(-1 - key, (0,) * 4, SamplingParams(max_new_tokens=2, temperature=1.0), n=2, seed=key))
        while self.outstanding:
            self.step()
        self._engine.reset_prefix_cache()


def _refuse_ranks() -> None:
    """vLLM makes its own groups out of torch's default one, if there is one: all ranks would have to take part."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise ConfigError(
            f"vLLM in the process of rank {dist.get_rank()} of {dist.get_world_size()}",
            reason="it takes all ranks for its own parts, and would wait for them",
            remedy="start it beside them: engine.type: ray-vllm; a judge or rewriter as openai:MODEL, on a server",
        )


def _refuse_missing(names: list[str]) -> None:
    if names:
        raise WeightMismatch(
            f"{len(names)} parameters of vLLM's model were not updated, the first is {names[0]}",
            reason="the weights handed over do not cover the model",
            remedy="pass the whole state_dict(), as ixt_rl.rollout.weights.policy.policy_tensors does",
        )


def _set_environment() -> None:
    """What vLLM reads when it is imported or built: one process, errors only, no usage reports.

    oneDNN, which multiplies on CPUs, keeps compiled products of 1,024 shapes unless told otherwise. Every number of
    tokens in a batch is a shape of its own, so that an engine would grow by some 150 MiB before that many have come.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in (
        ("VLLM_LOGGING_LEVEL", "ERROR"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("TORCH_CPP_LOG_LEVEL", "ERROR"),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32"),
    ):
        os.environ.setdefault(name, value)


@contextmanager
def _rng_kept() -> Iterator[None]:
    """vLLM seeds and draws from the process's global generators; whoever else uses them sees none of it."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
