"""Stand-ins for the commands that examples/cluster calls, for tests on one machine: `cluster_commands.py NAME ...`.

`srun` starts its tasks as processes, each with what Slurm tells a task, passes signals on to all of them, and ends all
when one fails. `scontrol` names hosts. `torchrun`, `ray` and `python` write down what they were asked, and behave as
`$TRAINING`, `$ENGINE` and `$ENGINES_COME` say: an exit status, or `wait` for a signal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SECRET = "RAY_AUTH_TOKEN"
TOLD = (
    "NODE_RANK",
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    SECRET,
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "SLURMD_NODENAME",
)


def note(who: str, words: list[str]) -> None:
    row = {"who": who, "words": words, "env": {name: os.environ[name] for name in TOLD if name in os.environ}}
    with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps(row) + "\n")


def behave(how: str) -> int:
    """Ends with a status, or waits for SIGTERM and ends with 143."""
    if how != "wait":
        return int(how)
    signal.sigwait({signal.SIGTERM})
    return 143


def hosts() -> list[str]:
    return os.environ["SLURM_JOB_NODELIST"].split(",")


def scontrol(words: list[str]) -> int:
    if words[0] == "show":
        print("\n".join(words[2].split(",")))
    else:
        note("scontrol", words)
    return 0


def srun(words: list[str]) -> int:
    parser = argparse.ArgumentParser()
    for name in ("--nodes", "--ntasks", "--ntasks-per-node", "--kill-on-bad-exit", "--wait"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words)
    assert asked.ntasks == asked.nodes * asked.ntasks_per_node == len(hosts())
    tasks = []
    for rank, host in enumerate(hosts()):
        own = {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "SLURM_LOCALID": "0", "SLURMD_NODENAME": host}
        own["SLURM_STEP_ID"] = "0"
        tasks.append(subprocess.Popen(asked.command, env=os.environ | own, start_new_session=True))

    def to_all(number: int) -> None:
        for task in tasks:
            if task.poll() is None:
                os.killpg(task.pid, number)

    signal.signal(signal.SIGTERM, lambda number, _: to_all(number))
    ending = False
    while None in (ends := [task.poll() for task in tasks]):
        if any(ends) and asked.kill_on_bad_exit and not ending:
            ending = True
            to_all(signal.SIGTERM)
        time.sleep(0.05)
    return max(128 - end if end < 0 else end for end in map(subprocess.Popen.wait, tasks))


def torchrun(words: list[str]) -> int:
    note("torchrun", words)
    asked = dict(word.split("=", 1) for word in words if word.startswith("--"))
    if asked["--node-rank"] != "0":
        return behave(os.environ.get("TRAINING", "0"))
    with socket.create_server((asked["--master-addr"], int(asked["--master-port"]))):
        time.sleep(float(os.environ.get("TRAINING_SECONDS", "1.5")))
        return behave(os.environ.get("TRAINING", "0"))


def ray(words: list[str]) -> int:
    note("ray", words)
    asked = dict(word.split("=", 1) for word in words if "=" in word)
    if "--head" not in words:
        return behave(os.environ.get("ENGINE", "wait"))
    with socket.create_server((asked["--node-ip-address"], int(asked["--port"]))):
        return behave("wait")


def python(words: list[str]) -> int:
    assert Path(words[0]).name == "wait_for_ray.py", words
    note("wait_for_ray", words[1:])
    return behave(os.environ.get("ENGINES_COME", "0"))


COMMANDS = {"srun": srun, "scontrol": scontrol, "torchrun": torchrun, "ray": ray, "python": python}

if __name__ == "__main__":
    name, *words = sys.argv[1:]
    if name not in ("srun", "scontrol"):  # `behave` waits for it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.exit(COMMANDS[name](words))
