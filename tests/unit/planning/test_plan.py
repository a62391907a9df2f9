"""Plans of run files: every kind of stage, engines, what does not fit, the nearest change, the command."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.config.load import load_run
from ixt_rl.config.shipped import names
from ixt_rl.errors import ConfigError
from ixt_rl.methods.registry import spec_of
from ixt_rl.planning.advice import nearest
from ixt_rl.planning.devices import GIB, machine, this_cpu
from ixt_rl.planning.plan import plan_run
from ixt_rl.planning.shapes import shape_of
from ixt_rl.planning.work import Assumed, work_of

BIG = "model.path=Qwen/Qwen2.5-7B"


def planned(name: str, *overrides: str, gpus: str = "H100", strategy="ddp", assumed: Assumed = Assumed()):  # noqa: B008
    return plan_run(load_run(name, overrides), machine(gpus, strategy), assumed)


def bytes_of(plan) -> dict[str, float]:
    return {part.name: part.bytes for part in [*plan.parts, *plan.engine]}


@pytest.mark.parametrize("name", names())
def test_every_shipped_file_has_a_plan(name, brought):
    config = load_run(name)
    plans = plan_run(config, machine("H100x8", "zero3"))
    assert [plan.name for plan in plans] == [stage.name for stage in config.stages]
    for stage, plan in zip(config.stages, plans, strict=True):
        spec = spec_of(stage)
        assert plan.planned == (spec.makes_model and not spec.makes_rows), stage.name
        if plan.planned:
            assert all(part.bytes >= 0 for part in plan.parts)
            assert plan.update > 0
            assert plan.device_hours is None if stage.steps is None else plan.device_hours > 0


def test_intro_has_a_posterior_pass_on_what_is_kept():
    live = planned("intro/math")[0]
    assert live.seconds["posterior"] * 8 * 0.5 == pytest.approx(live.seconds["train"] * 2 * 0.4)  # 6 N and 2 N again
    frozen = planned("intro/math", "stages.train.intro.posterior={source: frozen}")[0]
    assert bytes_of(frozen)["posterior (frozen)"] == bytes_of(frozen)["weights"]
    all_kept = planned("intro/math", assumed=Assumed(kept=1.0))[0]
    assert all_kept.seconds["train"] == pytest.approx(2 * live.seconds["train"])
    assert all_kept.seconds["sampling"] == live.seconds["sampling"]


def test_what_a_model_that_rewards_itself_costs():
    """LaTRO: each rationale trained twice, scored by three passes; RLP: by one, and one of the prompts for a group."""
    grpo, *_ = planned("intro/math", "stages.train.type=grpo")
    latro, *_ = planned("intro/math", "stages.train.type=latro")
    assert latro.seconds["train"] == pytest.approx(2 * grpo.seconds["train"])
    assert latro.seconds["score"] * 8 * 0.5 == pytest.approx(3 * grpo.seconds["train"] * 2 * 0.4)  # 6 N and 2 N again
    assert bytes_of(latro)["reference (frozen)"] == bytes_of(latro)["weights"]
    assert bytes_of(latro)["activations"] == pytest.approx(2 * bytes_of(grpo)["activations"])
    free, *_ = planned("intro/math", "stages.train.type=latro", "stages.train.latro.kl=0.0")
    assert "reference (frozen)" not in bytes_of(free)
    assert free.seconds["score"] == pytest.approx(latro.seconds["score"] / 3)
    rlp, *_ = planned("intro/math", "stages.train.type=rlp")
    assert rlp.seconds["train"] == grpo.seconds["train"]
    assert free.seconds["score"] < rlp.seconds["score"] < 2 * free.seconds["score"]
    assert bytes_of(rlp)["moving average"] > 0


def test_what_is_compared_with_costs_a_copy_and_a_pass():
    """GRPO's penalty, and the log-probs of the policy that sampled where rollouts outlast it."""
    plain, *_ = planned("intro/math", "stages.train.type=grpo")
    kl, *_ = planned("intro/math", "stages.train.type=grpo", "stages.train.grpo.beta=0.04")
    assert bytes_of(kl) == {**bytes_of(plain), "reference (frozen)": bytes_of(plain)["weights"]}
    one_pass = kl.seconds["score"]
    assert one_pass * 8 * 0.5 == pytest.approx(plain.seconds["train"] * 2 * 0.4)  # 6 N and 2 N again
    adapters, *_ = planned(
        "intro/math", "stages.train.type=grpo", "stages.train.grpo.beta=0.04", "stages.train.lora={r: 8}"
    )
    assert "reference (frozen)" not in bytes_of(adapters)
    twice, *_ = planned("intro/math", "stages.train.type=rlcsd", "stages.train.num_iterations=2")
    once, *_ = planned("intro/math", "stages.train.type=rlcsd")
    assert twice.seconds["score"] == pytest.approx(one_pass / 2)
    assert twice.seconds["posterior"] == pytest.approx(once.seconds["posterior"] / 2)


