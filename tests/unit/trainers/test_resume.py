"""Stopped after any update and resumed: the same weights, logs, counts and averages, to the last bit."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.checkpoints import SEAL, seal
from ixt_rl.types import Rollout
from tests.unit.distributed import end_rank, run_ranks
from tests.unit.trainers.helpers import WORLD, ScriptedEngine, make_trainer, rows, tiny

STEPS = {"save_strategy": "steps", "save_steps": 1}
TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")


def dropping(share: float = 0.1) -> Any:
    """A model with dropout, so that torch's generator matters."""
    model = tiny()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = share
    return model


def logs(trainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in trainer.state.log_history]


def assert_same(found, expected) -> None:
    assert logs(found) == logs(expected)
    assert found.ledger.tokens == expected.ledger.tokens
    for name, weight in expected.model.named_parameters():
        assert torch.equal(found.model.get_parameter(name), weight), name
    if getattr(getattr(expected, "posterior", None), "model", None) is not None:
        for mine, theirs in zip(found.posterior.model.parameters(), expected.posterior.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def resumed_at_each_update(make, folder: Path) -> Any:
    """Trains straight, then from each of its checkpoints; returns the straight trainer."""
    straight = make(folder / "straight")
    straight.train()
    for step in range(1, straight.state.max_steps):
        resumed = make(folder / f"from-{step}")
        resumed.train(resume_from_checkpoint=str(folder / "straight" / f"checkpoint-{step}"))
        assert resumed.state.global_step == straight.state.max_steps
        assert_same(resumed, straight)
    return straight


@pytest.mark.parametrize(
    "posterior",
    [
        {"posterior": "live"},
        {"posterior": "frozen"},
        {"posterior": "ema", "posterior_decay": 0.8},
        {"posterior": "lagged", "posterior_every": 3},
    ],
    ids=lambda options: options["posterior"],
)
def test_every_posterior_resumes(tmp_path, posterior):
    def make(folder):
        options = {"max_steps": 4, "learning_rate": 3e-2, **STEPS, **posterior}
        return make_trainer("intro", folder, engine=ScriptedEngine(), **options)

    trainer = resumed_at_each_update(make, tmp_path)
    if posterior["posterior"] in ("ema", "lagged"):
        initial, policy = tiny(), trainer.model
        name = "model.layers.0.mlp.up_proj.weight"
        average = trainer.posterior.model.get_parameter(name)
        assert not torch.equal(average, initial.get_parameter(name))
        assert not torch.equal(average, policy.get_parameter(name))


def test_moves_that_were_made_with_a_generation_resume_with_it(tmp_path):
    """RLCSD's, of a posterior that has moved since, amid a window of rollouts."""

    def make(folder):
        return make_trainer(
            "rlcsd", folder, engine=ScriptedEngine(), max_steps=4, posterior_every=1, steps_per_generation=4,
            gradient_accumulation_steps=2, per_device_train_batch_size=4, learning_rate=3e-2, **STEPS,
        )  # fmt: skip

    resumed_at_each_update(make, tmp_path)


WINDOW = {"steps_per_generation": 6, "num_iterations": 2, "gradient_accumulation_steps": 2}  # 3 updates, twice
REUSE = {"intro": {"importance_ratio": True}, "raft": {"importance_ratio": True}, "grpo": {}, "rloo": {}}


def often(prompts, completions, completion_ids, **kwargs) -> list[float]:
    """1 for two completions in three."""
    return [float(sum(ids) % 3 > 0) for ids in completion_ids]


LONG = pytest.mark.long("tests/unit/trainers/test_resume.py::test_every_update_of_a_generation_window_resumes")


@pytest.mark.parametrize("method", ["intro", "grpo", *(pytest.param(name, marks=LONG) for name in ("raft", "rloo"))])
def test_every_update_of_a_generation_window_resumes(tmp_path, method):
    """Two passes over the data, a log that spans checkpoints, dropout, and the model's own samples."""

    def make(folder):
        return make_trainer(
            method, folder, dropping(), max_steps=7, data=rows(6), shuffle_dataset=True, max_completion_length=6,
            per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=3, reward=often, **STEPS, **WINDOW,
            **REUSE[method],
        )  # fmt: skip

    trainer = resumed_at_each_update(make, tmp_path)
    assert trainer.state.epoch > 1
    assert [row["step"] for row in logs(trainer) if "loss" in row] == [3, 6]


class Delayed:
    """Samples in the background from weights of its own, like a pool; here at once, when asked."""

    def __init__(self):
        self.engine = TransformersEngine(tiny(), [WORLD.tokenizer().eos_token_id], WORLD.tokenizer().pad_token_id)
        self.versions: list[int] = []

    def generate(self, prompts, sampling, n=1, seeds=None):
        return self.engine.generate(prompts, sampling, n, seeds)

    def submit(self, prompts, sampling, n=1):
        groups = self.generate(prompts, sampling, n)
        self.versions += [rollout.policy_version for group in groups for rollout in group]

        class Ticket:
            def result(self) -> list[list[Rollout]]:
                return groups

        return Ticket()

    def update_weights(self, named_tensors, version):
        self.engine.model.load_state_dict(dict(named_tensors), strict=False)
        self.engine.policy_version = version

    def close(self) -> None: ...


@pytest.mark.parametrize("staleness", [1, 2])
def test_what_was_sampled_ahead_is_trained_on_after_a_resume(tmp_path, staleness):
    from ixt_rl.kernels.correction import Correction

    def make(folder):
        rollouts = EngineRollouts(Delayed(), staleness=staleness, parity_limit=math.inf)
        return make_trainer(
            "intro", folder, rollouts=rollouts, correction=Correction(), max_steps=5, max_completion_length=6,
            learning_rate=3e-2, reward=often, **STEPS,
        )  # fmt: skip

    trainer = resumed_at_each_update(make, tmp_path)
    ages = [row["rollout/staleness"] for row in logs(trainer) if "loss" in row]
    assert ages[-1] == staleness


def test_a_reference_that_follows_the_policy_resumes(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    WORLD.tokenizer().save_pretrained(tmp_path / "model")

    def make(folder):
        return make_trainer(
            "grpo", folder, str(tmp_path / "model"), engine=ScriptedEngine(), max_steps=4, beta=0.5, learning_rate=3e-2,
            sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.5, **STEPS,
        )  # fmt: skip

    resumed_at_each_update(make, tmp_path)


def test_an_average_in_bfloat16_moves(tmp_path):
    """At decay .999 each step is below bfloat16's resolution: the average is kept in float32."""
    model = tiny().to(torch.bfloat16)
    trainer = make_trainer(
        "intro", tmp_path, model, engine=ScriptedEngine(), posterior="ema", posterior_decay=0.999, max_steps=1
    )
    before = copy.deepcopy(trainer.posterior.model.state_dict())
    trainer.train()
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.fill_(1.0)
    (moves,) = [one for one in trainer.callback_handler.callbacks if type(one).__name__ == "_MovesPosterior"]
    for _ in range(1000):
        moves.on_step_end(trainer.args, trainer.state, trainer.control)
    for name, weight in trainer.posterior.model.named_parameters():
        left = 0.999**1000
        expected = left * before[name].float() + (1 - left)
        torch.testing.assert_close(weight.float(), expected, rtol=2e-2, atol=2e-2, msg=name)


# ---------------------------------------------------------------- which checkpoint, and whether there is anything to do


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints after 1, 2 and 3 updates, and what trains on from it."""
    make_trainer("intro", tmp_path, engine=ScriptedEngine(), max_steps=3, **STEPS).train()
    return tmp_path, lambda: make_trainer("intro", tmp_path, engine=ScriptedEngine(), max_steps=4, **STEPS)


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "state-0.pt", SEAL])
def test_a_damaged_checkpoint_falls_back_and_by_name_is_refused(saved, name, caplog):
    folder, make = saved
    (folder / "checkpoint-3" / name).unlink()
    with pytest.raises(DataError, match=name):
        make().train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    trainer = make()
    trainer.train(resume_from_checkpoint=True)
    assert [row["step"] for row in trainer.state.log_history] == [1, 2, 3, 4, 4]
    assert name in caplog.text and "checkpoint-3" in caplog.text
    assert (folder / "checkpoint-3" / SEAL).is_file()  # written anew


def test_without_a_whole_checkpoint_there_is_none(saved):
    folder, make = saved
    for step in (1, 2, 3):
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="no whole checkpoint"):
        make().train(resume_from_checkpoint=True)


def test_a_resume_with_nothing_to_train_says_so(saved):
    folder, _ = saved
    trainer = make_trainer("intro", folder, engine=ScriptedEngine(), max_steps=3, **STEPS)
    with pytest.raises(ConfigError, match="nothing is left to train"):
        trainer.train(resume_from_checkpoint=True)
    trainer.take(folder / "checkpoint-3")
    straight = make_trainer("intro", folder / "b", engine=ScriptedEngine(), max_steps=3)
    straight.train()
    assert trainer.ledger.tokens == straight.ledger.tokens
    for mine, theirs in zip(trainer.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_older_checkpoints_go_when_the_new_one_is_sealed(tmp_path, monkeypatch):
    import ixt_rl.trainers.resumable as module

    seen = []
    monkeypatch.setattr(module, "seal", lambda path: (seen.append(sorted(tmp_path.glob("checkpoint-*"))), seal(path)))
    make_trainer("grpo", tmp_path, engine=ScriptedEngine(), max_steps=4, save_total_limit=2, **STEPS).train()
    assert ["".join(path.name[-1] for path in paths) for paths in seen] == ["1", "12", "123", "234"]
    assert sorted(path.name[-1] for path in tmp_path.glob("checkpoint-*")) == ["3", "4"]


def test_another_window_is_refused_amid_a_window(tmp_path):
    options = {"max_steps": 3, "per_device_train_batch_size": 4, "engine": ScriptedEngine(), **STEPS}
    make_trainer("grpo", tmp_path, steps_per_generation=3, **options).train()
    other = make_trainer("grpo", tmp_path, steps_per_generation=2, **options)
    with pytest.raises(ConfigError, match="amid a window"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_of_more_processes_is_refused(saved):
    folder, make = saved
    state = folder / "checkpoint-3" / "state-0.pt"
    state.with_name("state-1.pt").write_bytes(state.read_bytes())
    seal(state.parent)
    trainer = make()
    trainer._load_from_checkpoint = None  # nothing of it is loaded: DeepSpeed would fail there in words of its own
    with pytest.raises(ConfigError, match="saved by 2 processes"):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("file", "said"), [("pytorch_model_fsdp.bin", "saved under FSDP"), ("global_step3/x.pt", "saved under DeepSpeed")]
)
def test_a_checkpoint_of_another_strategy_is_refused(saved, file, said):
    folder, make = saved
    piece = folder / "checkpoint-3" / file
    piece.parent.mkdir(exist_ok=True)
    piece.write_bytes(b"a rank's piece")
    seal(folder / "checkpoint-3")
    with pytest.raises(ConfigError, match=f"{said}, resumed by ranks that have the model whole"):
        make().train(resume_from_checkpoint=True)


def resume_on_ranks(folder: str) -> None:
    """Each rank samples and draws dropout by itself, and goes on with its own state."""

    def make(name):
        return make_trainer(
            "intro", Path(folder) / name, dropping(), max_steps=3, data=rows(6), max_completion_length=6,
            per_device_train_batch_size=4, learning_rate=1e-2, reward=often, ddp_backend="gloo", num_generations=4,
            steps_per_generation=3, num_iterations=2, importance_ratio=True, posterior="ema", posterior_decay=0.8,
            **STEPS,
        )  # fmt: skip

    straight = make("straight")
    straight.train()
    resumed = make("resumed")
    resumed.train(resume_from_checkpoint=str(Path(folder) / "straight" / "checkpoint-1"))
    assert_same(resumed, straight)
    end_rank()


@pytest.mark.slow
def test_every_rank_resumes_with_its_own_state(tmp_path):
    run_ranks("tests.unit.trainers.test_resume", f"resume_on_ranks({str(tmp_path)!r})")
    saved = [torch.load(tmp_path / "straight" / "checkpoint-1" / f"state-{rank}.pt") for rank in (0, 1)]
    ids = [state["buffered"][0]["completion_ids"] for state in saved]
    assert ids[0].shape != ids[1].shape or not torch.equal(*ids)
