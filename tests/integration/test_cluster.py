"""examples/cluster on one machine: the batch script, with stand-ins for Slurm's commands and for what it starts."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.specifiers import SpecifierSet

from ixt_rl.backends import BACKENDS, is_installed
from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.config.schema import RunConfig
from tests.integration import cluster_commands
from tests.integration.run_helpers import weights

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "cluster"

pytestmark = pytest.mark.skipif(not shutil.which("ip"), reason="no iproute2")


class Job:
    """A job that Slurm would start: its batch shell runs a copy of the script, with what sbatch tells it.

    `real`: torchrun is torch's.
    """

    def __init__(self, folder: Path, nodes: int, words: tuple[str, ...] = (), real: bool = False, **variables: str):
        self.calls_file = folder / "calls"
        bin_folder = folder / "venv" / "bin"
        bin_folder.mkdir(parents=True, exist_ok=True)
        stand_in = f"{sys.executable} {cluster_commands.__file__}"
        commands = {name: f"{stand_in} {name}" for name in ("srun", "scontrol", "torchrun", "ray", "python")}
        if real:
            commands["torchrun"] = f"{sys.executable} -m torch.distributed.run"
        for name, command in commands.items():
            (bin_folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (bin_folder / name).chmod(0o755)
        (bin_folder / "activate").write_text(f"PATH={bin_folder}:$PATH\n")
        copy = folder / "slurm_script"
        copy.write_text((FOLDER / "slurm.sh").read_text())
        told = {
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": ",".join(f"gpu{index}" for index in range(nodes)),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_PROCID": "0",  # Slurm says so in the batch shell, whatever the tasks will be told
            "SLURM_NODEID": "0",
            "SLURM_GPUS_ON_NODE": "8",
            "VENV": str(folder / "venv"),
            "CALLS": str(self.calls_file),
            "IFNAME": "lo",
            "PORT": str(free_ports()),
            "READY_SECONDS": "20",
        }
        self.process = subprocess.Popen(
            ["bash", str(copy), *(words or ("intro/math",))], env=os.environ | told | variables, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Exit status and what was said; nothing of the job is left."""
        try:
            said = self.process.communicate(timeout=seconds)[0]
        finally:
            self.kill()
        return self.process.returncode, said

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def calls(self, who: str) -> list[dict[str, Any]]:
        rows = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        found = [row for row in map(json.loads, rows) if row["who"] == who]
        return sorted(found, key=lambda row: row["env"].get("NODE_RANK", ""))

    def wait_for(self, who: str, count: int) -> None:
        end = time.monotonic() + 30
        while len(self.calls(who)) < count:
            assert time.monotonic() < end, f"{who} was not called {count} times"
            time.sleep(0.05)


def free_ports() -> int:
    """The first of two neighbours, below those that systems hand out by themselves."""
    for port in range(21000 + os.getpid() % 5000, 32000, 2):
        try:
            for each in (port, port + 1):
                socket.create_server(("127.0.0.1", each)).close()
            return port
        except OSError:
            continue
    raise RuntimeError("no two free ports")


@pytest.fixture
def job(tmp_path):
    jobs: list[Job] = []

    def start(nodes: int, *words: str, real: bool = False, **variables: str) -> Job:
        jobs.append(Job(tmp_path, nodes, words, real, **variables))
        return jobs[-1]

    yield start
    for each in jobs:
        each.kill()


def asked(call: dict[str, Any]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in call["words"] if word.startswith("--") and "=" in word)


def test_every_node_has_its_own_rank_and_all_have_one_meeting_place(job):
    run = job(3, "intro/math", "seeds=[1, 2]")
    status, said = run.end()
    assert status == 0, said
    calls = run.calls("torchrun")
    assert [asked(call)["--node-rank"] for call in calls] == ["0", "1", "2"]
    assert [call["env"]["SLURMD_NODENAME"] for call in calls] == ["gpu0", "gpu1", "gpu2"]
    for call in calls:
        here = asked(call)
        assert here["--nnodes"] == "3" and here["--nproc-per-node"] == "8"
        assert here["--master-addr"] == "127.0.0.1" and here["--master-port"] == asked(calls[0])["--master-port"]
        assert call["words"][-5:] == ["-m", "ixt_rl", "run", "intro/math", "seeds=[1, 2]"]
        assert call["env"]["NCCL_SOCKET_IFNAME"] == "=lo" and call["env"]["GLOO_SOCKET_IFNAME"] == "lo"
        assert "RAY_ADDRESS" not in call["env"]
    assert run.calls("ray") == []


