"""An evaluation on a file: told beside plain, what is undecided beside what is not, and the gap that training needs."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from ixt_rl.blocks.data import FileDataBlock, WorldDataBlock
from ixt_rl.blocks.documents import DocumentEvaluationBlock
from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.conditioning import Conditioner, Conditioning, encode_prompt, row_ids
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import DataError, PreconditionError
from ixt_rl.evaluation.controls import gap_of, told_modes
from ixt_rl.evaluation.evaluate import Answers, EvaluationPlan, evaluate
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.report.samples import shown, verdict
from ixt_rl.run.stages import fitting
from ixt_rl.run.stages.documents import Evaluator
from ixt_rl.run.stages.evaluate import check_told_gap
from ixt_rl.types import Rollout

TOKENIZER = byte_tokenizer()


class Copies:
    """Answers `7` where the prompt shows one, else `?`; the second of two samples says nothing."""

    policy_version = 0

    def generate(self, prompts, sampling, n=1, seeds=None):
        said = ["7" if "7" in TOKENIZER.decode(prompt) else "?" for prompt in prompts]
        return [[self._rollout(tuple(p), "" if k else s) for k in range(n)] for p, s in zip(prompts, said, strict=True)]

    def _rollout(self, prompt, text):
        ids = (*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id)
        return Rollout(prompt, ids, (0.0,) * len(ids), "eos", 0)


def judge(prompts, completions, answer, **_):
    """Undecided where nothing is said."""
    return [float(text == gold) if text else None for text, gold in zip(completions, answer, strict=True)]


def measured(tmp_path, samples):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": f"q{i}", "answer": "7"}) + "\n" for i in range(6)))
    task = make_task(FileDataBlock(path=str(file), eval_rows=4), "math", judge)
    return evaluate(Copies(), TOKENIZER, task, task.eval_rows(4), EvaluationPlan(4, samples=samples))[0]


def test_a_file_is_answered_plain_and_told(tmp_path):
    metrics = measured(tmp_path, 1)
    assert (metrics["sampled/checked"], metrics["told/checked"]) == (0.0, 1.0)
    assert metrics["told/undecided"] == 0.0


def test_what_is_undecided_stands_beside_the_mean_and_bounds_it(tmp_path):
    metrics = measured(tmp_path, 2)
    assert metrics["told/checked"] == 1.0  # of the decided ones
    assert metrics["told/undecided"] == 0.5
    assert metrics["told/checked_lower"] == 0.5  # undecided as wrong


def gap(metrics, data, least=0.2):
    stage = EvaluateStage.model_validate(
        {"name": "gap", "type": "evaluate", "data": data, "sampling": {"max_new_tokens": 4}, "min_told_gap": least}
    )
    check_told_gap(stage, SimpleNamespace(final_metrics=lambda: metrics))


FILE = {"path": "some/problems", "eval_rows": 4}


def test_the_gap_is_checked_on_files_and_strict_in_worlds(tmp_path):
    gap({"told/checked": 0.9, "sampled/checked": 0.5, "told/gap": 0.4}, FILE)
    with pytest.raises(
        PreconditionError, match=r"told checked 0\.600, plain checked 0\.500, gap 0\.100 < min_told_gap=0\.2"
    ):
        gap({"told/checked": 0.6, "sampled/checked": 0.5, "told/gap": 0.1}, FILE)
    world = {"told/checked": 0.9, "sampled/checked": 0.5, "told/strict": 0.5, "sampled/strict": 0.4, "told/gap": 0.1}
    with pytest.raises(PreconditionError, match=r"told strict 0\.500"):
        gap(world, {"world": "addition"})


def test_a_gap_of_nothing_decided_stops_the_run():
    with pytest.raises(PreconditionError, match="no problem is decided both told and plain"):
        gap({"told/undecided": 1.0, "sampled/checked": 0.5}, FILE)


def test_the_gap_is_that_of_problems_decided_both_ways():
    """Told, the hard problem is undecided: the means are .5 apart, and each problem that has both answers is level."""
    values = {"sampled": {"checked": [[1.0], [0.0]]}, "told": {"checked": [[1.0], [math.nan]]}}
    answers = Answers({mode: {**_lengths(2), **_arrays(found)} for mode, found in values.items()}, [], [])
    metrics = {**answers.metrics(), **gap_of(told_modes(answers.values))}
    assert metrics["told/checked"] - metrics["sampled/checked"] == 0.5
    with pytest.raises(PreconditionError, match=r"gap 0\.000 < min_told_gap=0\.2"):
        gap(metrics, FILE)


def _lengths(problems):
    return {"length": np.ones((problems, 1))}


def _arrays(found):
    return {name: np.array(values) for name, values in found.items()}


def test_a_mean_is_that_of_its_interval_however_many_samples_are_decided():
    """One problem of four samples, of which one is decided, and one of four that are: .5 by problem, .2 by sample."""
    values = {"checked": [[1.0, math.nan, math.nan, math.nan], [0.0] * 4]}
    answers = Answers({"sampled": {**_arrays(values), "length": np.array([[1.0] * 4, [3.0] * 4])}}, [], [])
    assert answers.metrics() == {"sampled/checked": 0.5, "sampled/length": 2.0}
    assert answers.metrics()["sampled/checked"] == told_modes(answers.values)[0].shares["checked"].value


def test_a_sample_says_right_or_wrong_or_the_value_of_its_reward(tmp_path):
    values = [1.0, 0.0, -1.0, 0.25, None]

    def reward(prompts, completions, question, **_):
        return [values[int(asked.removeprefix("q"))] for asked in question]

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": f"q{i}", "answer": "7"}) + "\n" for i in range(6)))
    task = make_task(FileDataBlock(path=str(file), eval_rows=5), "math", reward)
    rows = [{**row, "question": f"q{i}"} for i, row in enumerate(task.eval_rows(5))]
    _, samples = evaluate(Copies(), TOKENIZER, task, rows, EvaluationPlan(4))
    assert [sample["checked"] for sample in samples] == [True, False, -1.0, 0.25, None]
    assert [verdict(sample) for sample in samples] == ["right", "wrong", "valued", "valued", "undecided"]
    assert shown(samples[2])["said"].startswith("reward -1, ")


# ------------------------------------------------------------------------------------ lengths


def run_file(tmp_path, positions, **sampling):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": "q" * (10 * i + 10), "answer": "7"}) + "\n" for i in range(7)))
    stage = {
        "name": "m", "type": "evaluate", "data": {"path": str(rows), "eval_rows": 6}, "sampling": sampling,
        "template": "plain",
    }  # fmt: skip
    model = {"new": {"tokenizer": "bytes", "max_positions": positions}}
    return RunConfig.model_validate({"name": "r", "model": model, "stages": [stage]})


@pytest.mark.parametrize("on_long", ["drop", "truncate"])
def test_prompts_leave_room_for_a_completion_in_the_models_positions(tmp_path, on_long):
    """Plain and told, decided before anything is sampled."""
    config = run_file(tmp_path, 48, max_new_tokens=8, on_long=on_long)
    (stage,) = config.stages
    section = fitting.with_room(stage.sampling, config.model)
    assert section.max_prompt_tokens == 40
    task = make_task(stage.data, stage.template)
    rows, audit = fitting.fitting(task, task.eval_rows(6), section, TOKENIZER)
    long = sum(len(TOKENIZER(row["told_prompt"])["input_ids"]) > 40 for row in task.eval_rows(6))
    assert 0 < long < 6
    assert len(rows) == (6 - long if on_long == "drop" else 6)
    assert (audit.dropped, audit.truncated) == ((long, 0) if on_long == "drop" else (0, long))
    for row in rows:  # what was measured goes along, so that nothing is encoded twice
        for name in ("prompt", "told_prompt"):
            assert row_ids(TOKENIZER, {**row, name: None}, name, 40) == encode_prompt(TOKENIZER, row[name], 40)
    strict = fitting.with_room(stage.sampling.model_copy(update={"on_long": "fail"}), config.model)
    with pytest.raises(DataError, match="the model's positions less max_new_tokens"):
        fitting.fitting(task, task.eval_rows(6), strict, TOKENIZER)


def test_problems_without_room_are_refused_before_documents_are_trained_on():
    section = DocumentEvaluationBlock(max_new_tokens=200)
    task = make_task(WorldDataBlock(world="chain"), None)
    trainer = SimpleNamespace(
        conditioner=Conditioner(TOKENIZER, Conditioning()),
        model=new_model(
            NewModelBlock(tokenizer="bytes", max_positions=201, layers=1, hidden_size=8, heads=1), TOKENIZER
        ),
    )
    with pytest.raises(DataError, match=r"problem 0 has \d+ tokens, with max_new_tokens=200"):
        Evaluator(section, task, trainer, TOKENIZER, None)
