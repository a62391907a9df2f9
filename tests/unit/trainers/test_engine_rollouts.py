"""An engine outside the trainer's model: it follows the policy, is compared with it, and may sample ahead."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import trl
from datasets import Dataset

from ixt_rl.errors import ConfigError, DataError, ParityError, WeightsLost
from ixt_rl.kernels.correction import Correction
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.asked import repeats
from ixt_rl.rollout.parity import score_difference
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.types import SamplingParams
from tests.unit.rollout.sampled import SHIPPED, ship
from tests.unit.trainers.helpers import WORLD, make_trainer, rows, tiny


class OtherEngine:
    """A model of its own, brought up to date by name; `submit` samples in a thread, as a pool does elsewhere."""

    def __init__(self, model, forgets: tuple[str, ...] = ()):
        own = copy.deepcopy(model)
        del own.forward  # the trainer's addition, bound to the trainer's model
        self._engine = TransformersEngine(own, eos_ids=(11,), pad_id=12)
        self._thread = ThreadPoolExecutor(1)
        self.forgets = forgets
        self.policy_version = -1
        self.log: list[tuple] = []

    def update_weights(self, named_tensors, version):
        copies = [(name, tensor.clone()) for name, tensor in named_tensors if name not in self.forgets]
        self._thread.submit(self._engine.update_weights, copies, version).result()
        self.policy_version = version
        self.log.append(("update", version))

    def generate(self, prompts, sampling, n=1):
        return self.submit(prompts, sampling, n).result()

    def submit(self, prompts, sampling, n=1):
        if n > 1:
            self.log.append(("sample", self.policy_version, sampling.seed))
        return self._thread.submit(self._engine.generate, list(prompts), sampling, n)

    def close(self): ...


class LosesWeights(OtherEngine):
    """Fails amid the update to version 1, and when it samples with version 2 for training; twice each."""

    def __init__(self, model):
        super().__init__(model)
        self.failures = {"update": 2, "sample": 2}

    def update_weights(self, named_tensors, version):
        if version == 1 and self.failures["update"]:
            self.failures["update"] -= 1
            next(named_tensors)
            raise WeightsLost("half of the weights")
        super().update_weights(named_tensors, version)

    def submit(self, prompts, sampling, n=1):
        if n > 1 and self.policy_version == 2 and self.failures["sample"]:
            self.failures["sample"] -= 1
            return self._thread.submit(self._lose)
        return super().submit(prompts, sampling, n)

    def _lose(self):
        raise WeightsLost("no engine is left")


class _Submits:
    submit = generate = update_weights = close = None


def odd_start(completion_ids, **_) -> list[float]:
    """A reward that an untrained model gets half of the time."""
    return [float(ids[0] % 2) for ids in completion_ids]


def train(tmp_path, method="grpo", rollouts=None, **options):
    torch.manual_seed(0)
    model = tiny()
    trainer = make_trainer(method, tmp_path, model, max_steps=4, reward=odd_start, **options)
    if rollouts is not None:
        trainer.rollouts = trainer.rollout_func = rollouts(model)
    trainer.train()
    return trainer


def weights(trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("method", ["grpo", "intro"])
def test_an_engine_outside_trains_what_the_model_itself_trains(tmp_path, method):
    inside = train(tmp_path / "a", method)
    outside = train(tmp_path / "b", method, lambda model: EngineRollouts(OtherEngine(model)))
    assert torch.equal(weights(inside), weights(outside))
    engine = outside.rollouts.engine
    assert [entry[1] for entry in engine.log if entry[0] == "sample"] == [0, 1, 2, 3]
    parity = [row["parity/logp_abs_max"] for row in outside.state.log_history if "parity/logp_abs_max" in row]
    assert len(parity) == 4
    assert max(parity) < 1e-4


def test_weights_that_an_engine_loses_are_sent_again(tmp_path):
    inside = train(tmp_path / "a")
    outside = train(tmp_path / "b", "grpo", lambda model: EngineRollouts(LosesWeights(model)))
    engine = outside.rollouts.engine
    assert not any(engine.failures.values())
    assert torch.equal(weights(inside), weights(outside))
    assert [entry[1] for entry in engine.log if entry[0] == "update"] == [0, 1, 2, 2, 2, 3]


def test_an_evaluation_amid_which_an_engine_loses_weights_is_done_again(tmp_path):
    trainer = train(tmp_path, "grpo", lambda model: EngineRollouts(LosesWeights(model)))
    engine, versions = trainer.rollouts.engine, []
    engine.failures["sample"] = 2

    def measure(engine):
        engine.policy_version = 2  # the one that is lost
        versions.append(engine.log[-1])
        return engine.generate([[5, 6]], SamplingParams(max_new_tokens=2), 2)

    ((first, second),) = trainer.rollouts.evaluated(trainer, measure)
    assert len(first.completion_ids) == len(second.completion_ids) == 2
    assert versions == [("update", 4)] * 3
    assert engine.log[-4:-1] == [("update", 4)] * 3, "weights were sent again before each new try"


def test_batches_sampled_ahead_are_sampled_again_where_an_engine_loses_weights(tmp_path):
    """What version 2 was to sample for step 3, version 3 samples."""
    ahead = train(tmp_path, "grpo", lambda model: EngineRollouts(LosesWeights(model), staleness=1))
    logged = [row["rollout/staleness"] for row in ahead.state.log_history if row.get("rollout/staleness") is not None]
    assert logged == [0, 1, 1, 0]


@pytest.mark.parametrize("staleness", [1, 2])
def test_sampling_ahead(tmp_path, staleness):
    """Step s is sampled by version max(0, s - staleness), with the seeds and prompts of the run without overlap."""
    options = {"correction": Correction()}
    now = train(tmp_path / "a", "grpo", lambda model: EngineRollouts(OtherEngine(model)), **options)
    ahead = train(
        tmp_path / "b", "grpo", lambda model: EngineRollouts(OtherEngine(model), staleness=staleness), **options
    )
    samples = [[entry for entry in t.rollouts.engine.log if entry[0] == "sample"] for t in (now, ahead)]
    assert [version for _, version, _ in samples[1]] == [max(0, step - staleness) for step in range(4)]
    assert [seed for *_, seed in samples[1]] == [seed for *_, seed in samples[0]]
    assert not torch.equal(weights(now), weights(ahead))
    logged = [row["rollout/staleness"] for row in ahead.state.log_history if row.get("rollout/staleness") is not None]
    assert logged == [min(step, staleness) for step in range(4)]


def test_a_stale_head_is_refused(tmp_path):
    """The head's entry does not arrive: log-probs agree at the start and are off after the first update."""
    with pytest.raises(ParityError, match=r"after the update to step 1, log-probs of the engine differ .* limit 0\.01"):
        train(
            tmp_path,
            "grpo",
            lambda model: EngineRollouts(OtherEngine(model, forgets=("model.embed_tokens.weight", "lm_head.weight"))),
            learning_rate=1e-1,
        )


