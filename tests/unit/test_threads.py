"""Cores, quotas, and the bound on spinning: the latter in fresh processes, because OpenMP reads it once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ixt_rl import threads
from ixt_rl.blocks.engine import EngineBlock, PoolBlock
from ixt_rl.doctor.machine import machine_facts
from ixt_rl.rollout.pool.environment import actor_environment
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.threads import free_cores, keep_threads, kept_threads, spinning_note, torch_threads

ROOT = Path(__file__).resolve().parents[2]
OWN = {"OMP_WAIT_POLICY", "OMP_NUM_THREADS", "OMP_DISPLAY_ENV", "LD_PRELOAD", *threads.SPIN_BOUNDS}

V1 = "12 11 0:9 {root} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "12 11 0:9 {root} /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
ACCOUNTING = "13 11 0:9 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n"


def child(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    kept |= {"PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


LIBGOMP = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
LOAD = f"import ctypes; ctypes.CDLL({str(LIBGOMP)!r})"
"""What the import of torch does, without the rest of it."""


def spins_of_libgomp(code: str, **environment: str) -> list[str]:
    """What libgomp itself says, when it is loaded, that it does."""
    said = child(code, OMP_DISPLAY_ENV="verbose", **environment)
    return [line.split("'")[1] for line in said.splitlines() if "GOMP_SPINCOUNT" in line]


@pytest.mark.skipif(not LIBGOMP.exists(), reason="this build of torch has another OpenMP")
def test_libgomp_reads_the_bound_where_ixt_rl_came_first():
    assert spins_of_libgomp(f"import ixt_rl; {LOAD}") == ["3000"]
    assert spins_of_libgomp(f"{LOAD}; import ixt_rl") == ["300000"]
    assert spins_of_libgomp(f"import ixt_rl; {LOAD}", GOMP_SPINCOUNT="77") == ["77"]
    assert spins_of_libgomp(f"import ixt_rl; {LOAD}", OMP_WAIT_POLICY="passive") == ["0"]


@pytest.mark.parametrize(
    "door", ["from ixt_rl.cli import main", "import ixt_rl.__main__", "import ixt_rl.run.pipeline"]
)
def test_every_door_sets_it_before_torch(door):
    code = f"""
import sys
class Seen:
    def find_spec(self, name, *rest):
        if name == "torch":
            import os
            print("torch with", os.environ.get("GOMP_SPINCOUNT"), os.environ.get("KMP_BLOCKTIME"))
            sys.exit()