def test_the_last_nodes_have_engines_and_end_after_training(job):
    run = job(3, TRAIN_NODES="1")
    status, said = run.end()
    assert status == 0, said
    (trained,), rays = run.calls("torchrun"), run.calls("ray")
    assert asked(trained)["--nnodes"] == "1"
    head, *others = rays
    assert {"--head", "--num-gpus=0", "--num-cpus=0"} <= set(head["words"])
    address = trained["env"]["RAY_ADDRESS"]
    assert address == f"127.0.0.1:{asked(head)['--port']}"
    assert [asked(each)["--address"] for each in others] == [address, address]
    (waited,) = run.calls("wait_for_ray")
    assert waited["words"][:2] == [address, "2"]
    tokens = {each["env"][cluster_commands.SECRET] for each in (trained, *rays)}
    assert len(tokens) == 1 and re.fullmatch(r"[0-9a-f]{64}", next(iter(tokens)))
    assert all(each["env"]["RAY_AUTH_MODE"] == "token" for each in rays)
    assert not any(next(iter(tokens)) in word for each in rays for word in each["words"])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TRAINING": "3"}, "the launcher ended with 3"),
        ({"TRAINING": "wait", "ENGINE": "9"}, "Ray has ended on this node"),
        ({"ENGINES_COME": "1"}, "the engines' nodes are not there"),
    ],
    ids=["training fails", "an engine's node fails", "an engine's node does not come"],
)
def test_the_job_ends_when_a_part_does(job, variables, said):
    run = job(2, TRAIN_NODES="1", **variables)
    status, text = run.end()
    assert status != 0 and said in text, text
    assert run.calls("scontrol") == []  # what fails by itself would fail again


def test_a_node_that_waits_in_vain_says_for_whom(job):
    run = job(2, TRAIN_NODES="2", TRAINING="wait", TRAINING_SECONDS="30", READY_SECONDS="0")
    status, text = run.end()
    assert status != 0
    assert re.search(r"node 1 \(.*\): waited 0 s for the launcher of node 0, at 127.0.0.1:\d+, in vain", text), text


def test_time_that_is_nearly_up_ends_the_run_and_queues_it_again(job):
    run = job(2, TRAINING="wait", TRAINING_SECONDS="0")
    run.wait_for("torchrun", 1)
    time.sleep(0.5)
    os.kill(run.process.pid, signal.SIGUSR1)
    status, text = run.end()
    assert status == 143, text
    assert [call["words"] for call in run.calls("scontrol")] == [["requeue", "4711"]]


def test_a_job_that_is_cancelled_is_not_queued_again(job):
    run = job(1, TRAINING="wait", TRAINING_SECONDS="0")
    run.wait_for("torchrun", 1)
    time.sleep(0.5)
    os.kill(run.process.pid, signal.SIGTERM)
    status, text = run.end()
    assert status == 143, text
    assert run.calls("scontrol") == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HEAD": "127.0.0.1", "IFNAME": ""}, "HEAD=127.0.0.1 is every node itself"),
        ({"HEAD": "no-address"}, "no route to HEAD=no-address"),
        ({"IFNAME": "none0"}, "the first node's address is not to be found"),
        ({"TRAIN_NODES": "3"}, "TRAIN_NODES=3 of NODES=2"),
    ],
    ids=["loopback", "no address", "no interface", "nodes"],
)
def test_what_would_hang_is_refused(job, variables, said):
    run = job(2, **variables)
    status, text = run.end()
    assert status != 0 and said in text, text
    assert run.calls("torchrun") == []


