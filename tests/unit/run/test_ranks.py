"""Ranks of a run: who leads, what is shared, and what is said of one that ends or does not come."""

from __future__ import annotations

import logging
import re
import signal
import threading
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore
from torch.distributed.elastic.utils.distributed import get_free_port
from transformers.integrations.deepspeed import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

from ixt_rl.backends import is_installed
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.config.problems import BlocksAtOdds, InvalidConfig
from ixt_rl.config.ranks import refused_by_ranks
from ixt_rl.config.strategies import refused_by_strategy
from ixt_rl.errors import ConfigError, EndsWithLeader, RankFailed
from ixt_rl.place import RankPlace, follows, place
from ixt_rl.place import launched as names_of_launchers
from ixt_rl.run import run_config
from ixt_rl.run.ranks.accelerate import check_accelerate
from ixt_rl.run.ranks.follow import _quiet
from ixt_rl.run.ranks.meeting import ranks_here
from ixt_rl.run.ranks.number import with_ranks
from ixt_rl.run.ranks.start import _status
from ixt_rl.run.ranks.team import ALONE, joined
from ixt_rl.run.ranks.watch import Watch, _waited_at
from ixt_rl.run.stages.train import share_of_batch
from ixt_rl.signals import Stopped, stoppable
from tests.integration.run_helpers import base, config, gap, online
from tests.unit.distributed import run_ranks

WORKER = "tests.unit.run.ranks_worker"
LAUNCHED = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def launched(monkeypatch, **environment: str) -> None:
    for name in (*LAUNCHED, "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_what_launchers_say(monkeypatch):
    launched(monkeypatch)
    assert (place(), follows()) == (RankPlace(), False)
    launched(monkeypatch, **LAUNCHED)
    assert (place(), follows()) == (RankPlace(3, 4, 1, 2), True)
    launched(monkeypatch, RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")  # accelerate's simple launcher: one machine
    assert place() == RankPlace(1, 2, 1, 2)
    deepspeed = {"LOCAL_SIZE": "2", "CROSS_RANK": "1", "CROSS_SIZE": "2"}  # on the second of two nodes
    launched(monkeypatch, RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", **deepspeed)
    assert place() == RankPlace(3, 4, 1, 2), "cores are shared by the ranks of this machine alone"
    assert {*deepspeed} <= {*names_of_launchers()}, "not for processes that are no ranks of this run"
    launched(monkeypatch, RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    assert place() == RankPlace()


def test_ranks_of_a_machine_are_counted_where_no_launcher_says(monkeypatch):
    """As of srun, whose ranks have WORLD_SIZE of the script that starts them, and nothing of their node."""
    machines = {"rank 0": "a", "rank 1": "a", "rank 2": "b"}
    monkeypatch.setattr("socket.gethostname", lambda: machines[threading.current_thread().name])
    store, found = HashStore(), {}

    def count(rank: int) -> None:
        found[rank] = ranks_here(store, RankPlace(rank, 3))

    threads = [threading.Thread(target=count, args=(rank,), name=f"rank {rank}") for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {0: 2, 1: 2, 2: 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"RANK": None}, "WORLD_SIZE=4 without RANK"),
        ({"RANK": "first"}, "RANK='first'"),
        ({"WORLD_SIZE": "all"}, "WORLD_SIZE='all'"),
        ({"RANK": "4"}, "rank=4, size=4"),
        ({"LOCAL_RANK": "-"}, "LOCAL_RANK='-'"),
        ({"WORLD_SIZE": "0"}, "size=0"),
    ],
)
def test_an_environment_that_does_not_say_which_rank_is_refused(changed, said, monkeypatch):
    launched(monkeypatch, **{name: value for name, value in (LAUNCHED | changed).items() if value is not None})
    with pytest.raises(ConfigError, match=said):
        place()


def test_ranks_whose_launcher_was_killed_say_so_and_miss_nobody(monkeypatch):
    """While they end they show no life, and each other's connections close: neither is what happened."""
    monkeypatch.setattr("ixt_rl.run.ranks.watch.PrefixStore", lambda name, store: store)
    first, second = (Watch(SimpleNamespace(clone=lambda: None), rank, 2, parent=-1) for rank in range(2))
    closed = RuntimeError("[gloo] Connection closed by peer")
    for error in (Stopped(signal.SIGTERM), closed):
        said = first.explained(error)
        assert type(said) is RankFailed
        assert said.what == "the launcher, process -1, has ended"
        assert said.reason
        assert said.remedy
    assert isinstance(second.explained(closed), EndsWithLeader)


def test_one_process_alone_leads(monkeypatch):
    launched(monkeypatch)
    with joined(LaunchBlock()) as ranks:
        assert ranks is ALONE
        assert (ranks.leads, ranks.size, ranks.decided(lambda: 5)) == (True, 1, 5)
        assert ranks.shared("an engine", lambda engine: [engine]) == ["an engine"]  # type: ignore[arg-type]


def test_a_launcher_and_the_run_file_must_agree(monkeypatch):
    launched(monkeypatch, **LAUNCHED)
    with pytest.raises(ConfigError, match=r"launch\.ranks=2, started 4 times"), joined(LaunchBlock(ranks=2)):
        pass


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, True),  # as it starts the one process of several
        ({"ACCELERATE_USE_CPU": "True"}, False),  # of one
        ({"ACCELERATE_USE_CPU": "False", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1"}, False),  # by torchrun's code
    ],
)
def test_one_process_of_several_that_accelerate_did_not_start_is_refused(environment, refused, monkeypatch):
    launched(monkeypatch, **environment)
    said = pytest.raises(ConfigError, match="--multi_gpu --num_processes 2") if refused else nullcontext()
    with said, joined(LaunchBlock()) as ranks:
        assert ranks is ALONE


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, "PMI_SIZE=4 without WORLD_SIZE"),  # srun --mpi=pmi2
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2 without"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
        ({"PMI_SIZE": "3", "RANK": "0", "WORLD_SIZE": "1"}, ""),  # torchrun's one rank on one of three nodes
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ""),  # the shell of an allocation of four
    ],
)
def test_what_mpi_starts_several_times_is_no_run_of_its_own(environment, refused, monkeypatch):
    """On CPUs accelerate would take the processes for ranks, where each of them is the run as a whole."""
    launched(monkeypatch, **environment)
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext(), joined(LaunchBlock()) as ranks:
        assert ranks is ALONE


