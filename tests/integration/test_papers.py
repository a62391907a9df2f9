"""The run files of papers (configs/papers): all is there, plans are what is written, two updates of each stage run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.config.load import load_run, resolved
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.config.shipped import names, shipped
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.online import OnlineStage
from ixt_rl.models import new_model
from ixt_rl.planning.devices import GIB, machine
from ixt_rl.planning.plan import plan_run
from ixt_rl.run import run_config
from tests.unit.conditioning.chats import CHATML, chat_tokenizer

PAPERS = [name for name in names() if name.startswith("papers/")]
SAME_STAGES = ("papers/sip-continued", "papers/sip-scratch")  # as sip-ablation's
MANY_STAGES = ("papers/intro-candidates",)  # that differ in a number
DOCS = Path(__file__).resolve().parents[2] / "docs" / "papers.md"

PYTHON = """
def right(completions, **_):
    return [float(number % 2) for number, _ in enumerate(completions)]


def judge(fields):
    if "a" in fields:
        a, b = len(fields["a"]), len(fields["b"])
        return "tie" if a == b else "A" if a > b else "B"
    return "no" if "original" in fields else "yes"  # no hallucination; safe


def rewrite(fields):
    return "and so on."
"""


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_written_of_machines_is_what_the_planner_says(name):
    paper = load_run(name).paper
    assert paper.machines
    for written in paper.machines:
        model = [f"model.path={written.model}"] if written.model else []
        plans = plan_run(load_run(name, [*model, *written.overrides]), machine(written.gpus, written.strategy))
        assert [plan.misfits for plan in plans if plan.misfits] == []
        found = [plan for plan in plans if plan.planned]
        assert max(plan.peak for plan in found) / GIB == pytest.approx(written.gib, rel=0.01)
        assert sum(plan.device_hours for plan in found) == pytest.approx(written.gpu_hours, rel=0.02)


def test_every_model_of_a_table_has_a_machine():
    for name in PAPERS:
        paper = load_run(name).paper
        assert {row.model for row in paper.rows} == {written.model for written in paper.machines}, name


def test_tables_are_whole():
    table = load_run("papers/intro-table1").paper
    models = {row.model for row in table.rows}
    assert len(models) == 5
    for model in models:
        methods = [row.method for row in table.rows if row.model == model]
        assert sorted(methods) == ["GPG", "GRPO", "InTRO", "RAFT++", "SFT", "base"]
    candidates = load_run("papers/intro-candidates")
    said = {row.stage: row.expected["average"] for row in candidates.paper.rows}
    found = {stage.intro.candidates: said[stage.name] for stage in candidates.stages}
    assert found == {1: 20.1, 2: 24.4, 5: 24.9, 10: 25.6, 20: 25.0, 40: 23.8}


def test_the_page_has_every_row():
    page = DOCS.read_text(encoding="utf-8")
    for name in PAPERS:
        assert f"configs/{name}.yaml" in page
        for row in load_run(name).paper.rows:
            assert row.method in page, (name, row.method)
            assert all(f"{value:g}" in page or f"{value:.1f}" in page for value in row.expected.values()), row
        for written in load_run(name).paper.machines:
            assert f"{written.gib:g}" in page, (name, written)


def test_a_row_of_no_stage_is_refused(tmp_path):
    text = shipped("papers/intro-candidates").path.read_text().replace("stage: n40,", "stage: n400,")
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InvalidConfig, match=r"(?s)n400.*did you mean `n40`"):
        load_run(tmp_path / "run.yaml")


def test_a_run_without_a_paper_says_nothing_of_it():
    assert "paper" not in resolved(load_run("intro/math"))


# ---------------------------------------------------------------------------------------- two updates, scaled down


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with a model of one layer that has a chat template, data of each kind, a reward, a judge, a rewriter."""
    folder = tmp_path_factory.mktemp("papers")
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    block = NewModelBlock(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_positions=512)
    new_model(block, tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    math = [
        {"problem": f"{i} + {i}?", "solution": f"It is \\boxed{{{2 * i}}}.", "level": f"Level {1 + i % 5}"}
        for i in range(40)
    ]
    documents = [
        {
            "text": f"the number after {i} is {i + 1}, and everyone likes it", "prompt": f"after {i}?",
            "feedback_level": 1 + i % 5, "feedback_scores": {"correctness": 1.0}, "feedback_critique": "short",
            "feedback_judge": "me", "feedback_tokens": 9,
        }
        for i in range(40)
    ]  # fmt: skip
    for name, rows in {"math": math, "documents": documents, "held": documents[::3]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "mine.py").write_text(PYTHON, encoding="utf-8")
    return folder


def overrides(stage: Any, small: Path) -> dict[str, Any]:
    """What makes a stage small; its method, objective and sources stay those of the file."""
    asked = {"model": f"python:{small / 'mine.py'}:judge", "options": {}, "repeats": 1}
    found: dict[str, Any] = {}
    if stage.type == "evaluate" or isinstance(stage, OnlineStage):
        found |= {"data.path": small / "math.jsonl", "data.eval_rows": 4}
        found |= {"sampling.max_new_tokens": 6, "sampling.max_prompt_tokens": 96}
    if isinstance(stage, OnlineStage):
        found |= {"rollouts_per_step": 8, "micro_batch_size": 4, "evaluation": {"every": 2, "problems": 2}}
        found["rewards"] = [{"type": "python", "path": f"{small / 'mine.py'}:right"}]
    elif isinstance(stage, DocumentStage):
        rows = "math" if stage.data.sources[0].prompt == "problem" else "documents"
        found |= {"data.sources.0.path": small / f"{rows}.jsonl", "packing.capacity": 128}
        found |= {"batch_size": 4, "micro_batch_size": 2}
    elif stage.type == "sip":
        found |= {
            "data.sources.0.path": small / "documents.jsonl",
            "evaluation.data.sources.0.path": small / "held.jsonl",
        }
        for at in ("data", "evaluation.data"):
            found |= {f"{at}.suffix_tokens": 8, f"{at}.max_prefix_tokens": 24}
        found |= {
            "sampling.max_new_tokens": 8,
            "sampling.max_prompt_tokens": 24,
            "batch_size": 4,
            "micro_batch_size": 2,
        }
        found |= {"judge_patience": 0, "evaluation.every": 2, "evaluation.prefixes": 2, "evaluation.curve_prefixes": 2}
        found |= {f"evaluation.judge.{key}": value for key, value in asked.items()}
        if stage.judge is not None:
            found |= {f"judge.{key}": value for key, value in asked.items()}
        if stage.rewriter is not None:
            found |= {"rewriter.model": f"python:{small / 'mine.py'}:rewrite", "rewriter.options": {}}
        if stage.group_size == 16:
            found["group_size"] = 3
    if stage.type != "evaluate":
        found |= {"steps": 2, "checkpoint_every": None}
    return {f"stages.{stage.name}.{key}": value for key, value in found.items()}


def written(values: dict[str, Any]) -> list[str]:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    return [f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}" for key, value in plain.items()]


def scaled_down(name: str, small: Path, tmp_path: Path, *only: str) -> None:
    """Runs the file as it is but for model, data, who is asked, and sizes; of its stages all, or `only` some."""
    changed: dict[str, Any] = {
        "model.path": small / "model", "model.dtype": "float32", "engine.type": "transformers",
        "output_dir": tmp_path, "name": "small", "threads": 1,
    }  # fmt: skip
    for stage in load_run(name).stages:
        changed |= overrides(stage, small)
    config = load_run(name, written(changed))
    if only:
        config = config.model_copy(update={"stages": [stage for stage in config.stages if stage.name in only]})
    folder = run_config(config)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for stage in (stage for stage in config.stages if stage.type != "evaluate"):
        mine = [row for row in rows if row["stage"] == stage.name and row["phase"] == "train"]
        assert max(row["step"] for row in mine) == 2, stage.name
        assert (folder / "stages" / stage.name / "seed1" / "model" / "config.json").is_file()


@pytest.fixture
def no_report(monkeypatch):
    """A run's report has tests of its own, and takes longer than all else here."""
    monkeypatch.setattr("ixt_rl.report.build.build_report", lambda folder: folder)


@pytest.mark.parametrize(
    ("name", "stage"), [("intro-candidates", "n5"), ("ixt-sft", "critiques"), ("sip-scratch", "rf-nll")]
)
def test_two_updates_of_a_stage_of_each_paper(name, stage, small, tmp_path, no_report):
    scaled_down(f"papers/{name}", small, tmp_path, stage)


LONG = pytest.mark.long("tests/integration/test_papers.py::test_two_updates_of_every_stage")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG if name in (*SAME_STAGES, *MANY_STAGES) else ()) for name in PAPERS]
)
def test_two_updates_of_every_stage(name, small, tmp_path, no_report):
    scaled_down(name, small, tmp_path)
