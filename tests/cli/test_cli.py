"""`ixt-rl` as a user calls it: a process, its exit status, its two streams."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ixt_rl.backends import BACKENDS
from ixt_rl.cli.main import main
from ixt_rl.methods.registry import described, types
from tests.unit.config.broken import GOOD

ROOT = Path(__file__).resolve().parents[2]


def ixt_rl(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ixt_rl` with the checkout importable."""
    return subprocess.run(
        [sys.executable, "-m", "ixt_rl", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("steps: 3", "stepz: 3"))
    return path


# ------------------------------------------------------------------------------------------- check


def test_check_says_ok_and_exits_0(good):
    result = ixt_rl("check", good)
    assert result.returncode == 0, result.stderr
    assert f"{good}: ok - base (pretrain), rl (intro)" in result.stdout


def test_check_reports_every_file_and_exits_2(good, bad, tmp_path):
    result = ixt_rl("check", good, bad, tmp_path / "none.yaml")
    assert result.returncode == 2
    assert "good.yaml: ok" in result.stdout
    assert "stages.rl.stepz (line 13): 3" in result.stdout
    assert "did you mean `steps`?" in result.stdout
    assert "none.yaml: no such file" in result.stdout
    assert "Traceback" not in result.stderr


def test_check_prints_notes(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(GOOD.replace("type: intro", "type: grpo"))
    result = ixt_rl("check", file)
    assert result.returncode == 0
    assert "note: stages.rl.intro is not read by type: grpo" in result.stdout


def test_check_takes_overrides_anywhere_and_for_every_file(good, tmp_path):
    second = tmp_path / "second=2.yaml"  # a file that exists is no override
    second.write_text(GOOD)
    result = ixt_rl("check", "name=mine", good, "stages.rl.type=grpo", second)
    assert result.returncode == 0, result.stderr
    for file in (good, second):
        assert f"{file}: ok - base (pretrain), rl (grpo)" in result.stdout
    result = ixt_rl("check", good, "stages.rl.stepz=3", "seeds=none")
    assert result.returncode == 2
    assert "stages.rl.stepz (override stages.rl.stepz=3): 3" in result.stdout
    assert "seeds (override seeds=none): 'none'" in result.stdout
    assert "did you mean `steps`?" in result.stdout
    result = ixt_rl("check", "name=mine")
    assert result.returncode == 2
    assert "none names a file" in result.stderr


def test_check_takes_under_two_seconds(good):
    """Of a core's time: what else the machine does is not the command's."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    ixt_rl("check", good)  # compiles and caches the byte code
    seconds = []
    for _ in range(3):
        start = spent()
        ixt_rl("check", good)
        seconds.append(spent() - start)
    assert min(seconds) < 2.0, seconds


@pytest.mark.parametrize("command", ["check", "dry-run", "schema", "help"])
def test_light_commands_import_nothing_heavy(command: str, good):
    arguments = {
        "check": ["check", str(good)],
        "dry-run": ["run", str(good), "seeds=[1,2]", "--dry-run"],
        "schema": ["schema"],
        "help": ["run", "--help"],
    }[command]
    script = (
        "import sys\n"
        "from ixt_rl.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as exit: assert not exit.code, exit.code\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'accelerate', 'numpy', 'matplotlib', 'sympy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1] == "HEAVY []"


def test_every_shipped_demo_file_passes_check():
    files = sorted((ROOT / "configs" / "demo").glob("*.yaml"))
    assert files
    result = ixt_rl("check", *files)
    assert result.returncode == 0, result.stdout


# ----------------------------------------------------------------------------------- run, dry run


def test_dry_run_prints_the_resolved_configuration_and_writes_nothing(good, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = ixt_rl("run", good, "--dry-run", "stages.rl.optim.lr=1e-4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    plain = yaml.safe_load(result.stdout)
    assert plain["stages"][1]["optim"]["lr"] == 1e-4
    assert plain["stages"][1]["intro"]["clip"] == 200.0
    assert plain["output_dir"] == "runs"
    assert sorted(tmp_path.rglob("*")) == before


def test_options_may_stand_between_overrides(good):
    result = ixt_rl("run", good, "name=other", "--dry-run", "seeds=[4]")
    plain = yaml.safe_load(result.stdout)
    assert (plain["name"], plain["seeds"]) == ("other", [4])


def test_run_refuses_a_broken_file_on_stderr_with_exit_2(bad):
    result = ixt_rl("run", bad)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "did you mean `steps`?" in result.stderr
    assert "Traceback" not in result.stderr


def test_run_refuses_a_broken_override(good):
    result = ixt_rl("run", good, "stages.rl.steps=2.5")
    assert result.returncode == 2
    assert "override stages.rl.steps=2.5" in result.stderr


def test_traceback_on_request(bad):
    assert "Traceback" in ixt_rl("run", bad, IXT_RL_TRACEBACK="1").stderr


def test_dry_run_shows_no_secret_of_the_environment(good):
    result = ixt_rl("run", good, "--dry-run", "name=hunter2hunter2", SOME_API_KEY="hunter2hunter2")
    assert result.returncode == 0 and "hunter2" not in result.stdout and "name: [hidden]" in result.stdout


@pytest.mark.parametrize("option", ["--dry", "--dry_run", "--dri-run", "--fre", "--seeds=[1]"])
def test_no_abbreviated_and_no_unknown_options(option: str, good):
    result = ixt_rl("run", good, option)
    assert result.returncode == 2
    assert "No such option" in result.stderr


@pytest.mark.parametrize("command", ["ru", "chek", "runs"])
def test_no_abbreviated_commands(command: str):
    result = ixt_rl(command)
    assert result.returncode == 2
    assert "No such command" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ConfigError", 2),
        ("DataError", 2),
        ("BackendMissing", 2),
        ("RewardError", 1),
        ("PreconditionError", 1),
    ],
)
def test_errors_of_a_run_are_readable_and_set_the_exit_status(error: str, status: int, good):
    """The run itself is replaced by one that fails, in a real process through the real command."""
    script = (
        "import sys, types\n"
        "import ixt_rl.errors as errors\n"
        "def run_config(config, fresh=False):\n"
        "    assert fresh is True\n"
        f"    raise errors.{error}('what [b]x[/b]', reason='why', remedy='how')\n"
        "sys.modules['ixt_rl.run'] = types.SimpleNamespace(run_config=run_config)\n"
        "from ixt_rl.cli.main import main\n"
        "main(['run', sys.argv[1], '--fresh'])\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(good)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == status
    assert child.stderr.splitlines() == [f"{error}: what [b]x[/b]", "  reason: why", "  remedy: how"]


# ------------------------------------------------------------------- schema, help, report, doctor


def test_schema_describes_every_key():
    schema = json.loads(ixt_rl("schema").stdout)
    assert {"name", "output_dir", "seeds", "threads", "model", "stages"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    members = [
        schema["$defs"][one["$ref"].rpartition("/")[2]] for one in schema["properties"]["stages"]["items"]["oneOf"]
    ]
    assert {member["properties"]["type"]["const"] for member in members} == set(types())


@pytest.mark.parametrize(
    "command", [[], ["check"], ["run"], ["demo"], ["configs"], ["methods"], ["schema"], ["report"], ["doctor"]]
)
def test_help_teaches(command: list[str]):
    result = ixt_rl(*command, "--help")
    assert result.returncode == 0
    assert "Usage: ixt-rl" in result.stdout
    if command != ["doctor"]:
        assert f"  ixt-rl {' '.join(command)}" in result.stdout, "no example"


def test_report_of_a_folder_that_does_not_exist(tmp_path):
    result = ixt_rl("report", tmp_path / "none")
    assert result.returncode == 2
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    "optional",
    [False, pytest.param(True, marks=pytest.mark.long("tests/cli/test_cli.py::test_doctor_finds_the_core_usable"))],
)
def test_doctor_finds_the_core_usable(optional: bool, monkeypatch):
    """With the optional packages as they are, or all of them missing: their imports take a minute."""
    for name, backend in BACKENDS.items():
        if not (optional or backend.core):
            monkeypatch.setitem(BACKENDS, name, replace(backend, module="no_such_module"))
    done = CliRunner().invoke(main, ["doctor", "--timeout", "250"], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = {line.split("│")[1].strip(): line for line in done.output.splitlines() if "│" in line}
    for name in ("torch", "transformers", "trl", "math-verify", "pydantic"):
        assert "yes" in rows[name]
    assert "vllm (optional)" in rows


def test_shipped_files_and_stage_types_are_listed(tmp_path):
    listed = ixt_rl("configs", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    (row,) = (line for line in listed.stdout.splitlines() if line.startswith("ixt/facts\t"))
    assert "facts that stand in no good document, asked at temperature 1." in row
    assert "about seven minutes on two cores" in row
    assert len(row.split("\t")) == 3 and max(map(len, listed.stdout.splitlines())) < 400, "no padding in a pipe"
    printed = ixt_rl("configs", "ixt/facts", cwd=tmp_path)
    assert printed.stdout == (ROOT / "configs" / "ixt" / "facts.yaml").read_text()
    unknown = ixt_rl("configs", "facts", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean `ixt/facts`?" in unknown.stderr
    listed = ixt_rl("methods", cwd=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [kind for kind, _ in described()]
    assert "GRPO: rollouts of a group are weighed" in listed.stdout


def test_demo_is_the_shipped_run_with_overrides(tmp_path):
    result = ixt_rl("demo", "seeds=[1, 2]", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["name"] == "addition"
    assert yaml.safe_load(result.stdout)["seeds"] == [1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["--local_rank=1", "--local-rank=1"])
def test_what_launchers_put_before_the_command_is_no_error(word):
    done = CliRunner().invoke(main, [word, "check", "demo/addition"])
    assert done.exit_code == 0, done.output
