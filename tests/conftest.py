"""Shared fixtures: a tiny model of the addition world, made in milliseconds."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell that starts the tests in the background has them ignore Ctrl-C, and what the tests start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What launchers say in the environment, and accelerate and DeepSpeed write there for one process."""

POOLS = (
    *("tests/cli/test_doctor_pool.py", "tests/integration/test_broadcast_pool.py"),
    *("tests/integration/test_pool_training.py", "tests/integration/test_ray_pool.py"),
    "tests/integration/test_run_engines.py",
)
"""Files whose tests start several engines at once, on Ray."""


BROUGHT = (
    *("data/preference_pairs", "data/wiki", "data/gsm8k_train"),
    *("runs/gsm8k_easiest", "runs/gsm8k_easiest_solutions"),
    *("runs/spoiled_train", "runs/spoiled_unseen"),
)
"""JSON lines that run files on a real model read and the library does not bring."""

SMOLLM2 = {
    "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip


class FailuresAtOnce:
    """Shows a failure when it happens, so that a run which is cut off tells as much as one that ends."""

    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        if report.failed:
            reporter = self.config.pluginmanager.getplugin("terminalreporter")
            reporter.ensure_newline()
            reporter.write_line(f"FAILED {report.nodeid} ({report.when})\n{report.longreprtext[-3000:]}")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # of a worker, the process that collects reports says it
        config.pluginmanager.register(FailuresAtOnce(config))


def pytest_unconfigure(config):
    gc.unfreeze()  # else extension modules report at the end what `what_is_imported_is_no_garbage` keeps


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """What is long is slow."""
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker("slow")


@pytest.hookimpl(optionalhook=True)  # there is no such hook without xdist
def pytest_xdist_make_scheduler(config, log):
    """With several workers: a file's tests on one, so that fixtures are made once, and all pools on one."""
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerForPools(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "pools" if file in POOLS else file

    return OneWorkerForPools(config, log)


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_is_no_garbage():
    """Every training collects garbage: half a second through all that torch, transformers and trl have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_listens_beyond_loopback(request):
    """In the files of pools, and in others that ask for it: whatever they start is for this machine alone."""
    if request.node.nodeid not in POOLS:
        yield
        return
    from tests.listening import watched

    with watched() as found:
        yield
    assert not found, f"open to other machines: {sorted(found)}"


@pytest.fixture(autouse=True)
def run_files_may_name_engines(monkeypatch):
    """Checks of run files do not depend on whether vLLM and Ray are installed where the tests run."""
    from ixt_rl.backends import BACKENDS, is_installed

    for name in ("vllm", "ray"):
        if not is_installed(name):
            monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], module="ixt_rl"))


@pytest.fixture(autouse=True)
def no_test_says_which_rank_the_next_is():
    """What a test starts inherits the environment, and with it what libraries wrote there in an earlier test."""
    yield
    for name in LAUNCHERS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def world():
    from ixt_rl.worlds import AdditionWorld

    return AdditionWorld("parity")


@pytest.fixture(scope="session")
def tokenizer(world):
    return world.tokenizer()


@pytest.fixture
def tiny_model(tokenizer):
    """A fresh 2-layer model, spread out enough that wrong positions or masks show in its log-probs."""
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import new_model

    return new_model(NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2), tokenizer).eval()


def _brought(number: int) -> dict[str, str]:
    names = ("question", "answer", "solution", "text", "prompt", "messages", "chosen")
    return dict.fromkeys(names, str(number)) | {"rejected": str(-1 - number)}


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A folder, now the current one, in which the run files of configs/real find what a user brings."""
    for name in BROUGHT:
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(_brought(number)) + "\n" for number in range(400)))
    rubric = Path("examples/written_or_spoiled.yaml")
    (tmp_path / rubric.parent).mkdir()
    shutil.copy(Path(__file__).parents[1] / rubric, tmp_path / rubric)
    (tmp_path / "models" / "smollm2").mkdir(parents=True)
    (tmp_path / "models" / "smollm2" / "config.json").write_text(json.dumps(SMOLLM2))
    monkeypatch.chdir(tmp_path)