def test_staleness_needs_an_engine_that_samples_in_the_background():
    with pytest.raises(ConfigError, match="staleness=1 with NoneType"):
        EngineRollouts(staleness=1)


def test_staleness_needs_one_generation_an_update(tmp_path):
    rollouts = EngineRollouts(_Submits(), staleness=1, parity_limit=math.inf)
    with pytest.raises(ConfigError, match="num_iterations=2"):
        make_trainer("grpo", tmp_path, rollouts=rollouts, num_iterations=2)


def test_repeats():
    assert repeats([[1], [1], [2], [2]]) == ([[1], [2]], 2)
    assert repeats([[1], [1], [1], [1], [2], [2]]) == ([[1], [1], [2]], 2)
    assert repeats([[1], [2], [1]]) == ([[1], [2], [1]], 1)


# ---------------------------------------------------------------- the model's own rollouts


def wrong_with_a_cache(model, factor: float = 1.5):
    """A model that is another one when it decodes token by token."""
    plain = model.forward

    def forward(input_ids=None, past_key_values=None, **kwargs):
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        output = plain(input_ids=input_ids, past_key_values=past_key_values, **kwargs)
        if seen:
            output.logits = factor * output.logits
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize("method", ["grpo", "intro", "raft"])
def test_a_model_that_decodes_as_another_one_is_refused_before_the_first_update(tmp_path, method):
    model = wrong_with_a_cache(tiny())
    trainer = make_trainer(method, tmp_path, model, rollouts=EngineRollouts(), reward=odd_start)
    before = weights(trainer)
    with pytest.raises(ParityError, match=r"LlamaForCausalLM .* differ from the trainer's by .* limit 0\.01"):
        trainer.train()
    assert torch.equal(weights(trainer), before)