@pytest.mark.parametrize(
    ("variable", "overrides", "refused"),
    [
        ("MIXED_PRECISION=bf16", {}, r"model\.dtype: float32"),
        ("MIXED_PRECISION=no", {}, ""),  # what `accelerate launch` writes where nothing is asked
        ("MIXED_PRECISION=fp16", {"dtype": "bfloat16"}, ""),  # transformers goes by the run file then
        ("USE_FSDP=true", {}, r"launch\.strategy: ddp"),
        ("USE_FSDP=true", {"strategy": "fsdp2"}, ""),
        ("USE_FSDP=false", {}, ""),
        ("USE_DEEPSPEED=true", {"strategy": "fsdp2"}, r"launch\.strategy: fsdp2"),
        ("DYNAMO_BACKEND=INDUCTOR", {}, "compiles nothing"),
        ("DYNAMO_BACKEND=NO", {}, ""),
    ],
)
def test_accelerates_config_file_does_not_say_how_a_model_trains(variable, overrides, refused, monkeypatch, tmp_path):
    """It is read unasked, and transformers goes by the variables that come of it."""
    name, _, value = variable.partition("=")
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64}
    found = config(
        tmp_path, [base()], model={"new": new, "dtype": overrides.get("dtype", "float32")},
        launch={"ranks": 2, "strategy": overrides.get("strategy", "ddp")},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext():
        check_accelerate(found)


def test_a_run_takes_the_launchers_number(tmp_path):
    found = with_ranks(config(tmp_path, [base(), online("rl")]), 2)
    assert (found.launch.ranks, found.launch.strategy) == (2, "ddp")
    with pytest.raises(BlocksAtOdds) as refused:
        with_ranks(config(tmp_path, [{**base(), "batch_size": 4}, online("rl")]), 3)
    paths = [path for path, _ in refused.value.refused]
    assert paths == [("stages", 0, "batch_size"), ("stages", 1, "rollouts_per_step")]
    assert "rollouts_per_step: 12," in str(refused.value)  # of groups of 4, too: what it says can be set
    with pytest.raises(ConfigError, match="run of one process"):
        with_ranks(config(tmp_path, [base()], launch={"ranks": 2}), 1)


@pytest.mark.parametrize("again", [{}, {"type": "grpo", "dynamic_sampling": {}}])
@pytest.mark.parametrize(("ranks", "rows"), [(3, 16), (8, 12), (8, 20), (6, 28)])
def test_what_a_remedy_says_of_a_batch_can_be_set(tmp_path, again, ranks, rows):
    first = {**base(), "batch_size": 24}
    with pytest.raises(InvalidConfig) as refused:
        config(tmp_path, [first, online("rl", rollouts_per_step=rows, **again)], launch={"ranks": ranks})
    (said,) = {word for problem in refused.value.problems for word in re.findall(r"step: (\d+)", problem.remedy)}
    config(tmp_path, [first, online("rl", rollouts_per_step=int(said), **again)], launch={"ranks": ranks})


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"ranks": 3}, "batch_size=16 of stage base with launch.ranks=3"),
        ({"ranks": 0}, "launch.ranks"),
        ({"ranks": 2, "offload": True}, "offload with strategy: ddp"),
        ({"rank": 2}, "did you mean `ranks`"),
        ({"ranks": 2, "strategy": "zero"}, "zero2"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_loads(tmp_path, launch, said):
    with pytest.raises(InvalidConfig) as error:
        config(tmp_path, [base()], launch=launch)
    assert said in str(error.value)


def test_a_trainer_of_ones_own_is_refused_what_its_method_is(tmp_path):
    own = {"type": "python", "like": "rlp", "trainer": "ixt_rl.trainers.rlp:RLPTrainer"}
    for method in ({"type": "rlp"}, own):
        found = config(tmp_path, [base(), online("rl", **method)])
        ((_, error),) = refused_by_strategy(LaunchBlock.model_construct(ranks=2, strategy="zero3"), found.stages)
        assert "rlp of stage rl with launch.strategy: zero3" in error.what


@pytest.mark.parametrize("strategy", ["zero2", "zero3", "fsdp2"])
def test_an_optimizer_of_whole_weights_is_refused_parts_of_them(tmp_path, strategy):
    stage = {**base(), "optim": {"name": "adafactor", "lr": 1e-3}}
    plain, whole = (config(tmp_path, [one]).stages for one in (base(), stage))
    launch, ddp = (LaunchBlock.model_construct(ranks=2, strategy=one) for one in (strategy, "ddp"))
    assert not [*refused_by_strategy(launch, plain), *refused_by_strategy(ddp, whole)]
    ((key, error),) = refused_by_strategy(launch, whole)
    assert key == ("stages", 0, "optim", "name") and "optim.name: adafactor of stage base" in error.what


@pytest.mark.skipif(not is_installed("deepspeed"), reason="needs deepspeed")
def test_a_stage_loads_models_whole_whatever_an_earlier_one_trained_under(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("ixt_rl.run.stages.evaluate.run", lambda *_: seen.append(is_deepspeed_zero3_enabled()))
    left = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})  # of a trainer that has not been collected yet
    assert is_deepspeed_zero3_enabled() and left.is_zero3()
    run_config(config(tmp_path, [gap()]))
    assert seen == [False]


