"""What 64 trainers and 64 engines would take, from parts measured on this machine and bandwidths that are stated.

    .venv/bin/python benchmarks/cluster.py --out runs/cluster                # needs ray; two minutes on two cores
    .venv/bin/python benchmarks/cluster.py --engines 256 --trainers 256 --out runs/cluster-256

Measured: bytes of a group's request and of its rollouts; the pool's own dispatcher with stand-ins for engines, which
share one of Ray's actors, hold no model, and answer at once (groups/s, its processor time a group); what all rollouts
of a batch cost on their way to every rank; the meetings of a weight update by broadcast, with as many ranks of the real
group as threads; checksums and Ray's object store. Processor times, so that a program beside it changes little.
Assumed: bandwidths and latency between nodes, and what the planner says of training and sampling on the GPUs.
Writes cluster.json and cluster.md to --out.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from cluster_page import text
from common import write

from ixt_rl.rollout.pool.dispatcher import Dispatcher
from ixt_rl.rollout.pool.worker import HEARTBEAT, Report, WorkerInfo, node_id
from ixt_rl.rollout.vllm_requests import VllmRequest
from ixt_rl.rollout.weights.broadcast import LOOPBACK, Meeting, TransferGroup
from ixt_rl.rollout.weights.manifest import checksum
from ixt_rl.types import Rollout, SamplingParams


@dataclass(frozen=True)
class Network:
    """What is assumed of a cluster; bytes/s and seconds.

    Args:
        gpu: from GPU to GPU of another node (400 Gb/s, of which NCCL reaches 80 %).
        tcp: from node to node by Ray, which does not use RDMA.
        pcie: between a GPU and its node's memory.
        latency: of a message between nodes.
        per_node: engines of a node.
    """

    gpu: float = 40e9
    tcp: float = 3e9
    pcie: float = 25e9
    latency: float = 25e-6
    per_node: int = 8


# ---------------------------------------------------------------- stand-ins for engines


class StandIn:
    """Answers as `EngineWorker` does, at once."""

    def __init__(self, prompt: int, new: int):
        rng = random.Random(0)
        self._new = new
        self._ids = tuple(rng.randrange(150_000) for _ in range(new))
        self._logprobs = tuple(-rng.random() for _ in range(new))
        self._prompt = tuple(rng.randrange(150_000) for _ in range(prompt))
        self._due: list[tuple[int, list[Rollout]]] = []
        self._changed = threading.Condition()

    def start(self, weights: Any) -> WorkerInfo:
        return WorkerInfo(os.getpid(), node_id(), "cpu", 1, 10**6, 10**6)

    def submit(self, requests: list[VllmRequest]) -> None:
        done = [(request.key, self.group(request)) for request in requests]
        with self._changed:
            self._due += done
            self._changed.notify_all()

    def poll(self) -> Report:
        with self._changed:
            self._changed.wait_for(lambda: self._due, HEARTBEAT)
            finished, self._due = self._due, []
        return Report(finished, 0.0, 0)

    def stage(self, weights: Any) -> None:
        return None

    commit = ping = lambda self: None

    def group(self, request: VllmRequest) -> list[Rollout]:
        """Rollouts of lognormal length around half of the longest, cut there."""
        rng = random.Random(request.seed)
        lengths = [min(self._new, max(1, int(rng.lognormvariate(0, 0.6) * self._new / 2))) for _ in range(request.n)]
        return [Rollout(self._prompt, self._ids[:size], self._logprobs[:size], "eos", 0) for size in lengths]


class Host:
    """A Ray actor with several stand-ins."""

    def __init__(self, count: int, prompt: int, new: int):
        self._engines = [StandIn(prompt, new) for _ in range(count)]

    def call(self, index: int, method: str, *args: Any) -> Any:
        return getattr(self._engines[index], method)(*args)


class OneOf:
    """A stand-in as the dispatcher sees it: `.method.remote(...)`."""

    def __init__(self, host: Any, index: int):
        self._host, self._index = host, index

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=partial(self._host.call.remote, self._index, method))


def dispatcher(host: Any, engines: int, args: argparse.Namespace) -> Dispatcher:
    made = Dispatcher(
        partial(OneOf, host),
        engines=engines,
        max_num_seqs=args.max_num_seqs,
        deadline=600.0,
        start_timeout=600.0,
        max_restarts=0,
    )
    made.wait_started()
    return made


def requests(count: int, args: argparse.Namespace) -> list[VllmRequest]:
    sampling = SamplingParams(args.new, seed=0)
    return [VllmRequest(0, tuple(range(args.prompt)), sampling, args.n, seed) for seed in range(count)]


# ---------------------------------------------------------------- measured parts


def dispatching(args: argparse.Namespace) -> dict[str, Any]:
    """Groups/s and the trainer's processor time a group; that of asking all engines twice, as an update does."""
    import ray

    host = (
        ray.remote(Host)
        .options(num_cpus=0, max_concurrency=4 * args.engines)
        .remote(args.engines, args.prompt, args.new)
    )
    rates = {}
    for engines in sorted({1, 8, args.engines}):
        pool = dispatcher(host, engines, args)
        pool.submit(requests(engines, args)).result()
        work, process = requests(args.groups, args), psutil.Process()
        start, before = time.perf_counter(), sum(process.cpu_times()[:2])
        pool.submit(work).result()
        seconds, cpu = time.perf_counter() - start, sum(process.cpu_times()[:2]) - before
        rates[engines] = {"groups_per_second": len(work) / seconds, "cpu_seconds_per_group": cpu / len(work)}
    before = sum(process.cpu_times()[:2])
    for _ in range(args.rounds):
        pool.pause()
        pool.when_idle(lambda: (pool.ask("stage", pool.slots, None), pool.ask("commit", pool.slots))).result()
        pool.resume()
    return {"rates": rates, "ask_seconds": (sum(process.cpu_times()[:2]) - before) / args.rounds}


