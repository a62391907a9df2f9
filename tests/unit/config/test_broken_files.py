"""Every mistake gives one readable error that names path, value and remedy, and none loads anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError
from tests.unit.config.broken import BROKEN, GOOD, Broken, broken_text


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_one_mistake_gives_one_readable_problem(case: Broken, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(broken_text(case))
    with pytest.raises(InvalidConfig) as caught:
        load_run(file)
    assert len(caught.value.problems) == 1, str(caught.value)
    (problem,) = caught.value.problems
    text = str(caught.value)
    assert (problem.path or "the whole file") == case.path
    assert case.value in problem.value
    assert problem.reason
    assert problem.remedy
    assert f"  {case.path}" in text
    assert "reason: " in text
    assert "remedy: " in text
    for words in case.says:
        assert words in text, f"{words!r} is not in:\n{text}"
    assert "pydantic" not in text
    assert "Input should" not in text
    assert "function-after" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "a run is a block of keys"),
        (b"just words\n", "a run is a block of keys"),
        (b"name: a\n\tmodel: b\n", "line 2"),
        (b"name: 'a\n", "not valid YAML"),
        (b"name: [a\nmodel: b\n", "not valid YAML"),
        (b"name: a: b\n", "line 1, column 8"),
        (b"name: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"name: !secret [1]\n", "not valid YAML"),
        (b"name: &a [*a]\n", "an anchor contains itself"),
        (b"name: *nowhere\n", "not valid YAML"),
        (b"name: a\n---\nname: b\n", "not valid YAML"),
        (b"name: \xff\xfe\n", "not UTF-8"),
        (b"? [a, b]\n: c\n", "not valid YAML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_run_file_at_all(content: bytes, says: str, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_run(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.reason
    assert caught.value.remedy


def test_a_file_that_does_not_exist_gets_its_neighbour_named(tmp_path):
    (tmp_path / "addition.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"did you mean `addition\.yaml`"):
        load_run(tmp_path / "adition.yaml")
    with pytest.raises(ConfigError, match="a folder"):
        load_run(tmp_path)


def test_all_mistakes_of_a_file_come_in_one_error(tmp_path):
    text = GOOD.replace("steps: 3", "stepz: 3").replace("lr: 5e-7", "lr: tiny").replace("sum", "sun")
    text = text.replace("{type: world}", "{type: python, path: no.py:f}").replace("layers: 2", "layers: two")
    text = text.replace("group_size: 4", "group_size: 4\n    group_size: 4\n    template: maths")
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load_run(file, ["stages.none.steps=1", "seeds=[a]"])
    assert {problem.path for problem in caught.value.problems} == {
        "stages.rl.group_size",
        "stages.none",
        "seeds.0",
        "model.new.layers",
        "stages.rl.template",
        "stages.rl.stepz",
        "stages.rl.optim.lr",
        "stages.rl.rewards.0.path",
    }


def test_what_blocks_have_against_each_other_comes_at_once_each_at_its_key(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(GOOD + "launch: {ranks: 3, strategy: fsdp2}\nengine: {type: ray-vllm, staleness: 1}\n")
    best = "stages.rl.keep_best={metric: greedy/checked, mode: max}"
    asked = ["stages.rl.dynamic_sampling={}", "stages.rl.evaluation={every: 1}", "stages.base.batch_size=9"]
    with pytest.raises(InvalidConfig) as caught:
        load_run(file, [*asked, best])
    assert {problem.path: problem.where for problem in caught.value.problems} == {
        "stages.rl.rollouts_per_step": "line 14",
        "stages.rl.keep_best": f"override {best}",
        "engine.staleness": "line 21",
    }


def test_no_broken_file_imports_torch(tmp_path):
    files = []
    for index, case in enumerate(BROKEN):
        files.append(tmp_path / f"{index}.yaml")
        files[-1].write_text(broken_text(case))
    script = (
        "import json, sys\n"
        "from ixt_rl.cli.main import main\n"
        "status = None\n"
        "try: main(['check', *sys.argv[1:]])\n"
        "except SystemExit as exit: status = exit.code\n"
        "heavy = [m for m in ('torch', 'transformers', 'trl', 'datasets', 'numpy') if m in sys.modules]\n"
        "print(json.dumps([status, heavy]))\n"
    )
    child = subprocess.run([sys.executable, "-c", script, *map(str, files)], capture_output=True, text=True, check=True)
    assert json.loads(child.stdout.splitlines()[-1]) == [2, []]
    assert child.stdout.count("1 problem") == len(BROKEN)
    assert "Traceback" not in child.stdout + child.stderr


def test_a_missing_package_is_an_error_with_its_install_command(tmp_path):
    file = tmp_path / "run.yaml"
    script = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == sys.argv[2] else real(name, *rest)\n"
        "from ixt_rl.config.load import load_run\n"
        "from ixt_rl.errors import ConfigError\n"
        "try: load_run(sys.argv[1])\n"
        "except ConfigError as error: print(error)\n"
    )
    for old, new, module, package in [
        ("group_size: 4", "lora: {r: 8}", "peft", "peft"),
        ("group_size: 4", "lora: {quantize: nf4}", "bitsandbytes", "bitsandbytes"),
        ("model:", "model:\n  dtype: bfloat16\n  attention: flash_attention_2", "flash_attn", "flash-attn"),
    ]:
        file.write_text(GOOD.replace(old, new))
        child = subprocess.run(
            [sys.executable, "-c", script, str(file), module], capture_output=True, text=True, check=True
        )
        assert f"needs {package}" in child.stdout
        assert f'-m pip install "{package}' in child.stdout


def test_a_misspelt_key_of_a_block_that_may_be_a_name_is_found(tmp_path):
    """The block has several validators, and pydantic's label of it names them all."""
    file = tmp_path / "run.yaml"
    template = '{promt: "{question}", told: "{question}{answer}"}'
    file.write_text(GOOD.replace("steps: 3", f"steps: 3\n    template: {template}"))
    with pytest.raises(InvalidConfig) as caught:
        load_run(file)
    (problem,) = caught.value.problems
    assert problem.path == "stages.rl.template.promt"
    assert "`prompt`" in problem.remedy


@pytest.mark.parametrize("case", [case for case in BROKEN if "sk-" in case.new], ids=lambda case: case.name)
def test_a_key_that_is_refused_is_not_repeated(case: Broken, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(broken_text(case))
    with pytest.raises(InvalidConfig) as caught:
        load_run(file)
    assert "sk-" not in str(caught.value)
