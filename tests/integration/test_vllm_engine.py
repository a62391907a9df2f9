"""vLLM in this process against the trainer's model: what it samples, what it reports, and weights that change."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from ixt_rl.backends import is_installed
from ixt_rl.errors import ConfigError, DataError, WeightMismatch
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.transformers_engine import TransformersEngine
from ixt_rl.rollout.weights.policy import policy_tensors
from ixt_rl.types import SamplingParams
from tests.integration.rollout_helpers import (
    ENGINE,
    EOS,
    TOLERANCE,
    VOCAB,
    change,
    flat,
    gap,
    new_model,
    prompts,
    records,
    sampling,
    save,
)
from tests.unit.rollout.sampled import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed("vllm"), reason="vllm is not installed"),
]


@pytest.fixture(scope="module", params=["qwen3", "tied llama"])
def served(request, tmp_path_factory):
    """(engine, folder of the model it was started from); the folder ships what instruct checkpoints ship."""
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    folder = save(new_model(request.param), tmp_path_factory.mktemp("model"))
    GenerationConfig(**SHIPPED["Qwen2.5-Instruct"]).save_pretrained(folder)
    engine = VLLMEngine(folder, **ENGINE)
    yield engine, folder
    engine.close()


@pytest.fixture
def engine(served):
    """At the folder's weights, as version 0."""
    engine, folder = served
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    engine.update_weights(model.state_dict().items(), 0)
    return engine


@pytest.fixture
def model(served):
    return AutoModelForCausalLM.from_pretrained(served[1], dtype=torch.float32).eval()


@pytest.mark.parametrize("adapted", [False, True])
def test_a_mixture_of_experts_gets_the_policys_weights(adapted, tmp_path):
    """Its experts are fused in the trainer's memory, and one by one under the names that vLLM loads."""
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    policy = new_model("qwen3 moe")
    engine = VLLMEngine(save(policy, tmp_path), **ENGINE)
    try:
        assert gap(policy, flat(engine.generate(prompts(4), sampling(8)))) < TOLERANCE
        if adapted:
            peft = pytest.importorskip("peft")
            policy = peft.get_peft_model(
                policy,
                peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
            )
        else:
            change(policy)
        left = {name: tensor.clone() for name, tensor in policy_tensors(policy)}
        del left["model.layers.1.mlp.experts.2.up_proj.weight"]
        with pytest.raises(WeightMismatch, match=r"first is model\.layers\.1\..*experts.*w13"):
            engine.update_weights(left.items(), 1)
        engine.update_weights(policy_tensors(policy), 1)
        rollouts = flat(engine.generate(prompts(4), sampling(8)))
        assert gap(policy, rollouts) < TOLERANCE
        assert gap(new_model("qwen3 moe"), rollouts) > 10 * TOLERANCE
    finally:
        engine.close()


def test_under_dora_the_engine_samples_what_the_forward_pass_computes(engine, model):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear", use_dora=True, init_lora_weights=False)
    policy = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "magnitude" in name:
                parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))
    engine.update_weights(policy_tensors(policy), 1)
    rollouts = flat(engine.generate(prompts(4), sampling(8)))
    assert gap(policy, rollouts) < TOLERANCE
    assert gap(model, rollouts) > 10 * TOLERANCE