def messages(args: argparse.Namespace) -> dict[str, float]:
    """Bytes of a request and of its answer, and what all ranks do with a batch's rollouts: bytes, seconds a rank."""
    request = requests(1, args)[0]
    stand_in = StandIn(args.prompt, args.new)
    groups = [stand_in.group(one) for one in requests(64, args)]
    answer = [len(pickle.dumps(group, 5)) for group in groups]
    start = time.process_time()
    data = pickle.dumps(groups, 5)
    wrote = time.process_time()
    pickle.loads(data)
    read = time.process_time()
    batch = args.rollouts / args.n / len(groups)
    return {
        "request_bytes": len(pickle.dumps(request, 5)),
        "answer_bytes": statistics.mean(answer),
        "batch_bytes": batch * len(data),
        "write_seconds": batch * (wrote - start),
        "read_seconds": batch * (read - wrote),
    }


def meetings(args: argparse.Namespace, buckets: int = 20) -> dict[int, dict[str, float]]:
    """Seconds a bucket of the broadcast's header and two barriers, by ranks; no bytes to speak of."""
    return {ranks: _meeting(ranks, buckets) for ranks in sorted({2, 9, 1 + args.engines})}


def _meeting(ranks: int, buckets: int) -> dict[str, float]:
    seconds: list[float] = []
    all_there = threading.Barrier(ranks)
    processor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        meeting = Meeting(LOOPBACK, 0, ranks, 300.0, 64, f"{folder}/meeting")

        def take_part(rank: int) -> None:
            group = TransferGroup(meeting, rank, torch.device("cpu"), f"node {rank}")
            all_there.wait()
            start = time.perf_counter()
            if not rank:
                processor.append(time.process_time())
            for _ in range(buckets):
                if rank:
                    group.receive_header()
                    group.receive(64)
                else:
                    group.send_header([("weight", "float32", [16])])
                    group.send_bucket(64)
            seconds.append(time.perf_counter() - start)
            all_there.wait()
            if not rank:
                processor.append(time.process_time())

        threads = [threading.Thread(target=take_part, args=[rank]) for rank in range(ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"seconds": max(seconds) / buckets, "cpu_seconds": (processor[1] - processor[0]) / buckets}


def rates(args: argparse.Namespace) -> dict[str, float]:
    """Bytes a second of processor time: checksums on one core; into Ray's object store."""
    import ray

    data = torch.randint(256, (args.mib * 2**20,), dtype=torch.uint8)

    def rate(work: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(args.rounds + 1):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        return len(data) / statistics.median(seconds[1:])

    return {"checksum": rate(lambda: checksum(data)), "store": rate(lambda: ray.put(data.numpy()))}


# ---------------------------------------------------------------- the simulated cluster


def simulated(args: argparse.Namespace, measured: dict[str, Any], network: Network) -> dict[str, Any]:
    """Seconds of an update's phases, and of new weights by both ways."""
    from ixt_rl.config.load import load_run
    from ixt_rl.planning.devices import GPUS, Machine
    from ixt_rl.planning.plan import plan_stage
    from ixt_rl.planning.shapes import shape_of
    from ixt_rl.planning.work import Assumed

    words = [f"model.path={args.model}", f"stages.train.rollouts_per_step={args.rollouts}"]
    words += [f"stages.train.group_size={args.n}", f"stages.train.sampling.max_new_tokens={args.new}"]
    words += ["engine.type=ray-vllm", f"engine.pool.engines={args.engines}"]
    config = load_run("intro/math", words)
    machine = Machine(GPUS[args.gpu], args.engines + args.trainers, "zero3")
    plan = plan_stage(config, 0, machine, Assumed(prompt_tokens=args.prompt))
    nbytes = 2 * shape_of(config.model).parameters
    groups = args.rollouts / args.n
    said = measured["messages"]
    phases = {
        **plan.seconds,
        "dispatching, beyond the engines' own time": groups
        * measured["dispatching"]["rates"][args.engines]["cpu_seconds_per_group"],
        "rollouts to every rank": said["write_seconds"] + said["read_seconds"] + said["batch_bytes"] / network.tcp,
    }
    return {
        "phases": phases,
        "peak_gib": plan.peak / 2**30,
        "weights_bytes": nbytes,
        "broadcast": broadcasting(args, measured, network, nbytes),
        "object-store": storing(args, measured, network, nbytes),
    }


def broadcasting(
    args: argparse.Namespace, measured: dict[str, Any], network: Network, nbytes: float
) -> dict[str, float]:
    """Seconds of a weight update by broadcast: gathered, bucket after bucket, loaded."""
    from ixt_rl.rollout.weights.broadcast import BUCKET

    buckets = -(-nbytes // BUCKET)
    hops = (1 + args.engines - 1).bit_length()
    own = measured["meetings"][1 + args.engines]["cpu_seconds"] / (1 + args.engines)
    return {
        "gathering from shards": nbytes / network.gpu,
        "bytes, NCCL": nbytes / network.gpu,
        "meetings, a rank's own work": buckets * own,
        "meetings, latency": buckets * 4 * hops * network.latency,
    }


def storing(args: argparse.Namespace, measured: dict[str, Any], network: Network, nbytes: float) -> dict[str, float]:
    """Seconds of a weight update through Ray's object store."""
    nodes = -(-args.engines // network.per_node)
    return {
        "gathering from shards": nbytes / network.gpu,
        "to the trainer's host, checksums, store": nbytes
        * (1 / network.pcie + 1 / measured["rates"]["checksum"] + 1 / measured["rates"]["store"]),
        "to the engines' nodes, all from the trainer's": nodes * nbytes / network.tcp,
        "checksums at the engines, a core each": nbytes / measured["rates"]["checksum"],
        "to GPUs": nbytes * network.per_node / (network.pcie * network.per_node),
        "asking all engines": measured["dispatching"]["ask_seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=64)
    parser.add_argument("--trainers", type=int, default=64)
    parser.add_argument("--model", default="Qwen/Qwen2.5-7B", help="a name that the planner knows")
    parser.add_argument("--gpu", default="H100")
    parser.add_argument("--rollouts", type=int, default=4096, help="of an update")
    parser.add_argument("--n", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--prompt", type=int, default=300, help="tokens")
    parser.add_argument("--new", type=int, default=1024, help="tokens, at most")
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--groups", type=int, default=512, help="groups that measure the dispatcher's rate")
    parser.add_argument("--mib", type=int, default=128, help="bytes of which rates are measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/cluster"))
    args = parser.parse_args()
    import ray

    from ixt_rl.rollout.pool.ray_private import private_ray

    torch.set_num_threads(1)
    with private_ray():
        ray.init(address="local", _node_ip_address=LOOPBACK, include_dashboard=False, log_to_driver=False, num_cpus=2,
                 logging_level="ERROR", object_store_memory=8 * args.mib * 2**20)  # fmt: skip
    try:
        measured = {part.__name__: part(args) for part in (messages, dispatching, rates)}
    finally:
        ray.shutdown()
    measured["meetings"] = meetings(args)
    network = Network()
    found = {
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "assumed": asdict(network),
        "measured": measured,
        "simulated": simulated(args, measured, network),
    }
    write(args.out, "cluster", found, text(found))


if __name__ == "__main__":
    main()
