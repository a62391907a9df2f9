"""A stage is known by the contents of everything it depends on; what changed is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.config.schema import RunConfig
from ixt_rl.contents import Hashes, files_of, imports_of
from ixt_rl.run.fingerprint import changes, fingerprint, ingredients, model_fingerprint, modules_of

MODEL = ("config.json", "tokenizer.json", "pytorch_model.bin", "chat_template.jinja", "sub/model.safetensors")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with everything that a stage may name."""
    monkeypatch.chdir(tmp_path)
    for name in MODEL:
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("{}")
        (tmp_path / "judge" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "judge" / name).write_text("{}")
    row = {"question": "1 + 1?", "answer": "2", "text": "a text"}
    for name in ("problems.jsonl", "parts/a.jsonl", "parts/b.jsonl", "parts/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    (tmp_path / "reward.py").write_text("import helper\nfrom pack import inner\ndef f(completions, **k): return 0\n")
    (tmp_path / "helper.py").write_text("def g():\n    from deep.down import h\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "down.py").write_text("from . import beside\nimport json, torch\n")
    (tmp_path / "deep" / "beside.py").write_text("")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text("")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "rubric.yaml").write_text("a: 1\n")
    (tmp_path / "rewrite.yaml").write_text("a: 1\n")
    return tmp_path


def run(place: Path, **changes: object) -> RunConfig:
    stage = {
        "name": "rl", "type": "intro", "data": {"path": "problems.jsonl"}, "steps": 3, "rollouts_per_step": 8,
        "sampling": {"max_new_tokens": 8}, "optim": {"lr": 5e-7},
        "rewards": [{"type": "python", "path": "reward.py:f"},
                    {"type": "judge", "judge": "hf:judge", "rubric": "rubric.yaml"}],
        **changes,
    }  # fmt: skip
    file = place / "run.yaml"
    file.write_text(dump_yaml({"name": "trial", "model": {"path": "./model"}, "stages": [stage]}))
    return load_run(file)


def of(config: RunConfig, **given: object) -> dict:
    return ingredients(config, config.stages[0], 1, "model", Hashes(), **given)


CHANGED = [
    ("problems.jsonl", {}),
    ("reward.py", {}),
    ("helper.py", {}),
    ("deep/down.py", {}),
    ("deep/beside.py", {}),
    ("pack/__init__.py", {}),
    ("pack/inner.py", {}),
    ("rubric.yaml", {}),
    *[(f"judge/{name}", {}) for name in MODEL],
    *[(f"model/{name}", {}) for name in MODEL],
    ("parts/a.jsonl", {"data": {"path": "parts", "suffix_tokens": 4}}),
    ("parts/b.jsonl", {"data": {"path": "parts/*.jsonl", "suffix_tokens": 4}}),
]


@pytest.mark.parametrize(("name", "given"), CHANGED, ids=lambda value: value if isinstance(value, str) else "")
def test_every_file_that_a_stage_reads_counts_by_its_contents(name: str, given: dict, place: Path):
    config = run(place, **given)
    before = of(config)
    file = place / name
    file.write_text(file.read_text() + " ")
    after = of(config)
    assert fingerprint(before) != fingerprint(after)
    (said,) = changes(before, after)
    assert said.endswith("changed")
    assert Path(name).name in said
    os.utime(file)  # the time alone is nothing
    assert fingerprint(of(config)) == fingerprint(after)


def test_what_a_stage_does_not_read_does_not_count(place):
    config = run(place)
    before = fingerprint(of(config))
    for name in ("other.py", "parts/a.jsonl", "model/training_args.bin", "model/.hidden", "runs/trial/x.jsonl"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("other")
    assert fingerprint(of(config)) == before


def test_a_file_more_or_less_in_a_folder_counts_but_not_the_runs_own(place):
    config = run(place, data={"path": "parts", "suffix_tokens": 4})
    before = of(config)
    (place / "parts" / "d.jsonl").write_text("{}\n")
    assert changes(before, of(config)) == ["parts/d.jsonl is new"]
    (place / "parts" / "d.jsonl").unlink()
    (place / "parts" / "a.jsonl").unlink()
    assert changes(before, of(config)) == ["parts/a.jsonl is gone"]
    above = run(place, data={"path": ".", "suffix_tokens": 4})
    before = fingerprint(of(above))
    (place / "runs" / "trial").mkdir(parents=True)
    (place / "runs" / "trial" / "metrics.jsonl").write_text("{}\n")
    assert fingerprint(of(above)) == before


def test_settings_seeds_versions_and_code_are_named(place, monkeypatch):
    config = run(place)
    before = of(config)
    assert changes(before, before) == []
    assert changes(before, of(run(place, steps=4, optim={"lr": 1e-6}))) == [
        "steps: 3, now 4",
        "optim.lr: 5e-07, now 1e-06",
    ]
    assert changes(before, {**before, "seed": 2}) == ["seed: 1, now 2"]
    assert changes(before, {**before, "code": "other"}) == ["the code of ixt-rl changed"]
    assert changes({**before, "versions": {**before["versions"], "torch": "2.0"}}, before)[0].startswith('torch: "2.0"')


def test_continuations_of_another_stage_count(place):
    config = run(place)
    against = place / "runs" / "trial" / "stages" / "plain" / "seed1" / "continuations.jsonl"
    before = of(config, against=against)
    against.parent.mkdir(parents=True)
    against.write_text("{}\n")
    there = of(config, against=against)
    assert changes(before, there)
    against.write_text("{} \n")
    assert changes(there, of(config, against=against)) == ["plain's continuations changed"]


def test_a_new_model_counts_by_what_it_is_made_from(tmp_path):
    file = tmp_path / "run.yaml"

    def of_hidden(size: int) -> str:
        stage = {"name": "base", "type": "pretrain", "data": {"world": "addition"}, "steps": 1, "optim": {"lr": 1.0}}
        model = {"new": {"hidden_size": size}}
        file.write_text(dump_yaml({"name": "t", "output_dir": str(tmp_path), "model": model, "stages": [stage]}))
        return model_fingerprint(load_run(file), str(tmp_path / "t" / "initial"))

    assert of_hidden(64) == of_hidden(64) != of_hidden(128)


def test_imports_are_followed_and_installed_packages_are_not(place):
    names = [file.relative_to(place).as_posix() for file in imports_of(place / "reward.py")]
    assert names == ["deep/beside.py", "deep/down.py", "helper.py", "pack/__init__.py", "pack/inner.py"]
    (place / "reward.py").write_text("import reward, helper\n")  # itself: no loop
    assert len(imports_of(place / "reward.py")) == 3


@pytest.mark.parametrize(
    "text", ["gsm8k", "world", "openai:gpt", "nothing.py:f", "a\0b", "x" * 5000, "[", "parts/none*"]
)
def test_a_text_that_names_no_file_has_none(text: str, place):
    assert files_of(text) == {}


def test_hashes_of_large_files_are_remembered_by_size_and_times(tmp_path, monkeypatch):
    file, store = tmp_path / "large", tmp_path / "hashes.json"
    file.write_bytes(b"x" * (1 << 20))
    os.utime(file, (1, 1))
    first = Hashes(store)
    monkeypatch.setattr("ixt_rl.contents._SETTLED_S", -1.0)  # as if it had been written long ago
    known = first.of(file)
    first.save()
    reads = []
    monkeypatch.setattr("hashlib.file_digest", lambda *given: reads.append(given))
    assert Hashes(store).of(file) == known
    assert reads == []
    monkeypatch.undo()
    file.write_bytes(b"y" * (1 << 20))
    os.utime(file, (1, 1))  # the same size and time of change, as a copy that keeps times has
    assert Hashes(store).of(file) != known
    store.write_text("{")  # a damaged memory is none
    assert Hashes(store).of(file) != known


def test_a_file_written_a_moment_ago_is_not_remembered(tmp_path):
    file, store = tmp_path / "large", tmp_path / "hashes.json"
    file.write_bytes(b"x" * (1 << 20))
    hashes = Hashes(store)
    hashes.of(file)
    hashes.save()
    assert not store.exists()


def test_a_trainer_of_ones_own_is_known_by_its_file_and_what_it_imports(place):
    source = "from other import g\nfrom ixt_rl.trainers import InTROTrainer\nclass Mine(InTROTrainer):\n    pass\n"
    (place / "mine.py").write_text(source)
    given = {"type": "python", "trainer": "mine.py:Mine"}
    before = of(run(place, **given))
    (place / "other.py").write_text("def g():\n    return 1\n")
    assert changes(before, of(run(place, **given))) == ["other.py changed"]
    before = of(run(place, **given))
    (place / "mine.py").write_text(source + "\n")
    assert changes(before, of(run(place, **given))) == ["mine.py changed"]


def test_an_option_s_folder_counts_unless_all_lies_in_it(place):
    base = "@dataclass\nclass C(InTROConfig):\n    near: str = ''\nclass Mine(InTROTrainer):\n    config_class = C\n"
    head = "from dataclasses import dataclass\nfrom ixt_rl.trainers import InTROConfig, InTROTrainer\n"
    (place / "mine.py").write_text(head + base)
    given = {"type": "python", "trainer": "mine.py:Mine"}
    files = [set(of(run(place, **given, options={"near": at}))["files"]) for at in ("", "./parts", "/", str(place))]
    assert files[1] == files[0] | {"./parts/a.jsonl", "./parts/b.jsonl", "./parts/c.json"}
    assert files[2] == files[3] == files[0]


PACKAGE = {
    "__init__.py": "",
    "method.py": """
from typing import Literal
from dataclasses import replace
from ixt_rl.methods import intro
class PackageStage(intro.IntroStage):
    type: Literal["packaged"]
SPEC = replace(intro.SPEC, type="packaged", stage=PackageStage, trainer="lab_package.trainer:Mine")
""",
    "trainer.py": "from lab_package.deep import maths\nfrom ixt_rl.trainers import InTROTrainer as Mine\n",
    "deep/__init__.py": "",
    "deep/maths.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package with a method, which imports itself by its whole name."""
    folder = tmp_path / "site-packages" / "lab_package"
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_package_s_method_is_known_by_its_modules_and_those_of_the_library_by_none(package):
    from importlib import import_module

    from ixt_rl.methods.registry import SPECS

    spec = import_module("lab_package.method").SPEC
    named = {name for module in modules_of(spec) for name in files_of(module)}
    assert {str(package / name) for name in PACKAGE} == named
    assert [modules_of(one) for one in SPECS] == [[] for _ in SPECS]


def test_a_file_has_one_name_whatever_the_import_path_is(place, monkeypatch):
    before = of(run(place))
    monkeypatch.syspath_prepend(str(place))
    assert changes(before, of(run(place))) == []


def test_an_installed_module_is_known_by_its_source():
    (file,) = files_of("ixt_rl.trainers.intro:InTROTrainer").values()
    assert file.name == "intro.py"
    assert files_of("openai:gpt") == {}
