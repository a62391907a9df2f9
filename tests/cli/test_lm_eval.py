"""`ixt-rl lm-eval`: its command, what it makes of results, its own environment; once with the real lm_eval."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.cli.lm_eval_job import rows_of
from ixt_rl.cli.main import main
from ixt_rl.errors import BackendMissing
from ixt_rl.evaluation import lm_eval_environment
from ixt_rl.evaluation.lm_eval_environment import lm_eval_python
from ixt_rl.models import byte_tokenizer, new_model

TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}} ="
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""

STAND_IN = """
import json, pathlib, sys
words = sys.argv[1:]
if "broken" in words:
    sys.exit(3)
out = pathlib.Path(words[words.index("--output_path") + 1]) / "model"
out.mkdir()
numbers = {"alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": "N/A"}
value = {"results": {"gsm8k": numbers}, "words": words}
(out / "results_2026.json").write_text(json.dumps(value))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model of bytes, a task of three rows, and a package that stands in for lm_eval."""
    place = tmp_path_factory.mktemp("place")
    tokenizer = byte_tokenizer()
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2, max_positions=512)
    new_model(spec, tokenizer).save_pretrained(place / "tiny")
    tokenizer.save_pretrained(place / "tiny")
    (place / "tasks").mkdir()
    rows = [{"question": f"{n} + 1", "answer": str(n + 1)} for n in range(3)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "tasks" / "sums.yaml").write_text(TASK.replace("DATA", str(place / "rows.jsonl")))
    for name, text in {"lm_eval/__main__.py": STAND_IN, "lm_eval-0.4.13.dist-info/METADATA": METADATA}.items():
        (place / "stand-in" / name).parent.mkdir(parents=True)
        (place / "stand-in" / name).write_text(text)
    return place


METADATA = "Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.4.13\n"


@pytest.fixture
def ixt_rl(place, monkeypatch):
    """Runs the command in the place, with the stand-in where a test names this interpreter."""

    def run(*words):
        monkeypatch.chdir(place)
        if "--python" in words:
            monkeypatch.setenv("PYTHONPATH", str(place / "stand-in"))
        done = CliRunner().invoke(main, ["lm-eval", *map(str, words)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


HERE = ("--python", sys.executable)


def test_words_become_the_command_and_numbers_a_table(ixt_rl, place):
    options = (
        "--limit",
        5,
        "--num-fewshot",
        0,
        "--batch-size",
        "auto",
        "--apply-chat-template",
        "--include-path",
        "tasks",
    )
    status, said = ixt_rl("tiny", "dtype=float32", "--tasks", "gsm8k,x", *options, *HERE, "--out", "out")
    assert status == 0, said
    assert next(line for line in said.splitlines() if line.startswith("gsm8k")).split() == [
        "gsm8k", "exact_match", "strict-match", "0.2500", "none"
    ]  # fmt: skip
    words = json.loads((place / "out/lm-eval/model/results_2026.json").read_text())["words"]
    args = f"pretrained={place / 'tiny'},dtype=float32"
    assert words == [
        "run", "--model", "hf", "--model_args", args, "--tasks", "gsm8k,x", "--log_samples",
        "--output_path", "out/lm-eval", "--limit", "5", "--num_fewshot", "0", "--batch_size", "auto",
        "--include_path", "tasks", "--apply_chat_template",
    ]  # fmt: skip
    kept = json.loads((place / "out/lm-eval.json").read_text())
    assert kept["versions"]["lm_eval"] == "0.4.13" and kept["command"][:3] == [sys.executable, "-m", "lm_eval"]
    assert kept["files"] == ["lm-eval/model/results_2026.json"] and isinstance(kept["seconds"], float)
    status, said = ixt_rl("tiny", "--tasks", "gsm8k", *HERE, "--out", "out")
    assert status == 2 and "name another folder" in said


def test_a_failure_of_lm_eval_is_one_of_the_command(ixt_rl, place):
    status, said = ixt_rl("tiny", "--tasks", "broken", *HERE, "--out", "failed")
    assert status == 1 and "lm_eval ended with status 3" in said and not (place / "failed/lm-eval.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("./nowhere", "--tasks", "x"), "./nowhere"),
        (("nobody/nothing", "--tasks", "x"), "the hub gave no model"),
        (("tiny", "float32", "--tasks", "x"), "KEY=VALUE"),
        (("tiny", "pretrained=other", "--tasks", "x"), "MODEL is that"),
        (("tiny", "a=b,c=d", "--tasks", "x"), "ends a value at a comma"),
        (("tiny", "--tasks", "x", "--python", "no-such-python"), "No such file"),
        (("tiny", "--tasks", "x", "--python", "/bin/echo"), "no Python that runs"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(ixt_rl, place, words, said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    status, found = ixt_rl(*words, "--out", "refused")
    assert status == 2 and said in found and not (place / "refused").exists() and not any(tmp_path.iterdir())


def test_numbers_of_tasks_and_groups_are_rows():
    raw = {
        "results": {
            "all": {"alias": "all", "acc,none": 0.5, "acc_stderr,none": 0.1},
            "one": {"name": "one", "sample_len": 4, "acc,none": 1, "acc_stderr,none": "N/A", "acc_norm,none": 0.75},
        },
        "n-shot": {"one": 5},
        "n-samples": {"one": {"original": 9, "effective": 4}},
    }
    rows = [tuple(row.values()) for row in rows_of(raw)]
    assert rows == [
        ("all", "acc", "none", 0.5, 0.1, None, None),
        ("one", "acc", "none", 1.0, None, 5, 4),
        ("one", "acc_norm", "none", 0.75, None, 5, 4),
    ]


def test_an_environment_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nmkdir $3\nfor n in 1 2 3 4 5 6 7; do echo line $n; done\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lm_eval_environment.sys, "executable", str(python))
    said = []
    with pytest.raises(BackendMissing, match=r"line 2\n(.*\n)+.*line 7\n.*PIP_INDEX_URL.*--python") as raised:
        lm_eval_python(said.append)
    assert "line 1\n" not in str(raised.value) and "about 400 MB" in said[0] and "--python" in said[0]
    assert [file.name for file in (tmp_path / "cache/ixt-rl").iterdir()] == ["lock"]


@pytest.mark.long(
    "tests/cli/test_lm_eval.py::test_a_failure_of_lm_eval_is_one_of_the_command",
    "tests/cli/test_lm_eval.py::test_an_environment_that_cannot_be_made_leaves_nothing",
)
def test_the_real_lm_eval_in_an_environment_made_for_it(ixt_rl, place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", "")
    words = ("tiny", "dtype=float32", "--tasks", "sums", "--include-path", "tasks", "--out", tmp_path / "out")
    status, said = ixt_rl(*words)
    if status == 2 and any(word in said for word in ("No matching distribution", "Could not find a version")):
        pytest.skip(f"no index with lm-eval[math] can be reached: {said[-300:]}")
    assert status == 0, said
    kept = json.loads((tmp_path / "out/lm-eval.json").read_text())
    (row,) = kept["results"]
    assert (row["task"], row["metric"], row["filter"], row["questions"]) == ("sums", "exact_match", "none", 3)
    (samples,) = [tmp_path / "out" / name for name in kept["files"] if name.endswith(".jsonl")]
    rights = [json.loads(line)["exact_match"] for line in samples.read_text().splitlines()]
    assert len(rights) == 3 and row["value"] == sum(rights) / 3
    assert kept["versions"]["antlr4-python3-runtime"] == "4.11.0" and kept["versions"]["lm_eval"] == "0.4.13"
    python = Path(kept["command"][0])
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    assert (own / "antlr4").is_dir() and not (own / "torch").exists() and not (own / "transformers").exists()
    math = "import lm_eval.tasks.minerva_math.utils as u; print(u.is_equiv('1/2', '\\\\frac{1}{2}'))"
    done = subprocess.run([python, "-c", math], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    made = [file.name for file in (tmp_path / "ixt-rl").iterdir()]
    assert sorted(made) == sorted(["lock", python.parents[1].name])