def test_dpo_trains_both_replies_and_scores_them_by_the_reference(brought):
    dpo = planned("real/ixt")[-1]
    assert dpo.name == "dpo"
    assert bytes_of(dpo)["reference (frozen)"] == bytes_of(dpo)["weights"]
    assert 3 <= dpo.seconds["train"] / dpo.seconds["score"] < 4  # 6 N and 2 N a token, with what is computed twice


@pytest.mark.parametrize(
    ("file", "stage", "said"),
    [("real/ixt", "levels", False), ("ixt/controls", "tags", False), ("ixt/chain", "levels", True)],
)
def test_annotation_is_spoken_of_where_somebody_judges(file, stage, said, brought):
    (found,) = (one for one in planned(file) if one.name == stage)
    assert any("annotation is a job" in note for note in found.notes) is said


def test_grpo_trains_all_rollouts_without_a_posterior():
    intro, grpo = planned("intro/math")[0], planned("intro/math", "stages.train.type=grpo")[0]
    assert "posterior" not in grpo.seconds
    assert grpo.seconds["train"] == pytest.approx(2 * intro.seconds["train"])


def test_what_openrlhf_holds_is_said_to_be_uncounted():
    name = next(stage.name for stage in load_run("intro/gsm8k").stages if stage.type == "intro")
    for asked in ([], ["model.dtype=bfloat16", f"stages.{name}.backend=openrlhf"]):
        (plan,) = (plan for plan in planned("intro/gsm8k", *asked) if plan.name == name)
        assert any("its actors and engines" in note for note in plan.notes) is bool(asked)


def test_hours_are_of_all_devices():
    one, eight = planned("intro/math")[0], planned("intro/math", gpus="H100x8", strategy="zero2")[0]
    assert one.device_hours == pytest.approx(300 * one.update / 3600)
    assert eight.device_hours == pytest.approx(300 * eight.update * 8 / 3600)


def test_an_engine_in_the_process_takes_its_share_and_one_of_its_own_its_device():
    inside = planned("intro/math", "engine={type: vllm, vllm: {gpu_memory: 0.3}}")[0]
    taken = sum(part.bytes for part in inside.parts if part.name.startswith("engine"))
    assert taken == pytest.approx(0.3 * machine("H100").device.memory)
    beside = planned("intro/math", "engine={type: ray-vllm, pool: {engines: 2}}", gpus="H100x4")[0]
    assert beside.ranks == 2
    assert not any(part.name.startswith("engine") for part in beside.parts)
    assert sum(part.bytes for part in beside.engine) == pytest.approx(0.9 * machine("H100").device.memory)
    with pytest.raises(ConfigError, match="none is left to train on"):
        planned("intro/math", "engine={type: ray-vllm, pool: {engines: 4}}", gpus="H100x4")


def test_an_engine_without_room_for_keys_is_said():
    small = planned("intro/math", "engine={type: vllm, vllm: {gpu_memory: 0.05}}")[0]
    assert "gpu_memory leaves" in small.misfits[0]


def test_what_does_not_fit_names_the_largest_part_and_the_nearest_change():
    config = load_run("intro/math", ["stages.train.micro_batch_size=64", "stages.train.gradient_checkpointing=false"])
    one = machine("RTX4090")
    plan = plan_run(config, one)[0]
    assert "optimizer" in plan.misfits[0] or "activations" in plan.misfits[0]
    change = nearest(config, 0, one)
    assert change is not None
    assert change.plan.peak <= change.plan.limit
    assert change.words[0].startswith("--gpus RTX4090x2")  # 1.5B with float32 states alone is more than 24 GiB


def test_results_are_left_as_they_are_where_a_smaller_micro_batch_is_enough():
    config = load_run("intro/math", ["stages.train.micro_batch_size=128"])
    assert plan_run(config, machine("H100"))[0].misfits
    change = nearest(config, 0, machine("H100"))
    (words,) = change.words
    key, _, size = words.partition("=")
    assert key == "stages.train.micro_batch_size"
    assert plan_run(load_run("intro/math", [words]), machine("H100"))[0].misfits == ()
    larger = load_run("intro/math", [f"{key}={2 * int(size)}"])
    assert plan_run(larger, machine("H100"))[0].misfits  # the change is the nearest


def test_an_engine_of_its_own_device_is_tried():
    config = load_run("papers/intro-out-of-domain")
    change = nearest(config, 1, machine("RTX4090"))  # 4B in half precision leave vLLM no room beside training
    assert "engine.type=ray-vllm" in change.words
    assert sum(part.bytes for part in change.plan.engine) <= change.plan.limit


def test_nothing_may_help():
    config = load_run("intro/math", ["model.path=meta-llama/Llama-3.1-70B"])
    tiny = machine("T4")
    assert nearest(config, 0, replace(tiny, device=replace(tiny.device, memory=0.5 * GIB))) is None


def test_this_machine_is_the_default():
    here = machine(None)
    assert (here.device, here.count) == (this_cpu(), 1)
    assert plan_run(load_run("demo/addition"), here)[0].misfits == ()