sys.meta_path.insert(0, Seen())
{door}
import torch
"""
    assert child(code).splitlines()[0] == "torch with 3000 1"


def test_what_the_user_set_is_kept():
    code = "import ixt_rl; from ixt_rl.threads import spin_settings; print(spin_settings(), ixt_rl.TORCH_CAME_FIRST)"
    assert child(code).strip() == "{'GOMP_SPINCOUNT': '3000', 'KMP_BLOCKTIME': '1'} False"
    assert child(code, OMP_WAIT_POLICY="active").strip() == "{'OMP_WAIT_POLICY': 'active'} False"
    assert child(code, KMP_BLOCKTIME="0").strip() == "{'GOMP_SPINCOUNT': '3000', 'KMP_BLOCKTIME': '0'} False"
    torch_first = f"import sys; sys.modules['torch'] = sys; {code}"
    assert child(torch_first).strip().endswith("True")
    assert child(torch_first, GOMP_SPINCOUNT="5").strip().endswith("False")


def test_a_run_says_that_torch_came_first(monkeypatch):
    for first, count, said in ((True, 2, True), (True, 1, False), (False, 2, False)):
        monkeypatch.setattr("ixt_rl.TORCH_CAME_FIRST", first)
        monkeypatch.setattr("ixt_rl.run.threads.get_num_threads", lambda count=count: count)
        assert bool(spinning_note()) == said


def tree(root: Path, membership: str, mounts: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": membership, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "mounts", "files", "quota"),
    [
        ("0::/\n", V2.format(root="/"), {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", V2.format(root="/"), {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        # the narrowest of a group and those around it
        (
            "0::/jobs/mine\n",
            V2.format(root="/"),
            {"sys/fs/cgroup/jobs/mine/cpu.max": "400000 100000\n", "sys/fs/cgroup/jobs/cpu.max": "200000 100000\n"},
            2.0,
        ),
        # a mount that begins at the container's group, whose path counts from the machine's
        ("0::/docker/77\n", V2.format(root="/docker/77"), {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        (
            "5:cpu,cpuacct:/docker/77\n0::/\n",
            ACCOUNTING + V1.format(root="/docker/77"),
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "5:cpu,cpuacct:/a\n",
            V1.format(root="/"),
            {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("", "", {}, None),
    ],
)
def test_quotas_of_both_versions(tmp_path, membership, mounts, files, quota):
    assert threads.cpu_quota(tree(tmp_path, membership, mounts, files)) == quota


def test_no_quota_where_there_is_no_proc(tmp_path):
    assert threads.cpu_quota(tmp_path) is None


def test_cores_are_bound_by_affinity_quota_and_omp_num_threads(monkeypatch):
    monkeypatch.setattr(threads, "allowed_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for quota, cores in ((None, 8), (2.9, 2), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        assert (threads.usable_cores(), threads.usable_threads()) == (cores, cores)
    for said, expected in (("3", 3), ("4,2", 4), ("16", 8), ("", 8), ("many", 8), ("0", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert threads.usable_threads() == expected


def test_the_command_line_keeps_to_a_quota_that_openmp_does_not_see(monkeypatch):
    monkeypatch.setattr(threads, "allowed_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # so that monkeypatch puts back what is set below
    for before, quota, after in (("5", 2.0, "5"), (None, 2.0, "2"), (None, None, None)):
        os.environ.pop("OMP_NUM_THREADS", None)
        if before:
            os.environ["OMP_NUM_THREADS"] = before
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        threads.keep_to_quota()
        assert os.environ.get("OMP_NUM_THREADS") == after


def test_affinity_is_seen():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import ixt_rl.threads as t; "
    assert child(code + "print(t.allowed_cores())").strip() == "1"


def test_trainer_and_engines_share_the_cores(monkeypatch):
    monkeypatch.setattr("ixt_rl.run.threads.get_num_threads", lambda: 8)
    monkeypatch.setattr("ixt_rl.run.threads.usable_cores", lambda: 6)
    monkeypatch.setattr("ixt_rl.run.threads.free_cores", lambda: 8)
    made: list[int] = []
    monkeypatch.setattr("ixt_rl.run.threads.set_num_threads", made.append)
    for said, beside, expected in ((None, 0, 6), (None, 4, 2), (None, 9, 1), (3, 4, 3), (12, 0, 12)):
        with torch_threads(said, beside) as found:
            assert found == made[-1] == expected
        assert made[-1] == 8


@pytest.mark.parametrize(("busy", "own", "free"), [
    ([2.0, 3.0], {0, 1}, 2), ([100.0, 4.0], {0, 1}, 1), ([100.0, 100.0], {0, 1}, 1), ([60.0, 10.0], {0, 1}, 1),
    ([100.0] * 4 + [1.0] * 4, {4, 5}, 2), ([100.0] * 4 + [1.0] * 4, {0, 1, 4, 5}, 2), ([5.0], {0, 7}, 1),
])  # fmt: skip
def test_cores_that_other_programs_keep_busy_are_not_free(monkeypatch, busy, own, free):
    monkeypatch.setattr("ixt_rl.run.threads.psutil.cpu_percent", lambda interval, percpu: busy)
    monkeypatch.setattr("ixt_rl.run.threads.os.sched_getaffinity", lambda process: own, raising=False)
    assert free_cores() == free


def test_threads_are_those_of_free_cores_where_nobody_said_how_many(monkeypatch):
    monkeypatch.setattr("ixt_rl.run.threads.get_num_threads", lambda: 8)
    monkeypatch.setattr("ixt_rl.run.threads.usable_cores", lambda: 8)
    monkeypatch.setattr("ixt_rl.run.threads.set_num_threads", lambda threads: None)
    monkeypatch.setattr("ixt_rl.run.threads.free_cores", lambda: 3)
    for said, omp, expected in ((None, None, 3), (5, None, 5), (None, "8", 8)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if omp:
            monkeypatch.setenv("OMP_NUM_THREADS", omp)
        heard: list[str] = []
        with torch_threads(said, 0, heard.append) as found:
            assert found == expected
        assert [line.startswith("3 of 8 threads") for line in heard] == [True] * (expected == 3)


def test_a_run_goes_on_with_the_threads_it_began_with(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ixt_rl.run.threads.usable_cores", lambda: 4)
    monkeypatch.setattr("ixt_rl.run.threads.allowed_cores", lambda: 4)
    folder = RunFolder(tmp_path, "run")
    folder.path.mkdir()
    assert kept_threads(folder) is None
    for count in (1, 4):  # the second has no say
        monkeypatch.setattr("ixt_rl.run.threads.get_num_threads", lambda count=count: count)
        keep_threads(folder)
        assert kept_threads(folder) == 1
    monkeypatch.setattr("ixt_rl.run.threads.allowed_cores", lambda: 64)  # another machine
    assert kept_threads(folder) is None


def test_engines_take_cores_from_the_trainer_only_while_it_computes():
    pool = PoolBlock(engines=3, cpus_per_engine=2)

    def beside(**keys):  # as a copy, which asks for no package
        return EngineBlock().model_copy(update=keys).cores_beside_trainer

    assert beside(type="ray-vllm", staleness=1, pool=pool) == 6
    assert beside(type="ray-vllm", staleness=0, pool=pool) == 0
    assert beside(type="vllm", pool=pool) == 0
    assert beside(type="ray-vllm", staleness=1, pool=pool.model_copy(update={"address": "auto"})) == 0


def test_actors_are_told_of_threads_and_spinning(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "123")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), "/elsewhere"]))
    found = actor_environment(0)
    assert (found["OMP_NUM_THREADS"], found["GOMP_SPINCOUNT"]) == ("1", "123")
    assert found["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]


def test_the_doctor_tells_of_cores_quota_and_matrix_units(tmp_path, monkeypatch):
    monkeypatch.setattr("ixt_rl.doctor.machine.allowed_cores", lambda: 16)
    monkeypatch.setattr("ixt_rl.doctor.machine.usable_threads", lambda: 2)
    files = {
        "sys/fs/cgroup/cpu.max": "250000 100000\n",
        "proc/cpuinfo": "model name\t: A Chip\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nflags\t\t: fpu\n",
    }
    facts = dict(machine_facts(tree(tmp_path, "0::/\n", V2.format(root="/"), files)))
    assert facts["processor"] == "A Chip"
    assert facts["cores"] == "16 that this process may use, a quota of 2.5"
    assert facts["threads"] == "2, by the quota or OMP_NUM_THREADS"
    assert facts["matrix units"] == "avx2, avx512f, amx_bf16"
    assert "GOMP_SPINCOUNT" in facts["idle threads"] or "OMP_WAIT_POLICY" in facts["idle threads"]
