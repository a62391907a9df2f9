"""Trainers on a real pool of vLLM engines: the policy they train is the policy that samples."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
from peft import LoraConfig

from ixt_rl.backends import is_installed
from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.errors import ParityError
from ixt_rl.kernels.correction import Correction
from ixt_rl.models import new_model
from ixt_rl.rollout import sync
from ixt_rl.rollout.trl_adapter import EngineRollouts
from tests.integration.rollout_helpers import pids, restarts
from tests.unit.trainers.helpers import WORLD, make_trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray"),
]


def odd_start(completion_ids, **_) -> list[float]:
    """A reward that an untrained model gets half of the time."""
    return [float(ids[0] % 2) for ids in completion_ids]


def tied_model():
    spec = NewModelBlock(
        hidden_size=64, heads=2, intermediate_size=64, init_std=0.1
    )  # head_dim 32: vLLM takes no 16 on CPU
    model = new_model(spec, WORLD.tokenizer())
    assert model.config.tie_word_embeddings
    return model


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster that is up already, of two nodes with room for both engines each."""
    import ray
    from ray.cluster_utils import Cluster

    from ixt_rl.rollout.pool.ray_private import private_ray

    with private_ray():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        cluster.add_node(num_cpus=4)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()  # this process's connection
    cluster.shutdown()


@pytest.fixture(scope="module")
def pool(tmp_path_factory, cluster):
    from ixt_rl.rollout.pool.ray_pool import RayPool

    folder = tmp_path_factory.mktemp("model")
    tied_model().save_pretrained(folder)
    settings = {"eos_ids": (11,), "dtype": "float32", "max_num_seqs": 32, "kv_cache_gib": 1 / 64, "enforce_eager": True}
    pool = RayPool(str(folder), engines=2, placement="spread", address=cluster.address, **settings)
    yield pool
    pool.close()
    assert cluster.head_node.any_processes_alive()  # whoever joins a cluster leaves it up


def train(tmp_path, pool, method="intro", *, staleness=0, **options):
    rollouts = EngineRollouts(pool, staleness=staleness, parity_limit=1e-3)
    options = {"max_steps": 3, "learning_rate": 1e-2, "reward": odd_start, "correction": Correction(), **options}
    trainer = make_trainer(method, tmp_path, tied_model(), rollouts=rollouts, **options)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())
    return trainer


def logged(trainer, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if row.get(name) is not None]


def test_a_pool_joins_a_running_cluster_and_spreads_its_engines(pool):
    import ray

    nodes = [node["NodeID"] for node in ray.nodes()]
    assert len(nodes) == 2
    assert sorted(slot.info.node for slot in pool._dispatcher.slots) == sorted(nodes)


@pytest.mark.parametrize(("method", "options"), [("intro", {"candidates": 2}), ("grpo", {})])
def test_logprobs_agree_after_every_large_update(tmp_path, pool, method, options):
    """Learning rate 1e-2, tied head. The limit of the probe is 1e-3; what is logged is below it."""
    trainer = train(tmp_path, pool, method, **options)
    assert len(logged(trainer, "parity/logp_abs_max")) == 3
    assert max(logged(trainer, "parity/logp_abs_max")) <= 1e-3
    assert max(logged(trainer, "sampler/logp_abs")) <= 1e-3
    assert logged(trainer, "rollout/staleness") == [0, 0, 0]
    assert {entry["version"] for entry in pool.stats()} == {2}


def test_logprobs_agree_with_lora(tmp_path, pool):
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    trainer = train(tmp_path, pool, peft_config=lora, candidates=2)
    assert max(logged(trainer, "parity/logp_abs_max")) <= 1e-3


def test_sampling_ahead_trains_on_the_version_before(tmp_path, pool):
    trainer = train(tmp_path, pool, "grpo", staleness=1, max_steps=4)
    assert logged(trainer, "rollout/staleness") == [0, 1, 1, 1]
    apart = logged(trainer, "sampler/logp_abs")
    assert apart[0] <= 1e-3 < min(apart[1:])  # an update at 1e-2 lies between sampling and training


@pytest.fixture
def broadcasting(pool, monkeypatch):
    """The same engines, which get their weights by broadcast."""
    from ixt_rl.rollout.pool.updates import Broadcast

    dispatcher = pool._dispatcher
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "restorable", dispatcher.restorable)
        patch.setattr(pool, "_transfer", Broadcast(dispatcher))
        yield pool
        pool._transfer.close()


def test_weights_go_to_an_engine_on_the_trainers_node_and_to_one_on_another(tmp_path, broadcasting):
    trainer = train(tmp_path, broadcasting, "grpo")
    assert max(logged(trainer, "parity/logp_abs_max")) <= 1e-3
    group = broadcasting._transfer._sender._group
    assert len(group.near) == 1 and group._far is not None


@pytest.mark.long(
    "tests/integration/test_ray_pool.py::test_an_engine_killed_while_it_generates",
    "tests/integration/test_broadcast_pool.py::test_an_engine_killed_while_weights_are_broadcast",
)
def test_a_run_whose_engines_all_die_amid_a_batch_ends_as_if_they_had_not(tmp_path, broadcasting, monkeypatch):
    pool = broadcasting
    straight = train(tmp_path / "a", pool, "grpo", correction=None)
    start = EngineRollouts._start
    deaths = iter([False, True])  # of the batches that are sampled

    def killed(rollouts, *args, **kwargs):
        ticket = start(rollouts, *args, **kwargs)
        if next(deaths, False):
            for pid in pids(pool):
                os.kill(pid, signal.SIGKILL)
        return ticket

    monkeypatch.setattr(EngineRollouts, "_start", killed)
    before = restarts(pool)
    disturbed = train(tmp_path / "b", pool, "grpo", correction=None)
    assert restarts(pool) == before + 2
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, disturbed.model.state_dict()[name]), name


def test_a_planted_stale_head_is_refused(tmp_path, pool, monkeypatch):
    """The tied head's entries have the first step's values: no manifest can see that, the probe does."""
    head = ("lm_head.weight", "model.embed_tokens.weight")
    first: dict[str, torch.Tensor] = {}

    def stale(model):
        for name, tensor in policy_tensors(model):
            yield name, first.setdefault(name, tensor.clone()) if name in head else tensor

    policy_tensors = sync.policy_tensors
    monkeypatch.setattr(sync, "policy_tensors", stale)
    with pytest.raises(
        ParityError, match=r"step 1, log-probs of engine \d differ from the trainer's by .* limit 0\.001"
    ):
        train(tmp_path, pool, "grpo")
