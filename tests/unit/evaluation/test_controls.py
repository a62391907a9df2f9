"""Told something else: shares, paired differences, lengths; and an engine that follows what it is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ixt_rl.blocks.data import FileDataBlock
from ixt_rl.evaluation.controls import as_data, gap_of, told_modes
from ixt_rl.evaluation.evaluate import EvaluationPlan, answer, modes_of
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Rollout

TOKENIZER = byte_tokenizer()


def table(shares, length, problems=200):
    """[Q, 1] values with these shares of 1, the same problems first, and one length."""
    found = {name: (np.arange(problems) < share * problems).astype(float)[:, None] for name, share in shares.items()}
    return {**found, "length": np.full((problems, 1), float(length))}


def test_differences_are_those_of_the_same_problems():
    values = {
        "greedy": table({"strict": 1.0}, 5),
        "sampled": table({"strict": 0.4, "checked": 0.6}, 10),
        "told": table({"strict": 0.8, "checked": 0.9}, 12),
        "told_wrong": table({"strict": 0.3, "checked": 0.2}, 12),
    }
    found = {one.mode: one for one in told_modes(values)}
    assert [*found] == ["sampled", "told", "told_wrong"]
    told = found["told"]
    assert told.shares["strict"].value == pytest.approx(0.8)
    assert told.shares["strict"].low < 0.8 < told.shares["strict"].high
    gap = told.over_plain["strict"]
    assert gap.value == pytest.approx(0.4) and 0.32 < gap.low < 0.4 < gap.high < 0.48
    assert found["told_wrong"].over_told["checked"].value == pytest.approx(-0.7)
    gained = gap_of(told_modes(values))
    assert gained == {"told/gap": gap.value, "told/gap_low": gap.low, "told/gap_high": gap.high}
    assert gap_of(told_modes({"sampled": values["sampled"]})) == {}
    assert told.longer.value == 2 and (told.longer.low, told.longer.high) == (2, 2)
    assert not found["sampled"].over_plain and not told.over_told
    assert json.loads(json.dumps(as_data(told_modes(values))))[1]["over_plain"]["strict"]["value"] == pytest.approx(0.4)


def test_undecided_is_in_no_share():
    values = {"sampled": table({"checked": 0.5}, 3, 4), "told": table({"checked": 1.0}, 3, 4)}
    values["told"]["checked"][:2] = np.nan
    found = {one.mode: one for one in told_modes(values)}
    assert found["told"].shares["checked"].count == 2
    assert found["told"].over_plain["checked"].value == pytest.approx(1.0)  # of the last two problems
    values["told"]["checked"][:] = np.nan
    nothing = {one.mode: one for one in told_modes(values)}["told"]
    assert nothing.shares["checked"].value is None and nothing.over_plain["checked"].value is None


class Follows:
    """Says the digit that the prompt shows last; `?` where it shows none."""

    policy_version = 0

    def generate(self, prompts, sampling, n=1, seeds=None):
        return [[self._rollout(tuple(prompt)) for _ in range(n)] for prompt in prompts]

    def _rollout(self, prompt):
        digits = [c for c in TOKENIZER.decode(prompt) if c.isdigit()]
        text = (digits or ["?"])[-1]
        ids = (*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id)
        return Rollout(prompt, ids, (0.0,) * len(ids), "eos", 0)


def judge(prompts, completions, answer, **_):
    return [float(text == gold) for text, gold in zip(completions, answer, strict=True)]


def test_a_model_that_follows_what_it_is_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    questions = [{"question": f"q{'abcdefghij'[i]}", "answer": str(i)} for i in range(10)]
    file.write_text("".join(json.dumps(row) + "\n" for row in questions))
    kinds = ("form", "random", "wrong")
    task = make_task(FileDataBlock(path=str(file), eval_rows=8), "math", judge, told=kinds)
    rows = task.eval_rows(8)
    modes = modes_of(TOKENIZER, rows, EvaluationPlan(4, samples=2), task.told_columns)
    answers = answer(Follows(), TOKENIZER, task, rows, modes)
    metrics = answers.metrics()
    assert metrics["sampled/checked"] == metrics["told_form/checked"] == metrics["told_wrong/checked"] == 0.0
    assert metrics["told/checked"] == 1.0
    assert metrics["told_random/checked"] == 0.0  # answers differ, all of them
    assert [one.mode for one in told_modes(answers.values)] == ["sampled", "told", *(f"told_{k}" for k in kinds)]