def test_ranks_of_this_machine_share_its_cores_and_memory():
    here, both = machine(None), machine(None, "zero2", ranks=2)
    assert both.count == 2 and both.device.memory == here.device.memory / 2
    assert both.device.flops[4] == here.device.flops[4] / 2
    config = load_run("demo/addition")
    alone, shared = (plan_run(config, each)[2] for each in (here, both))
    assert shared.ranks == 2 and shared.limit == alone.limit / 2
    assert shared.seconds["train"] == pytest.approx(alone.seconds["train"])


def test_ranks_divide_a_batch_and_what_is_sampled():
    """512 rationales are 64 for each of eight, whatever a micro-batch may have; of one device it is 256 that sample."""
    eight = {"gpus": "H100x8", "strategy": "zero2"}
    whole, part = (planned("intro/math", f"stages.train.micro_batch_size={size}", **eight)[0] for size in (512, 64))
    assert whole.parts == part.parts
    one = planned("intro/math", "stages.train.micro_batch_size=64")[0]
    assert bytes_of(part)["activations"] == bytes_of(one)["activations"]
    assert bytes_of(part)["keys and values"] == bytes_of(one)["keys and values"] / 4


@pytest.mark.parametrize(
    ("name", "stage", "texts"),
    [("real/sip", "dpo", 2), ("real/ixt", "dpo", 2), ("real/ixt", "plain", 1), ("demo/addition", "base", 1)],
)
def test_a_rank_has_its_part_of_every_kind_of_batch(name, stage, texts, brought):
    config = load_run(name, [f"stages.{stage}.batch_size=16"])
    work = work_of(config.named[stage], config.model, shape_of(config.model), Assumed(), cpu=False)
    assert [work.on(ranks).job.rows for ranks in (1, 4)] == [16 * texts, 4 * texts]


def test_the_launch_block_says_what_each_device_holds():
    words = ["plan", "intro/math", "--gpus", "H100x8", "launch.ranks=8", "launch.strategy=fsdp2"]
    held = CliRunner().invoke(main, words)
    assert "H100x8, fsdp2;" in held.output and "gathered weights" in held.output
    away = CliRunner().invoke(main, [*words, "launch.offload=true"])
    assert "fsdp2, offloaded" in away.output and "in the host's memory" in away.output
    other = CliRunner().invoke(main, [*words, "--strategy", "ddp"])
    assert "gradient buckets" in other.output
    fewer = CliRunner().invoke(main, ["plan", "intro/math", "--gpus", "H100x4", *words[4:]])
    assert "launch.ranks=8, and this is a plan for 4 training devices" in fewer.output


def test_devices_that_could_not_share_a_batch_are_told_of():
    config = load_run("demo/addition")
    refused = [one for one in plan_run(config, machine("H100x7")) if one.planned]
    assert refused and all("would refuse" in one.notes[-1] for one in refused)
    assert all(any("with launch.ranks=7: set" in note for note in one.notes) for one in refused)
    assert not any("would refuse" in note for one in plan_run(config, machine("H100x2")) for note in one.notes)


def test_all_that_devices_could_not_do_is_told_of():
    best = "stages.grpo.keep_best={metric: greedy/checked, mode: max}"
    plans = planned("demo/addition", best, gpus="H100x7", strategy="zero3")
    (notes,) = (one.notes for one in plans if one.name == "grpo")
    said = " ".join(note for note in notes if "would refuse" in note)
    assert "rollouts_per_step=32 of stage grpo" in said and "keep_best of stage grpo" in said


@pytest.mark.parametrize(("text", "said"), [("H10", "H100"), ("H100x0", "NAMExCOUNT"), ("", "RTX4090")])
def test_unknown_devices_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        machine(text)


def test_the_command_says_parts_times_and_what_fits():
    ran = CliRunner().invoke(main, ["plan", "intro/math", "--gpus", "H100"])
    assert ran.exit_code == 0
    for word in ("weights", "optimizer", "peak", "sampling", "posterior", "all updates", "prompts of 200"):
        assert word in ran.output
    ran = CliRunner().invoke(main, ["plan", "intro/math", BIG, "--gpus", "H100"])
    assert ran.exit_code == 1
    assert "fits with --gpus H100x2 --strategy zero2" in ran.output
    small = CliRunner().invoke(main, ["plan", "intro/math", "--gpus", "T4"])
    assert "--gpus T4x" in small.output or "'stages.train.lora={r: 16}'" in small.output
    assert CliRunner().invoke(main, ["plan", "intro/math", "--gpus", "H1"]).exit_code == 2
    assert CliRunner().invoke(main, ["plan", "intro/math", "model.path=mine/own"]).exit_code == 2


def test_a_plan_imports_no_torch():
    words = ["plan", "intro/math", "--gpus", "H100"]
    code = f"import sys; from ixt_rl.cli.main import main; main({words}, standalone_mode=False)"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
