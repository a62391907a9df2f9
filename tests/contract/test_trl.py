"""What this library relies on in TRL's and transformers' private methods; a failure here says what changed upstream."""

from __future__ import annotations

import inspect
import warnings
from difflib import get_close_matches

import pytest
import transformers
import trl
from packaging.version import Version
from trl.models.utils import prepare_deepspeed, prepare_fsdp, unwrap_model_for_generation

from ixt_rl.backends import BACKENDS
from tests.contract import touched
from tests.contract.relied_on import ATTRIBUTES, CALLED, NEWER, OVERRIDDEN, RETURNED, TESTED

VERSIONS = f"TRL {trl.__version__}, transformers {transformers.__version__}"
BUFFERED = "self._buffered_inputs[self._step % self.args.steps_per_generation]"


def problem(name: str, parameters: str) -> str | None:
    """What became of a method `Class.method` that had the parameters, or None."""
    owner, _, method = name.partition(".")
    kind = touched.their_classes().get(owner)
    if kind is None:
        return f"{VERSIONS}: no class of ours derives from a class {owner} any more; it had {method}{parameters}"
    if method not in vars(kind):
        near = get_close_matches(method, vars(kind), n=1)
        where = next((base.__name__ for base in kind.__mro__ if method in vars(base)), None)
        now = f"it is inherited from {where} now" if where else f"it is gone; nearest: {', '.join(near) or 'none'}"
        return f"{VERSIONS}: {owner} does not define {method}{parameters}: {now}"
    found = touched.signature(vars(kind)[method])
    return None if found == parameters else f"{VERSIONS}: {name} had {parameters}, and has {found}"


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_tested_minor_range():
    first, beyond = map(Version, TESTED)
    assert first <= Version(trl.__version__) < beyond
    assert BACKENDS["trl"].versions == f">={first},<{beyond}"


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods_keep_their_parameters(name):
    owner, _, method = name.partition(".")
    by = sorted(touched.overridden().get((owner, method), ()))
    found = problem(name, OVERRIDDEN[name])
    assert found is None, f"{found}; overridden in {', '.join(by) or 'no file any more'}"
    assert by, f"nothing overrides {name} any more: take it out of tests/contract/relied_on.py"


@pytest.mark.parametrize("name", CALLED)
def test_called_methods_keep_their_parameters(name):
    method = name.partition(".")[2]
    found = problem(name, CALLED[name])
    assert found is None, f"{found}; called in {', '.join(sorted(touched.read().get(method, ())))}"
    assert method in touched.read(), f"nothing calls {name} any more: take it out of tests/contract/relied_on.py"


@pytest.mark.parametrize("name", RETURNED)
def test_methods_return_as_many_values(name):
    owner, _, method = name.partition(".")
    found = touched.returned(vars(touched.their_classes()[owner])[method])
    assert found == {RETURNED[name]}, f"{VERSIONS}: {name} returned {RETURNED[name]} values, and returns {found}"


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_set_where_they_were(name):
    found = touched.private_names().get(name, set())
    readers = ", ".join(sorted(touched.read().get(name, ())))
    assert found == ATTRIBUTES[name], f"{VERSIONS}: {name} was set by {ATTRIBUTES[name]}, now by {found}; see {readers}"
    assert readers, f"nothing reads {name} any more: take it out of tests/contract/relied_on.py"


@pytest.mark.parametrize("name", NEWER)
def test_attributes_of_newer_versions_are_set_there_or_nowhere(name):
    assert touched.private_names().get(name, NEWER[name]) == NEWER[name]


def test_nothing_else_is_touched():
    """A new override or use, or a class of TRL's that now defines what it inherited: it belongs into the tables."""
    new = {".".join(key): sorted(files) for key, files in touched.overridden().items()}
    assert {name: new[name] for name in sorted(set(new) - set(OVERRIDDEN))} == {}, "not in relied_on.OVERRIDDEN"
    known = {name.partition(".")[2] for name in [*OVERRIDDEN, *CALLED]} | {*ATTRIBUTES, *NEWER}
    read = touched.read()
    assert {name: sorted(read[name]) for name in sorted(set(read) - known)} == {}, "not in relied_on.py"