def test_offload_without_an_accelerator_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("ixt_rl.run.pipeline.joined", lambda launch: nullcontext(SimpleNamespace(size=2, leads=True)))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    launch = {"ranks": 2, "strategy": "fsdp2", "offload": True}
    with pytest.raises(ConfigError, match=r"launch\.offload without an accelerator"):
        run_config(config(tmp_path, [base()], launch=launch))
    assert not (tmp_path / "runs").exists()


def test_a_pool_is_for_all_ranks_and_a_vllm_in_one_of_them_for_none():
    assert not list(refused_by_ranks(2, EngineBlock.model_construct(type="ray-vllm"), []))
    assert not list(refused_by_ranks(1, EngineBlock.model_construct(type="vllm"), []))
    ((path, error),) = refused_by_ranks(2, EngineBlock.model_construct(type="vllm"), [])
    assert path == ("engine", "type") and "vllm with launch.ranks=2" in error.what


@pytest.mark.parametrize(
    "method", [{"type": "raft", "dynamic_sampling": {}}, {"type": "star", "star": {"told": "failed"}}]
)
def test_what_samples_whole_groups_again_is_refused_parts_of_them_and_staleness(tmp_path, method):
    halves = online("again", rollouts_per_step=12, group_size=4, **method)
    with pytest.raises(InvalidConfig, match=r"whole groups of 4 once more(.|\n)*rollouts_per_step: 16"):
        config(tmp_path, [base(), halves], launch={"ranks": 2})
    config(tmp_path, [base(), halves])
    config(tmp_path, [base(), {**halves, "rollouts_per_step": 16}], launch={"ranks": 2})
    with pytest.raises(InvalidConfig, match=r"staleness=1 with (dynamic_sampling|star\.told: failed)"):
        config(tmp_path, [base(), halves], engine={"type": "ray-vllm", "staleness": 1})