@pytest.mark.long(
    "tests/integration/test_cluster.py::test_every_node_has_its_own_rank_and_all_have_one_meeting_place",
    "tests/integration/test_cluster.py::test_time_that_is_nearly_up_ends_the_run_and_queues_it_again",
    "tests/unit/trainers/test_ranks.py",
)
@pytest.mark.timeout(1800)
def test_two_nodes_train_one_model_and_go_on_after_their_time_was_up(job, tmp_path):
    """torch's launcher and a run of documents, a rank a node: once straight, once in two jobs."""
    file = tmp_path / "run.yaml"
    stage = {"name": "docs", "type": "ixt", "init": "model", "data": {"world": "chain", "documents": 100},
             "feedback": {"template": "levels"}, "packing": {"capacity": 128}, "batch_size": 4, "steps": 40,
             "checkpoint_every": 2, "optim": {"lr": 1e-3}}  # fmt: skip
    model = {"new": {"layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    run = {"name": "run", "output_dir": str(tmp_path / "runs"), "model": model, "stages": [stage]}
    file.write_text(dump_yaml(run), encoding="utf-8")

    def start(name: str) -> Job:
        return job(2, str(file), f"name={name}", real=True, SLURM_GPUS_ON_NODE="1", READY_SECONDS="600",
                   PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")  # fmt: skip

    status, text = start("straight").end(1200)
    assert status == 0, text
    broken = start("broken")
    checkpoints = tmp_path / "runs" / "broken" / "stages" / "docs" / "seed1" / "checkpoints"
    end = time.monotonic() + 600
    while not list(checkpoints.glob("checkpoint-*/complete.json")):  # what is half written is passed over
        assert time.monotonic() < end and broken.process.poll() is None
        time.sleep(0.2)
    os.kill(broken.process.pid, signal.SIGUSR1)
    status, text = broken.end(300)
    assert status != 0 and len(broken.calls("scontrol")) == 1, text
    assert not (checkpoints.parent / "done.json").exists()
    status, text = start("broken").end(1200)
    assert status == 0 and "goes on from checkpoint-" in text, text
    straight, gone_on = (
        weights(tmp_path / "runs" / name / "stages" / "docs" / "seed1") for name in ("straight", "broken")
    )
    assert {name: torch.equal(value, gone_on[name]) for name, value in straight.items()} == dict.fromkeys(
        straight, True
    )


def loaded(words: str) -> RunConfig:
    """The run that `ixt-rl run` makes of a command's words."""
    file, *overrides = shlex.split(words)
    return load_run(file, overrides)


def test_the_scripts_parse():
    for script in FOLDER.glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_kuberay_has_as_many_gpus_as_the_run_asks_for():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    run = loaded(job["spec"]["entrypoint"].removeprefix("ixt-rl run "))
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (workers,) = cluster["workerGroupSpecs"]
    (worker,) = workers["template"]["spec"]["containers"]
    gpus = [int(each["resources"]["limits"]["nvidia.com/gpu"]) for each in (head, worker)]
    assert run.launch.ranks == gpus[0]
    assert run.engine.pool.engines == workers["replicas"] * gpus[1] and run.engine.pool.address == "auto"
    assert head["image"] == worker["image"]
    assert cluster["rayVersion"] in SpecifierSet(BACKENDS["ray"].versions)


@pytest.mark.skipif(not is_installed("deepspeed"), reason="needs deepspeed")
def test_skypilot_has_as_many_ranks_as_rows_can_be_divided_by():
    task = yaml.safe_load((FOLDER / "skypilot.yaml").read_text())
    run = loaded(re.search(r"node\.sh (.*)", task["run"])[1])
    assert int(task["envs"]["TRAIN_NODES"]) == task["num_nodes"]
    assert task["envs"]["RANKS"] == task["resources"]["accelerators"].split(":")[1]
    assert run.stages[0].rollouts_per_step % (task["num_nodes"] * int(task["envs"]["RANKS"])) == 0
    assert f"{run.output_dir}" in task["volumes"]


def test_the_image_has_all_that_the_package_consists_of():
    copied = re.findall(r"^COPY (.+) \S+$", (FOLDER / "Containerfile").read_text(), re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in sources)
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    folders = {line.split(" = ")[1] for line in settings["options"]["package_dir"].strip().splitlines()}
    assert folders | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= sources
    extras = re.search(r'"\.\[(.+?)\]"', (FOLDER / "Containerfile").read_text())[1].split(",")
    assert set(extras) <= set(settings["options.extras_require"])