def test_what_moved_is_named(monkeypatch):
    trainer, method, had = trl.GRPOTrainer, "_calculate_rewards", "(self, inputs)"
    assert problem(f"GRPOTrainer.{method}", had).endswith(f"has {OVERRIDDEN[f'GRPOTrainer.{method}']}")
    monkeypatch.setattr(trainer, "_calculate_all_rewards", vars(trainer)[method], raising=False)
    monkeypatch.delattr(trainer, method)
    assert problem(f"GRPOTrainer.{method}", had).endswith("it is gone; nearest: _calculate_all_rewards")
    monkeypatch.setattr(trainer.__mro__[1], method, print, raising=False)
    assert problem(f"GRPOTrainer.{method}", had).endswith(f"it is inherited from {trainer.__mro__[1].__name__} now")
    assert "derives from a class PPOTrainer any more" in problem("PPOTrainer.step", had)


def test_sft_counts_tokens_where_packed_rows_are_counted_anew():
    assert "self._total_train_tokens += " in inspect.getsource(trl.SFTTrainer)


def test_what_checkpoints_and_resuming_rely_on_in_the_training_loop():
    loop = inspect.getsource(transformers.Trainer._inner_training_loop)
    begins = loop.index("on_train_begin")
    for name in ("self._tr_loss = ", "self._total_loss_scalar = ", "self._globalstep_last_logged = "):
        assert loop.index(name) < begins, name  # a callback may set them to what a checkpoint held
    assert BUFFERED in inspect.getsource(trl.GRPOTrainer._prepare_inputs)


def test_losses_scale_themselves_for_accumulation():
    assert trl.GRPOTrainer.loss_is_scaled_for_ga is True


def test_attributes_that_overrides_read_are_still_set():
    source = inspect.getsource(trl.GRPOTrainer)
    for name in ("self.eos_token_ids", "self.reward_weights", "self.temperature"):
        assert f"{name} = " in source, name
    assert "current_gradient_accumulation_steps" in source


def test_rollout_func_gets_the_repeated_local_prompts_and_the_trainer():
    source = inspect.getsource(trl.GRPOTrainer._generate)
    assert "self.rollout_func(prompts, self)" in source
    assert '{"prompt_ids", "completion_ids", "logprobs"}' in source


def test_helpers_for_sharded_models_exist():
    assert parameters(unwrap_model_for_generation)[:3] == ["model", "accelerator", "gather_deepspeed3_params"]
    assert "summon_full_params" in inspect.getsource(trl.GRPOTrainer._generate_single_turn)
    assert parameters(prepare_deepspeed) == ["model", "accelerator"]
    assert parameters(prepare_fsdp)[:2] == ["model", "accelerator"]


def test_what_is_relied_on_in_the_self_distillation_trainers():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*trl.experimental.*")
        from trl.experimental import sdft, sdpo
        from trl.experimental.sdpo import sdpo_trainer
    for trainer in (sdpo.SDPOTrainer, sdft.SDFTTrainer):
        assert trainer.loss_is_scaled_for_ga is True
        assert BUFFERED in inspect.getsource(trainer._prepare_inputs)
        source = inspect.getsource(trainer)
        for name in ("self.teacher_model", "self.temperature", "self.model_kwarg_keys"):
            assert f"{name} = " in source, name
        assert "_generate(" in inspect.getsource(trainer.sample_rollouts)
    source = inspect.getsource(sdpo.SDPOTrainer)
    assert "self._record_reward_diagnostics(mode, rewards, rewards_per_func, group_std_rewards)" in source
    shown = inspect.getsource(sdpo_trainer.SuccessfulRolloutTeacherContextBuilder)
    assert "all_rewards[j].item() >= threshold" in shown  # NaN is no success, nor is the 0 that TRL makes of it
    assert "self.teacher_context_builder = " in inspect.getsource(sdft.SDFTTrainer)
