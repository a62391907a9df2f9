"""Adapters kept beside a model: plain peft loads them, and merging gives what base and adapter compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ixt_rl.blocks.model import LoraBlock, ModelBlock
from ixt_rl.blocks.python_name import ON_THIS_MACHINE
from ixt_rl.cli.main import main
from ixt_rl.errors import ConfigError
from ixt_rl.judging.opening import parse_judge
from ixt_rl.models import byte_tokenizer
from ixt_rl.pretrained import merging
from ixt_rl.pretrained.adapters import find_adapter, save_adapter
from ixt_rl.pretrained.merging import merge_adapter
from ixt_rl.pretrained.weights_hash import weights_hash
from ixt_rl.run.named_model import named_model
from ixt_rl.run.stages.adapters import lora_config
from ixt_rl.types import SamplingParams
from tests.unit.architectures import tiny_config

peft = pytest.importorskip("peft")
IDS = torch.randint(259, (2, 9), generator=torch.Generator().manual_seed(3))
KINDS = {
    "lora": {},
    "rslora": {"rslora": True, "r": 3},
    "dora": {"dora": True, "modules_to_save": ["lm_head", "norm"]},
}


def base_model(folder: Path, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **changes) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=259, max_position_embeddings=64, **{"tie_word_embeddings": False, **sizes, **changes}
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def loaded(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def trained(base: Path, **changes):
    """A base under adapters that a training might have left."""
    model = loaded(base)
    adapted = peft.get_peft_model(model, lora_config(LoraBlock(**changes), model)).eval()
    g = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=g)
            parameter.data = parameter + 0.3 * noise if "magnitude" in name else 0.3 * noise
    return adapted


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return base_model(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_what_the_trainer_had_in_peft_and_merged(kind, base, tmp_path):
    model = trained(base, **KINDS[kind])
    expected = logits(model)
    assert (expected - logits(loaded(base))).abs().max() > 0.1
    save_adapter(model, tmp_path / "adapter")
    plain = peft.PeftModel.from_pretrained(loaded(base), str(tmp_path / "adapter")).eval()
    assert torch.equal(logits(plain), expected)
    assert torch.equal(logits(model), expected)  # saving changed nothing
    said = merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert said["base"] == str(base) and said["base_verified"] and said["dtype"] == "bfloat16"
    assert said["logprob_differences"]["merging"] < 1e-4
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    wanted = model.merge_and_unload().to(torch.bfloat16).state_dict()
    merged = loaded(tmp_path / "merged").to(torch.bfloat16).state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(merged[name], tensor, rtol=2**-7, atol=0, msg=name)


def test_a_base_is_known_by_its_values(base, tmp_path):
    whole = loaded(base)
    assert weights_hash(whole) == weights_hash(whole.to(torch.bfloat16))
    assert weights_hash(whole) != weights_hash(loaded(base_model(tmp_path, seed=1)))


def test_another_base_is_refused_and_nothing_is_written(base, tmp_path):
    adapter = tmp_path / "adapter"
    save_adapter(trained(base), adapter)
    alike = base_model(tmp_path / "alike", seed=1)
    with pytest.raises(ConfigError, match="its weights are not those of"):
        merge_adapter(adapter, tmp_path / "out", str(alike))
    (adapter / "base.json").unlink()  # as plain peft saves it: what can be compared are names and shapes
    for name, changes in {"wide": {"hidden_size": 32}, "shallow": {"num_hidden_layers": 1}}.items():
        other = base_model(tmp_path / name, **changes)
        with pytest.raises(ConfigError, match="is not that of"):
            merge_adapter(adapter, tmp_path / "out", str(other))
    said: list[str] = []
    assert not merge_adapter(adapter, tmp_path / "out", str(base), said.append)["base_verified"]
    assert any("unverified" in line for line in said)
    assert not (tmp_path / ".out.part").exists()
    with pytest.raises(ConfigError, match="holds something"):
        merge_adapter(adapter, tmp_path / "out", str(base))


def test_a_tied_head_that_an_adapter_trained_whole_is_untied_in_the_merged_model(tmp_path):
    """By plain peft; a `lora` block refuses it, because an engine would not have the two apart."""
    tied = base_model(tmp_path / "tied", dtype=torch.float32, tie_word_embeddings=True)
    with pytest.warns(UserWarning, match="tie_word"):
        model = peft.get_peft_model(
            loaded(tied), peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
        ).eval()
    (head,) = (p for name, p in model.named_parameters() if "modules_to_save" in name)
    head.data.normal_()
    model.save_pretrained(tmp_path / "adapter")
    with pytest.warns(UserWarning, match="tie_word"):
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    torch.testing.assert_close(logits(loaded(tmp_path / "merged")), logits(model))
    plain = loaded(tied)
    with pytest.raises(ConfigError, match="tied"):
        lora_config(LoraBlock(modules_to_save=["lm_head"]), plain)


def test_the_command_takes_a_run_a_stage_or_an_adapter(base, tmp_path):
    stage = tmp_path / "runs" / "mine" / "stages" / "rl" / "seed1"
    save_adapter(trained(base), stage / "adapter")
    (stage / "model").mkdir()
    (tmp_path / "runs" / "mine" / "model").symlink_to(stage / "model")
    for place in (tmp_path / "runs" / "mine", stage, stage / "adapter"):
        assert find_adapter(place).samefile(stage / "adapter")
    done = CliRunner().invoke(main, ["merge", str(tmp_path / "runs" / "mine"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "merged:" in done.output
    assert json.loads((tmp_path / "out" / "source.json").read_text())["base_verified"]
    refused = CliRunner().invoke(main, ["merge", str(base), str(tmp_path / "other")])
    assert refused.exit_code == 2
    assert "no adapter" in refused.output


def test_the_base_is_of_the_revision_that_an_adapter_names(base, tmp_path, monkeypatch):
    adapted = trained(base)
    adapted.peft_config["default"].revision = "v2"
    adapted.save_pretrained(tmp_path / "adapter")
    asked = []

    def seen(origin, **options):
        asked.append((origin, options.get("revision")))
        return load(origin, dtype=options["dtype"])

    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", seen)
    merge_adapter(tmp_path / "adapter", tmp_path / "merged", say=lambda said: None)
    other = f"{base}/."  # another name for it: what is given by --base is taken as it is
    merge_adapter(tmp_path / "adapter", tmp_path / "of-other", base=other, say=lambda said: None)
    assert asked == [(str(base), "v2")] * 2 + [(other, None)] * 2  # its dtypes, and its weights


def test_of_a_stage_with_seeds_the_adapters_are_named(base, tmp_path, monkeypatch):
    run = tmp_path / "mine"
    for seed in ("seed1", "seed2"):
        save_adapter(trained(base, target_modules=["q_proj"]), run / "stages" / "rl" / seed / "adapter")
        (run / "stages" / "rl" / seed / "model").mkdir()
    for place in (run, run / "stages" / "rl"):
        with pytest.raises(ConfigError, match=r"name one of: .*rl/seed1/adapter, .*rl/seed2/adapter"):
            find_adapter(place)
    one = run / "stages" / "rl" / "seed1"
    with pytest.raises(ConfigError, match=r"name one of: .*rl/seed1/adapter$"):
        find_adapter(one / "model")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="the command runs in it"):
        merge_adapter(one, Path("."))


@pytest.mark.parametrize("role", ["model", "evaluated", "judge"])
def test_an_adapter_is_not_taken_for_a_model(role, base, tmp_path):
    folder = tmp_path / "rl" / "adapter"
    save_adapter(trained(base, target_modules=["q_proj"]), folder)
    said = f"merge the two: ixt-rl merge {folder} OUT"
    with pytest.raises((ConfigError, ValidationError), match=said):
        if role == "model":
            ModelBlock.model_validate({"path": str(folder)}, context=ON_THIS_MACHINE)
        elif role == "evaluated":
            named_model(str(folder))
        else:
            parse_judge(f"hf:{folder}", {}).check(SamplingParams(8))
    (tmp_path / "rl" / "model").mkdir()
    (tmp_path / "rl" / "model" / "config.json").touch()
    with pytest.raises(ConfigError, match=f"name {tmp_path}/rl/model, the stage's model"):
        named_model(str(folder))


def test_what_released_models_and_adapters_come_with(tmp_path):
    """Weights of adapters in a .bin file; a generation config that transformers loads and does not save."""
    base = base_model(tmp_path / "base", hidden_size=32, initializer_range=0.3)
    said = {"temperature": 0.6, "top_p": 0.9, "pad_token_id": -1, "eos_token_id": [257, 258], "max_length": 64}
    (base / "generation_config.json").write_text(json.dumps(said))
    model = trained(base, target_modules=["q_proj"])
    model.save_pretrained(tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    torch.save(weights, tmp_path / "adapter" / "adapter_model.bin")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    found = merge_adapter(tmp_path / "adapter", tmp_path / "merged")["logprob_differences"]
    kept = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert kept["eos_token_id"] == [257, 258] and kept["max_length"] == 64
    assert not {"temperature", "top_p", "pad_token_id"} & kept.keys()
    ids = merging._probe(model)
    with torch.no_grad():  # what rounding moves is what the folder computes
        one, other = (each(input_ids=ids).logits.log_softmax(-1) for each in (loaded(tmp_path / "merged"), model))
    assert found["rounding"] == pytest.approx(float((one - other).abs().max()), rel=1e-4)


def test_each_tensor_is_stored_as_the_base_is_loaded_and_licences_come_along(tmp_path):
    """DeepSeek's routers add a bias in float32 to their scores, a buffer: in 16 bits it would choose other experts."""
    config: Any = tiny_config("deepseek_v3")
    config.first_k_dense_replace = 1  # of two layers
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    (name,) = (name for name in model.state_dict() if "e_score_correction_bias" in name)
    model.get_buffer(name).data = bias = torch.randn(4)
    assert not torch.equal(bias, bias.bfloat16().float())
    base = tmp_path / "base"
    model.save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    for file in ("LICENSE", "Notice.txt", "USE_POLICY.md", "unrelated.md"):
        (base / file).write_text(f"the base's {file}")
    save_adapter(trained(base, target_modules=["o_proj"]), tmp_path / "adapter")
    said = merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert said["dtype"] == "bfloat16"
    found = load_file(tmp_path / "merged" / "model.safetensors")
    whole = {key for key, tensor in found.items() if tensor.dtype != torch.bfloat16}
    assert name in whole and found[name].dtype == torch.float32
    assert whole <= {
        name,
        name.replace("e_score_correction_bias", "weight"),
    }  # the router's weight, from some version on
    assert torch.equal(found[name], bias)
    assert (tmp_path / "merged" / "LICENSE").read_text() == "the base's LICENSE"
    assert {"Notice.txt", "USE_POLICY.md"} <= {one.name for one in (tmp_path / "merged").iterdir()}
    assert not (tmp_path / "merged" / "unrelated.md").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_modules": ["q_porj"]}, "did you mean `q_proj`"),
        ({"target_modules": "layers.*.nothing"}, "no module of that name"),
        ({"modules_to_save": ["lmhead"]}, "did you mean `lm_head`"),
    ],
)
def test_modules_that_the_model_lacks_are_refused(changes, says, base):
    with pytest.raises(ConfigError, match=says):
        lora_config(LoraBlock(**changes), loaded(base))


@pytest.mark.parametrize("changes", [{"dora": True}, {"dropout": 0.1}])
def test_fused_experts_have_plain_lora_alone(changes):
    model = AutoModelForCausalLM.from_config(tiny_config("qwen3_moe"))
    with pytest.raises(ConfigError, match="experts"):
        lora_config(LoraBlock(**changes), model)
    assert lora_config(LoraBlock(**changes, target_modules=["q_proj"]), model) is not None