def test_vllm_serves_the_adapter_that_a_stage_keeps(tmp_path):
    """LoRA and rsLoRA as they are on disk; DoRA it refuses by itself."""
    peft = pytest.importorskip("peft")
    from vllm import LLM
    from vllm import SamplingParams as VLLMSamplingParams
    from vllm.lora.request import LoRARequest

    from ixt_rl.pretrained.adapters import save_adapter

    folder, ids = save(new_model("qwen3"), tmp_path / "base"), list(range(5, 25))
    llm = LLM(
        folder, skip_tokenizer_init=True, enable_lora=True, max_lora_rank=8, max_loras=1, enforce_eager=True,
        dtype="float32", max_model_len=64, kv_cache_memory_bytes=2**26, block_size=32, enable_chunked_prefill=False,
        use_tqdm_on_load=False,
    )  # fmt: skip
    asked = VLLMSamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    for number, changes in enumerate(({}, {"use_rslora": True}, {"use_dora": True}), 1):
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        config = peft.LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, **changes)
        policy = peft.get_peft_model(base, config).eval()
        save_adapter(policy, tmp_path / str(number))
        request = LoRARequest(str(number), number, str(tmp_path / str(number)))
        prompt = [{"prompt_token_ids": ids}]
        if "use_dora" in changes:
            with pytest.raises(ValueError, match="DoRA"):
                llm.generate(prompt, asked, lora_request=request, use_tqdm=False)
            continue
        (served,) = llm.generate(prompt, asked, lora_request=request, use_tqdm=False)
        found = [entry[token].logprob for entry, token in zip(served.prompt_logprobs[1:], ids[1:], strict=True)]
        with torch.no_grad():
            expected = policy(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            plain = new_model("qwen3")(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        at = (range(len(ids) - 1), ids[1:])
        assert (torch.tensor(found) - expected[at]).abs().max() < TOLERANCE
        assert (torch.tensor(found) - plain[at]).abs().max() > 10 * TOLERANCE


def test_vllm_is_given_nothing_but_what_is_asked_for(engine):
    """Of its own parameters, those that are not at their defaults, and the defaults of those that change logits."""
    import vllm

    from ixt_rl.rollout.vllm_requests import VllmRequest

    given = engine._vllm_params(VllmRequest(0, (1, 2), SamplingParams(7, 0.8, 0.9, 5, min_p=0.1), 3, seed=4))
    plain = vllm.SamplingParams()
    assert {name for name in plain.__struct_fields__ if getattr(given, name) != getattr(plain, name)} == {
        "n", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop_token_ids", "_all_stop_token_ids",
        "ignore_eos", "logprobs", "flat_logprobs", "detokenize", "output_kind",
    }  # fmt: skip
    neutral = {
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_tokens": 0,
        "bad_words": [], "allowed_token_ids": None, "logit_bias": None, "stop": [], "extra_args": None,
    }  # fmt: skip
    assert {name: getattr(given, name) for name in neutral} == neutral
    assert engine._engine.model_config.get_diff_sampling_param() == {}


def test_logprobs_under_min_p_are_those_of_the_tokens_kept(engine, model):
    for group in engine.generate(prompts(8), sampling(temperature=0.7, min_p=0.5), n=2):
        for rollout in group:
            ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
            with torch.no_grad():
                logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float() / 0.7
            probabilities = logits.softmax(-1)
            kept = probabilities >= 0.5 * probabilities.amax(-1, keepdim=True)
            wanted = logits.masked_fill(~kept, -torch.inf).log_softmax(-1)
            picked = wanted.gather(1, torch.tensor(rollout.completion_ids)[:, None]).squeeze(1)
            torch.testing.assert_close(torch.tensor(rollout.logprobs), picked, rtol=1e-3, atol=1e-3)


def test_logprobs_are_the_models(engine, model):
    assert isinstance(engine, RolloutEngine)
    for temperature in (1.0, 0.7):
        groups = engine.generate(prompts(16), sampling(temperature=temperature), n=4)
        assert [len(group) for group in groups] == [4] * 16
        assert gap(model, flat(groups), temperature) <= TOLERANCE
    assert len({r.completion_ids for r in groups[0]}) > 1


def test_completions_end_at_every_eos_id_and_at_no_other(engine):
    rollouts = flat(engine.generate(prompts(32), sampling(), n=4))
    ended = [r for r in rollouts if r.finish_reason == "eos"]
    assert {r.completion_ids[-1] for r in ended} == set(EOS)
    assert not any(set(r.completion_ids[:-1]) & set(EOS) for r in rollouts)
    assert all(len(r.completion_ids) == 24 and r.completion_ids[-1] not in EOS for r in rollouts if r not in ended)
    assert any(9 in r.completion_ids[:-1] for r in rollouts), "the folder's own eos id never came up"


def test_greedy_is_that_of_the_transformers_engine(engine, model):
    reference = TransformersEngine(model, EOS, pad_id=0)
    ours, theirs = (e.generate(prompts(8), sampling(temperature=0), n=2) for e in (engine, reference))
    assert records(ours) == records(theirs)
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=TOLERANCE)


def test_truncation_is_honoured(engine):
    only_one = flat(engine.generate(prompts(4), sampling(top_k=1)) + engine.generate(prompts(4), sampling(top_p=1e-6)))
    assert all(logprob == pytest.approx(0, abs=1e-6) for r in only_one for logprob in r.logprobs)


def test_a_prompts_samples_do_not_depend_on_the_others(engine):
    whole = records(engine.generate(prompts(24), sampling(), n=4))
    assert records(engine.generate(prompts(24), sampling(), n=4)) == whole
    assert records(engine.generate(prompts(24)[:5], sampling(), n=4)) == whole[:5]
    assert records(engine.generate(prompts(24), sampling(seed=4), n=4)) != whole


def test_with_seeds_a_prompt_gets_the_same_alone_and_in_any_batch(engine):
    """vLLM draws by exponential noise of the request's own generator. In fp32 a token changes only where the two best
    are within rounding, about 1e-6, of each other."""
    seeds = list(range(100, 116))
    whole = records(engine.generate(prompts(16), sampling(seed=None), 2, seeds))
    for index in (0, 7, 15):
        assert records(engine.generate(prompts(16)[index : index + 1], sampling(), 2, seeds[index : index + 1])) == [
            whole[index]
        ]
    assert records(engine.generate(prompts(16)[::-1], sampling(), 2, seeds[::-1])) == whole[::-1]
    assert records(engine.generate(prompts(16), sampling(), 1, [seed + 1 for seed in seeds])) == [[b] for _, b in whole]
    with pytest.raises(ConfigError, match="2 seeds for 3 prompts"):
        engine.generate(prompts(3), sampling(), 1, [1, 2])


def test_a_schema_needs_the_tokenizer(engine):
    assert not engine.constrains
    with pytest.raises(ConfigError, match=r"without a grammar(.|\n)*`tokenizer`"):
        engine.generate([[10]], sampling(json_schema="{}"))
    assert engine.outstanding == 0


def test_more_prompts_than_one_prefill_takes(engine, model):
    many = [[10 + i % 50] * 200 for i in range(60)]
    assert gap(model, flat(engine.generate(many, sampling(8), n=2))) <= TOLERANCE


def test_unseeded_calls_draw_from_torch_and_leave_it_otherwise_alone(engine):
    torch.manual_seed(7)
    random.seed(7)
    engine.generate(prompts(4), sampling())
    seeded = torch.rand(3), random.random()
    torch.manual_seed(7)
    random.seed(7)
    assert torch.equal(torch.rand(3), seeded[0])
    assert random.random() == seeded[1]
    torch.manual_seed(7)
    first = records(engine.generate(prompts(4), sampling(seed=None)))
    assert records(engine.generate(prompts(4), sampling(seed=None))) != first
    torch.manual_seed(7)
    assert records(engine.generate(prompts(4), sampling(seed=None))) == first


def test_after_a_large_update_logprobs_are_the_new_models(engine, model):
    before = records(engine.generate(prompts(16), sampling(), n=4))
    change(model)
    engine.update_weights(model.state_dict().items(), 5)
    groups = engine.generate(prompts(16), sampling(), n=4)
    assert gap(model, flat(groups)) <= TOLERANCE
    assert {r.policy_version for r in flat(groups)} == {5}
    assert records(groups) != before


def test_an_update_empties_the_prefix_cache(engine, model):
    long = [[10 + i] * 160 for i in range(4)]  # five KV blocks each
    engine.generate(long, sampling())
    change(model)
    engine.load_weights(model.state_dict().items())
    stale = gap(model, flat(engine.generate(long, sampling())))
    assert stale > TOLERANCE, "cached keys and values were not used, so this test shows nothing"
    engine.finish_update(1)
    assert gap(model, flat(engine.generate(long, sampling()))) <= TOLERANCE


def test_an_update_during_generation_is_refused(engine, model):
    from ixt_rl.rollout.vllm_requests import make_requests

    engine.add(make_requests(prompts(1), sampling(), 1, 256, VOCAB)[0])
    engine.step()
    with pytest.raises(RuntimeError, match="1 groups are unfinished"):
        engine.finish_update(1)
    change(before := copy.deepcopy(model))
    with pytest.raises(RuntimeError, match="1 groups are unfinished"):
        engine.update_weights(before.state_dict().items(), 1)
    while engine.outstanding:
        engine.step()
    assert gap(model, flat(engine.generate(prompts(4), sampling(8)))) < TOLERANCE


def test_a_stale_tied_head_is_refused_and_would_show(engine, model):
    """vLLM's packed linears keep a copy of a tied head that only its own entry renews."""
    if not model.config.tie_word_embeddings:
        pytest.skip("its head is not tied")
    change(model)
    with pytest.raises(WeightMismatch, match=r"lm_head\.weight"):
        engine.update_weights(model.named_parameters(), 1)
    engine.load_weights((name, w) for name, w in model.state_dict().items() if name != "lm_head.weight")
    engine.finish_update(1)
    assert gap(model, flat(engine.generate(prompts(8), sampling()))) > 0.1


def test_memory_stays_flat_over_updates_and_sizes_of_batches(engine, model):
    """With oneDNN's own limit of compiled products, these updates cost 86 MiB."""
    resident = []
    for version in range(20):
        engine.update_weights(model.state_dict().items(), version)
        engine.generate(prompts(20, seed=version), sampling(16), n=4)
        resident.append(psutil.Process().memory_info().rss / 2**20)
    assert resident[-1] - resident[4] < 25, resident


def breaking(state):
    yield from list(state.items())[:5]
    raise OSError("gone")


@pytest.mark.parametrize(
    ("misfit", "error", "message"),
    [
        (lambda s: leave(s, "model.layers.1.mlp.down_proj.weight"), WeightMismatch, r"first is .*1\.mlp\.down_proj"),
        (lambda s: {f"base_model.{name}": w for name, w in s.items()}, WeightMismatch, r"lm_head|base_model"),
        (lambda s: s | {"model.layers.0.self_attn.sinks": torch.zeros(2)}, WeightMismatch, "sinks of shape"),
        (lambda s: s | {"model.layers.7.input_layernorm.weight": torch.zeros(64)}, WeightMismatch, r"layers\.7"),
        (lambda s: s | {"model.norm.weight": torch.zeros(63)}, WeightMismatch, r"model\.norm\.weight of shape \[63\]"),
        (lambda s: s | {"model.layers.1.self_attn.k_proj.weight": torch.zeros(64, 64)}, WeightMismatch, "k_proj"),
        (lambda s: s | {"model.layers.1.mlp.up_proj.weight": torch.zeros(1, 1)}, WeightMismatch, "up_proj"),
        (lambda s: s | {"model.embed_tokens.weight": torch.zeros(VOCAB + 1, 64)}, WeightMismatch, "embed_tokens"),
        (lambda s: {}, WeightMismatch, "lm_head|were not updated"),
        (breaking, OSError, "gone"),
    ],
)
def test_a_refused_update_leaves_the_engine_as_it_was(engine, model, misfit, error, message):
    """Weights, version and rollouts; also after an update that was accepted, and in every later one."""
    change(model)
    engine.update_weights(model.state_dict().items(), 4)
    before = engine.generate(prompts(4), sampling(8))
    change(other := copy.deepcopy(model), seed=2)
    sent = misfit(other.state_dict())
    with pytest.raises(error, match=message):
        engine.update_weights(sent.items() if isinstance(sent, dict) else sent, 5)
    assert engine.policy_version == 4
    assert engine.generate(prompts(4), sampling(8)) == before
    assert gap(model, flat(before)) < TOLERANCE
    engine.update_weights(other.state_dict().items(), 5)
    assert gap(other, flat(engine.generate(prompts(4), sampling(8)))) < TOLERANCE


def leave(state, name):
    return {key: weight for key, weight in state.items() if key != name}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([10] * 233, r"prompt 1 has 233 tokens.*\n.*limit is 256"),
        ([], "prompt 1 has no tokens"),
        ([VOCAB], r"prompt 1 has the id 64.*\n.*0 to 63"),
    ],
)
def test_prompts_that_cannot_run_are_named(engine, bad, message):
    with pytest.raises(DataError, match=message):
        engine.generate([[10], bad], sampling())
    assert engine.outstanding == 0


def test_sampling_that_vllm_does_not_take_is_refused(engine):
    with pytest.raises(ConfigError, match="temperature=3"):
        engine.generate([[10]], sampling(temperature=3.0))


@pytest.mark.long("tests/integration/test_vllm_engine.py::test_after_a_large_update_logprobs_are_the_new_models")
def test_a_model_split_over_two_processes_gets_the_weights_either_way(tmp_path):
    folder = save(new_model("split llama"), tmp_path)
    # in a process of its own: vLLM reads once whether it binds each of its processes to a NUMA node
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/integration/pool_script.py"), "split_model", folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agrees with version 2" in done.stdout