def test_in_mixed_precision_the_limit_is_that_of_its_dtype(tmp_path):
    """Weights are float32 all the same."""
    trainer = make_trainer("grpo", tmp_path / "a", rollouts=EngineRollouts(), reward=odd_start, bf16=True)
    trainer.train()
    assert 0 < trainer.self_checks.results["engine"] < 0.1
    wrong = wrong_with_a_cache(tiny(), 30.0)
    trainer = make_trainer("grpo", tmp_path / "b", wrong, rollouts=EngineRollouts(), reward=odd_start, bf16=True)
    with pytest.raises(ParityError, match=r"differ from the trainer's by .* limit 0\.5"):
        trainer.train()


def test_one_key_leaves_the_comparison_out(tmp_path):
    model, off = wrong_with_a_cache(tiny()), {"engine": False}
    trainer = make_trainer("grpo", tmp_path, model, rollouts=EngineRollouts(), reward=odd_start, self_checks=off)
    trainer.train()
    assert trainer.state.global_step == 2


def test_trls_own_trainer_is_compared_with_its_model_too(tmp_path):
    settings = {"report_to": "none", "use_cpu": True, "bf16": False, "max_steps": 1, "num_generations": 4}
    trainer = trl.GRPOTrainer(
        wrong_with_a_cache(tiny()),
        odd_start,
        trl.GRPOConfig(str(tmp_path), per_device_train_batch_size=8, max_completion_length=8, **settings),
        train_dataset=Dataset.from_list(rows(8)),
        processing_class=WORLD.tokenizer(),
        rollout_func=EngineRollouts(),
    )
    with pytest.raises(ParityError, match="LlamaForCausalLM samples with"):
        trainer.train()


def test_the_models_own_rollouts_are_compared_once_and_leave_no_trace(tmp_path, monkeypatch):
    compared = []
    original = EngineRollouts.compare

    def compare(self, ids, trainer):
        compared.append((original(self, ids, trainer), trainer.state.global_step))
        return compared[-1][0]

    monkeypatch.setattr(EngineRollouts, "compare", compare)  # also called by the self-check, so once in all
    checked = train(tmp_path / "a", rollouts=lambda model: EngineRollouts(), max_completion_length=8)
    ((difference, step),) = compared
    assert difference == checked.self_checks.results["engine"] < 1e-4
    assert step == 0
    monkeypatch.setattr(EngineRollouts, "compare", lambda *_: 0.0)
    left_out = train(tmp_path / "b", rollouts=lambda model: EngineRollouts(), max_completion_length=8)
    assert torch.equal(weights(checked), weights(left_out))
    assert checked.ledger.tokens == left_out.ledger.tokens
    assert not any("parity/logp_abs_max" in row for row in checked.state.log_history)


def test_recorded_logprobs_are_the_trainers_whatever_the_checkpoint_ships(tmp_path):
    model = tiny()
    ship(model, SHIPPED["Qwen2.5-Instruct"])
    trainer = make_trainer("intro", tmp_path, model, rollouts=EngineRollouts(), reward=odd_start)
    with trainer.rollouts.in_process_engine(trainer) as engine:
        prompts = [[10, 1, 2, 3], [10, 4]]
        for seeds in (None, [3, 4]):
            rollouts = [
                one for group in engine.generate(prompts, SamplingParams(12, seed=1), 4, seeds) for one in group
            ]
            assert float(score_difference(trainer, rollouts).max()) < 1e-4


def test_a_told_prompt_that_leaves_no_room_is_refused_before_anything_is_sampled(tmp_path):
    """The plain prompts fit."""
    data = [{**row, "told_prompt": row["told_prompt"] + " 1" * 2020} for row in rows(8)]
    trainer = make_trainer("intro", tmp_path, engine=_Submits(), data=data)
    with pytest.raises(DataError, match=r"a told prompt of 20\d\d tokens plus .*=34\n.*2048 positions"):
        trainer.train()
