"""The policy's tensors against `state_dict()` of the plain model, and the manifest against damage."""

from __future__ import annotations

import copy
import json
import tempfile
import weakref
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from ixt_rl.backends import is_installed
from ixt_rl.errors import ConfigError, EndsWithLeader, WeightMismatch, WeightsLost
from ixt_rl.pretrained.adapters import save_adapter
from ixt_rl.pretrained.weights_hash import weights_hash
from ixt_rl.rollout.sync import send_policy
from ixt_rl.rollout.weights.manifest import Manifest, _odd_weights, checksum, describe
from ixt_rl.rollout.weights.policy import policy_tensors
from tests.unit.architectures import tiny_config
from tests.unit.distributed import end_rank, run_ranks, zero3_engine

CPU = torch.device("cpu")


def tiny(tied: bool = True, dtype: torch.dtype = torch.float32) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=tied,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).to(dtype)


def lora(model: nn.Module, **changes):
    """`model` under LoRA, with adapters that do something."""
    peft = pytest.importorskip("peft")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings | changes))
    g = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_magnitude" in name:
            parameter.data.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=g))
        elif "lora_" in name or "modules_to_save" in name:
            parameter.data.normal_(generator=g).mul_(0.3)
    return adapted


def collect(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy_tensors(model)}


def assert_same(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance) -> None:
    assert list(tensors) == list(expected)
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype, name
        bounds = tolerance or {"rtol": 0.0, "atol": 0.0}
        torch.testing.assert_close(tensor, expected[name], **bounds, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_a_plain_model_gives_its_state_dict(tied, dtype):
    model = tiny(tied, dtype)
    assert "lm_head.weight" in model.state_dict()
    assert_same(collect(model), model.state_dict())
    assert all(not tensor.requires_grad for _, tensor in policy_tensors(model))


class WithBuffers(nn.Module):
    """A module named as a wrapper's, a persistent buffer and another that is not, and one module in two places."""

    def __init__(self):
        super().__init__()
        self.module = nn.BatchNorm1d(3)
        self.again = self.module
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.unset = None
        self.register_parameter("absent", None)


def test_buffers_and_shared_modules_are_as_in_the_state_dict():
    model = WithBuffers()
    assert "again.running_mean" in model.state_dict()
    assert_same(collect(model), model.state_dict())


def test_a_compiled_model_has_plain_names():
    assert_same(collect(torch.compile(tiny())), tiny().state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_equals_merging_and_leaves_the_trained_weights_alone(dtype):
    model = lora(tiny(dtype=dtype), modules_to_save=["norm"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tensors = collect(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    merged = copy.deepcopy(model).merge_and_unload()
    assert_same(tensors, merged.state_dict())
    changed = [
        name for name, tensor in tiny(dtype=dtype).state_dict().items() if not torch.equal(tensor, tensors[name])
    ]
    assert len(changed) == 2 * (2 + 4) + 1  # two projections and four norms in each of two layers, and the final norm

    ids = torch.randint(64, (2, 9))
    engine = tiny(dtype=dtype)
    engine.load_state_dict(tensors)
    if dtype == torch.float32:
        torch.testing.assert_close(engine(ids).logits, model.eval()(ids).logits, rtol=1e-4, atol=1e-5)


def test_lora_on_transposed_weights_and_untied_embeddings():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=40, n_positions=16, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False, pad_token_id=0
    )
    model = lora(GPT2LMHeadModel(config), target_modules=["c_attn", "wte"], fan_in_fan_out=True)
    assert_same(collect(model), copy.deepcopy(model).merge_and_unload().state_dict())


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"use_dora": True, "use_rslora": True, "r": 3}])
def test_dora_gives_what_the_forward_pass_computes(changes):
    """Log-probs of a plain model with the tensors are those of the model with the adapters, whose magnitudes moved."""
    model = lora(tiny(), **changes).eval()
    tensors = collect(model)
    assert_same(tensors, copy.deepcopy(model).merge_and_unload().state_dict(), rtol=1e-6, atol=1e-7)
    ids, engine = torch.randint(64, (2, 9)), tiny()
    engine.load_state_dict(tensors)
    with torch.no_grad():
        of_engine, of_policy, of_base = (m(ids).logits.log_softmax(-1) for m in (engine, model, tiny()))
    torch.testing.assert_close(of_engine, of_policy, rtol=0, atol=1e-5)
    assert (of_policy - of_base).abs().max() > 0.01


def test_dora_on_transposed_weights_and_two_doras():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=40, n_positions=16, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False, pad_token_id=0
    )
    changes = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}
    model = lora(GPT2LMHeadModel(config), **changes).eval()
    other = peft.LoraConfig(r=2, init_lora_weights=False, **changes)
    plain, ids = GPT2LMHeadModel(config).eval(), torch.randint(40, (2, 9))
    for both in (False, True):
        if both:
            model.add_adapter("other", other)
            model.base_model.set_adapter(["default", "other"])
        plain.load_state_dict(collect(model))
        with torch.no_grad():
            torch.testing.assert_close(plain(ids).logits, model(ids).logits, rtol=0, atol=1e-5)