@pytest.mark.parametrize(
    ("batch", "micro", "ranks", "rows", "passes"),
    [(16, None, 1, 16, 1), (16, 4, 1, 4, 4), (16, None, 2, 8, 1), (16, 8, 4, 4, 1), (12, 4, 2, 2, 3)],
)
def test_a_batch_is_the_same_whatever_the_ranks(batch, micro, ranks, rows, passes):
    found = share_of_batch(batch, micro, ranks)
    assert found == {"per_device_train_batch_size": rows, "gradient_accumulation_steps": passes}
    assert rows * passes * ranks == batch


def test_how_ranks_ended():
    with pytest.raises(RankFailed, match=r"rank 1 of 2 was ended by SIGKILL"):
        _status({0: 1, 1: -9}, 2)
    assert _status({0: 2}, 2) == 2  # it has said why
    assert _status({0: -15, 1: 1}, 2) == 1  # the first to fail, and one that was stopped for it


def test_ranks_share_what_one_finds_measures_and_asks():
    assert all("met" in output for output in run_ranks(WORKER, "meet()", timeout_s=240))


def test_a_rank_that_hangs_is_named_with_the_stacks_of_all(tmp_path):
    first, second = run_ranks(WORKER, f"hang({str(tmp_path)!r})", timeout_s=240)
    assert "rank 0 waited longer than launch.deadline at" in first
    assert "rank 1 is at" in first
    for rank, output in enumerate((first, second)):
        assert f"stacks of rank {rank}, pid" in output
    assert "in late" in second


def test_a_rank_that_ended_is_named():
    first, _ = run_ranks(WORKER, "leave()", timeout_s=240)
    assert "no sign of life from rank 1" in first
    assert "rank 0 waited for it at" in first


def test_ranks_that_follow_say_what_is_theirs_alone(caplog):
    with warnings.catch_warnings(record=True) as said, _quiet():
        warnings.warn("of a library, as on rank 0", stacklevel=1)
        warnings.warn_explicit("of its own rows", UserWarning, "online.py", 1, module="ixt_rl.trainers.online")
        logging.getLogger("library").warning("as on rank 0")
        logging.getLogger("library").error("its own error")
    assert [str(one.message) for one in said] == ["of its own rows"]
    assert caplog.messages == ["its own error"]
    logging.getLogger("library").warning("later")
    assert caplog.messages[1:] == ["later"]


def test_a_rank_that_nobody_joins_says_so(monkeypatch):
    port = str(get_free_port())
    launched(monkeypatch, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    said = pytest.raises(RankFailed, match=r"rank 0 of 2 has not met rank 1 within 1 s")
    with said, joined(LaunchBlock(deadline=1.0)):
        pass


def test_a_signal_is_not_where_a_rank_waited():
    with pytest.raises(Stopped) as stopped, stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert _waited_at(stopped.value) == "a wait of torch's"


@pytest.mark.parametrize("how", ["connection", "signal"])
def test_an_error_of_another_rank_is_what_the_first_one_reports(how):
    first, second = run_ranks(WORKER, f"fail(False, {how!r})", timeout_s=240)
    assert "RankFailed: rank 1 of 2 met an error" in first
    assert "DataError: row 7 has no answer" in first
    assert "DataError: row 7 has no answer" in second


def test_an_error_of_all_ranks_is_said_by_the_first_one():
    first, second = run_ranks(WORKER, "fail(True, '')", timeout_s=240)
    assert "DataError: row 7 has no answer" in first
    assert "EndsWithLeader" in second
    assert "row 7" not in second


def test_ranks_end_with_one_that_gives_up():
    first, second = run_ranks(WORKER, "give_up()", timeout_s=240)
    assert first.split()[-1] == "ZeroDivisionError"
    assert second.split()[-1] in ("EndsWithLeader", "RankFailed")  # its store may end before the order is read


def test_an_engine_that_fails_on_the_first_rank_ends_the_others_after_it():
    first, second = run_ranks(WORKER, "engine_fails()", timeout_s=240)
    assert "ValueError: an unlucky prompt" in first
    assert "EndsWithLeader: rank 1 ends with rank 0" in second
    assert "an unlucky prompt" in second
    assert float(second.split()[-1]) > float(first.split()[-1])


@pytest.mark.slow
def test_ranks_do_not_wait_for_a_leader_without_life():
    _, second = run_ranks(WORKER, "follow_a_leader_that_left()", timeout_s=240)
    assert "no sign of life from rank 0 for 3 s" in second