def test_two_adapters_add_up_and_a_disabled_one_adds_nothing():
    peft = pytest.importorskip("peft")
    model = lora(tiny())
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    first = collect(model)
    model.base_model.set_adapter(["default", "other"])
    both = collect(model)
    name = "model.layers.1.self_attn.q_proj.weight"
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    torch.testing.assert_close(both[name] - first[name], layer.get_delta_weight("other").detach(), rtol=1e-4, atol=1e-6)
    with model.disable_adapter():
        assert_same(collect(model), tiny().state_dict())


@pytest.mark.parametrize(
    ("tied", "changes", "why"),
    [
        (False, {"use_dora": True, "target_modules": ["embed_tokens"]}, "DoraEmbedding"),
        (True, {"lora_bias": True, "target_modules": ["c"]}, "lora_bias"),
        (True, {"target_modules": ["embed_tokens"]}, "tied"),
        (True, {"modules_to_save": ["embed_tokens"]}, "tied"),
        (True, {"trainable_token_indices": [1, 2]}, "TrainableTokens"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_that_are_not_a_plain_delta_are_refused(tied, changes, why):
    model = tiny(tied)
    if changes.get("target_modules") == ["c"]:
        model = nn.ModuleDict({"c": nn.Linear(3, 3)})
        changes = changes | {"task_type": None}
    with pytest.raises(ConfigError, match=why):
        next(policy_tensors(lora(model, **changes)))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mixture_of_experts_has_the_names_of_its_checkpoint(adapted, tmp_path):
    """Fused experts come one by one, with what the default adapters do to them, as saving the merged model writes."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config("qwen3_moe"))
    if adapted:
        model = lora(model, target_modules="all-linear")
        assert any("ParamWrapper" in type(module).__name__ for module in model.modules())
    sent = {name: tensor.clone() for name, tensor in policy_tensors(model)}
    (model.merge_and_unload() if adapted else model).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in saved
    assert sent.keys() == saved.keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(sent[name], tensor, rtol=0, atol=1e-6)


def test_other_methods_and_merged_adapters_are_refused():
    peft = pytest.importorskip("peft")
    for config in (
        peft.LoHaConfig(target_modules=["q_proj"]),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    ):
        with pytest.raises(ConfigError, match="method is"):
            next(policy_tensors(peft.get_peft_model(tiny(), config)))
    merged = lora(tiny())
    merged.merge_adapter()
    with pytest.raises(ConfigError, match="unmerge_adapter"):
        next(policy_tensors(merged))


def gathered_one_at_a_time(mode: str, run: nn.Module, model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors, having seen that a whole one is gone, or partitioned again, before the next is there."""
    tensors, last = {}, None
    for name, tensor in policy_tensors(run):
        assert mode != "fsdp2" or last is None or last() is None, name
        if mode == "zero3":
            whole = [n for n, p in model.named_parameters() if p.ds_status.name == "AVAILABLE"]
            assert len({n.rpartition(".lora_")[0] or n.replace(".base_layer.weight", "") for n in whole}) == 1, whole
            assert len([n for n in whole if "lora_" not in n]) == 1, whole
        tensors[name] = tensor.clone()
        last = weakref.ref(tensor)
        del tensor
    if mode == "zero3":
        assert all(p.ds_status.name == "NOT_AVAILABLE" for p in model.parameters())
    return tensors


def check(mode: str, run: nn.Module, model: nn.Module, expected: dict, exact: bool) -> dict[str, torch.Tensor]:
    tensors = gathered_one_at_a_time(mode, run, model)
    if mode == "fsdp1":  # unit by unit
        assert set(tensors) == set(expected)
        tensors = {name: tensors[name] for name in expected}
    assert_same(tensors, expected, **({} if exact else {"rtol": 1e-5, "atol": 1e-6}))
    return tensors


def worker(mode: str) -> None:
    """One rank of two: the tensors of a model and of one with adapters, fresh and after a step."""
    torch.set_num_threads(1)
    if mode != "zero3":
        torch.distributed.init_process_group("gloo")
    for adapted in ["", *["lora", "dora"] * is_installed("peft")]:
        compare_with_one_process(mode, adapted)
    print(f"{mode}: tensors equal", flush=True)
    end_rank()


def wrapped(mode: str, model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    if mode == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if mode == "fsdp1":
        adapted = hasattr(model, "peft_config")  # frozen and trained weights together need use_orig_params
        policy = ModuleWrapPolicy({Qwen3DecoderLayer})
        return FullyShardedDataParallel(model, auto_wrap_policy=policy, use_orig_params=adapted, device_id=CPU)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for module in model.modules():
        if isinstance(module, Qwen3DecoderLayer):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


class TakesNoMoreThanOne:
    """As an engine may that has no room for them."""

    def update_weights(self, named_tensors, version: int) -> None:
        next(named_tensors)
        raise WeightMismatch("no room")


class LosesWeightsOnce:
    """As a pool may that gets them by broadcast: it takes all tensors, and has none of them afterwards."""

    calls = 0

    def update_weights(self, named_tensors, version: int) -> None:
        self.calls += 1
        self.tensors = {name: tensor.clone() for name, tensor in named_tensors}
        if self.calls == 1:
            raise WeightsLost("an engine failed")


def compare_with_one_process(mode: str, adapted: str) -> None:
    ids = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(2))
    plain, model = ((lora(tiny(), use_dora=adapted == "dora") if adapted else tiny()) for _ in range(2))
    if mode == "zero3":
        run = zero3_engine(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), rows=2)
    else:
        run = wrapped(mode, model)
    merged = copy.deepcopy(plain).merge_and_unload() if adapted else plain
    fresh = check(mode, run, model, merged.state_dict(), exact=adapted != "dora")

    loss = run(input_ids=ids, labels=ids).loss
    if mode == "zero3":
        run.backward(loss)
        run.step()
    else:
        loss.backward()
        torch.optim.SGD([p for p in run.parameters() if p.requires_grad], lr=0.1).step()
    plain(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=0.1).step()
    merged = copy.deepcopy(plain).merge_and_unload() if adapted else plain
    stepped = check(mode, run, model, merged.state_dict(), exact=False)
    moved = "model.layers.0.self_attn.q_proj.weight"
    assert (stepped[moved] - fresh[moved]).abs().max() > 1e-5
    first = torch.distributed.get_rank() == 0
    with pytest.raises(WeightMismatch if first else EndsWithLeader, match="no room"):
        send_policy(TakesNoMoreThanOne() if first else None, run, 1)
    engine = LosesWeightsOnce()
    send_policy(engine if first else None, run, 1)
    if first:
        assert engine.calls == 2
        assert_same({name: engine.tensors[name] for name in stepped}, stepped)
    loss_after = run(input_ids=ids, labels=ids).loss  # the wrapper still works
    torch.testing.assert_close(loss_after, plain(input_ids=ids, labels=ids).loss, rtol=1e-5, atol=1e-5)
    if adapted and mode != "fsdp1":  # whose parameters have no names of their own
        check_kept_adapter(model, plain)


def check_kept_adapter(model: nn.Module, plain: nn.Module) -> None:
    """All ranks take part, the first one writes what one process would."""
    from peft import get_peft_model_state_dict

    first = torch.distributed.get_rank() == 0
    with tempfile.TemporaryDirectory() as name:
        save_adapter(model, Path(name), writes=first)
        if first:
            kept = load_file(Path(name) / "adapter_model.safetensors")
            expected = get_peft_model_state_dict(plain)
            assert_same(dict(sorted(kept.items())), dict(sorted(expected.items())), rtol=1e-5, atol=1e-6)
            assert json.loads((Path(name) / "base.json").read_text())["sha256"] == weights_hash(tiny())
        else:
            assert not any(Path(name).iterdir())


LONG = pytest.mark.long("tests/unit/rollout/test_weights.py::test_what_two_ranks_hold_is_what_one_process_does")


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*(pytest.param(mode, marks=LONG) for mode in ("ddp", "fsdp1")), "fsdp2", "zero3"])
def test_what_two_ranks_hold_is_what_one_process_does(mode):
    if mode == "zero3" and not is_installed("deepspeed"):
        pytest.skip("DeepSpeed is not installed")
    for output in run_ranks(__name__, f"worker({mode!r})"):
        assert f"{mode}: tensors equal" in output


def some_tensors() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    long = torch.randn(3 * (1 << 16) + 5, generator=g)  # over several rows of words, with a rest
    return [
        torch.randn(5, 7, generator=g),
        torch.randn(33, generator=g).bfloat16(),
        long,
        long.bfloat16(),
        torch.randint(99, (1 << 15,), generator=g),
        torch.tensor(3.0),
    ]


@pytest.mark.parametrize("tensor", some_tensors(), ids=lambda t: f"{str(t.dtype)[6:]}-{t.numel()}")
def test_a_checksum_sees_one_bit_anywhere(tensor):
    reference = checksum(tensor)
    assert checksum(tensor.clone()) == reference
    data = tensor.clone().view(-1)
    bits = data.view(torch.uint8)
    for byte in {0, 1, bits.numel() // 2, bits.numel() - 1}:
        for bit in range(8):
            bits[byte] ^= 1 << bit
            assert checksum(data) != reference, (byte, bit)
            bits[byte] ^= 1 << bit
    assert checksum(data) == reference


def test_a_checksum_sees_order_signs_and_dtype():
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = torch.randn(1 << 17, generator=g).to(dtype)
        reference, seen = checksum(x), set()
        for i, j in torch.randint(len(x), (300, 2), generator=g).tolist():
            if x[i] != x[j]:
                swapped = x.clone()
                swapped[i], swapped[j] = x[j], x[i]
                seen.add(checksum(swapped))
        assert reference not in seen
        assert len(seen) > 290
        per_word, words = 8 // x.element_size(), []
        for word in range(256):  # swapped, these words differ in their highest bit alone
            words.append(torch.ones(256 * per_word, dtype=dtype))
            words[-1][word * per_word + per_word - 1] = -1
        assert len({checksum(w) for w in words}) == 256
        assert checksum(x.roll(1)) != reference
    x = torch.randn(64, 64, generator=g).bfloat16()
    assert len({checksum(x), checksum(x.float()), checksum(x.half()), checksum(x.view(torch.int16))}) == 4
    assert len({checksum(torch.zeros(n)) for n in range(20)}) == 20


def test_a_checksum_does_not_depend_on_how_a_tensor_is_stored():
    x = torch.randn(70, 90, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert checksum(x.t()) == checksum(x.t().contiguous())
    assert checksum(x[:, 1:7]) == checksum(x[:, 1:7].contiguous())
    for offset in range(5):  # not at a multiple of 8 bytes
        part = x.view(-1)[offset:4000]
        assert checksum(part) == checksum(part.clone())
    assert checksum(x.requires_grad_()) == checksum(x.detach())


def test_a_checksum_is_the_same_in_every_process():
    """A known value: an engine on another machine must come to it too."""
    assert checksum(torch.arange(100_000, dtype=torch.float32)) == 0x841C3AD3C515F300
    words = torch.arange(6, dtype=torch.float32).view(torch.int64).tolist()
    columns, (row,) = (_odd_weights(s, n, CPU).tolist() for s, n in (("columns", 3), ("rows", 1)))
    by_hand = sum(w * (x ^ (x >> 32)) for w, x in zip(columns, words, strict=True)) * row % (1 << 64)
    assert checksum(torch.arange(6, dtype=torch.float32)) == by_hand ^ zlib.crc32(b"torch.float32 6") << 32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("tensor", some_tensors(), ids=lambda t: f"{str(t.dtype)[6:]}-{t.numel()}")
def test_a_checksum_is_the_same_on_a_gpu(tensor):
    assert checksum(tensor.cuda()) == checksum(tensor)


def test_a_manifest_passes_what_was_sent_and_names_what_was_not():
    sent = dict(policy_tensors(tiny()))
    manifest = Manifest(7, {name: describe(tensor) for name, tensor in sent.items()})
    entries = {name: describe(tensor.clone()) for name, tensor in reversed(sent.items())}
    manifest.check(entries, "engine 0")

    name = "model.layers.1.mlp.down_proj.weight"
    for damaged in (sent[name].bfloat16(), sent[name].view(-1), sent[name] + 1e-6, sent[name].t().contiguous()):
        with pytest.raises(WeightMismatch, match=rf"version 7 at engine 1.*1 different, first {name}"):
            manifest.check(entries | {name: describe(damaged)}, "engine 1")
    with pytest.raises(WeightMismatch, match=r"1 missing, first lm_head\.weight"):
        manifest.check({n: e for n, e in entries.items() if n != "lm_head.weight"}, "engine 1")
    with pytest.raises(WeightMismatch, match="1 not in the manifest, first extra"):
        manifest.check(entries | {"extra": entries[name]}, "engine 1")
