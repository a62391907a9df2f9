"""Evaluation asks for many completions at once: the values of one at a time, and a server that answers together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ixt_rl.blocks.data import FileDataBlock, PrefixDataBlock, ProblemMixtureBlock, WorldDataBlock
from ixt_rl.evaluation.evaluate import EvaluationPlan, evaluate
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.judging import EndpointBackend, FunctionBackend, Judge, JudgeReward, VerdictReward, load_rubric
from ixt_rl.judging.continuation import continuation_reward
from ixt_rl.models import byte_tokenizer
from ixt_rl.rewards import MathReward
from ixt_rl.rewards.calling import in_parts
from ixt_rl.rewriting import RewriteReward
from ixt_rl.run.stages.difficulty import _Judge
from ixt_rl.run.stages.rewards import Rewards, measuring
from ixt_rl.types import Rollout, SamplingParams
from tests.unit.data.files import write
from tests.unit.judging.server import serve
from tests.unit.run.test_names_and_judges import STYLE, stage_of

TOKENIZER = byte_tokenizer()
SAID = ["7", "", "A", "Verdict: A", r"\boxed{7}", "perhaps 7?", "<think>x</think>42", "COPY", "12\n#### 7", "42"]
ROWS = [{"question": f"q{n}", "answer": "7"} for n in range(2 * len(SAID))]
PART = 4


def judge() -> Judge:
    def rule(fields: Any) -> Any:
        """Of a pair the longer, of one text whether its length is odd; undecided where there is a question mark."""
        if any("?" in text for text in fields.values()):
            return None
        if "b" in fields:
            return "A" if len(fields["a"]) > len(fields["b"]) else "B"
        return len(fields.get("solution", fields.get("continuation", ""))) % 2 == 1

    return Judge(FunctionBackend(rule, "rule"), SamplingParams(50, temperature=0.0))


def own(prompts, completions, completion_ids, question, **columns):
    given = zip(question, completions, completion_ids, strict=True)
    return [None if "?" in text else len(asked + text) - 0.5 * len(ids) for asked, text, ids in given]


def of_chats(prompts, completions, **columns):
    given = zip(prompts, completions, strict=True)
    return [float(len(asked[0]["content"]) > len(said[0]["content"])) for asked, said in given]


def of_file(reward: Any, rows: list[dict[str, Any]] = ROWS, template: str | None = "math", **settings) -> Callable:
    def task(tmp_path) -> Task:
        data = {"path": write(tmp_path / "rows.jsonl", rows), "eval_rows": len(SAID), **settings}
        return make_task(FileDataBlock.model_validate(data), template, in_parts(reward, PART))

    return task


def of_math(**settings) -> Callable:
    def task(tmp_path) -> Task:
        data = FileDataBlock(path=write(tmp_path / "rows.jsonl", ROWS), eval_rows=len(SAID))
        return make_task(data, "math", MathReward(**settings))

    return task


def of_mixture(tmp_path) -> Task:
    paths = [write(tmp_path / f"{name}.jsonl", ROWS) for name in "ab"]
    sources = [{"path": path, "eval_rows": 5, "weight": 1.0} for path in paths]
    return make_task(ProblemMixtureBlock.model_validate({"sources": sources}), "math", in_parts(own, PART))


def of_prefixes(tmp_path) -> Task:
    texts = write(tmp_path / "texts.jsonl", [{"text": f"{n} is followed by 42"} for n in range(2 * len(SAID))])
    data = PrefixDataBlock.model_validate({"path": texts, "suffix_tokens": 2, "eval_rows": len(SAID)})
    return make_task(data, None, in_parts(continuation_reward(1), PART), TOKENIZER)


def of_world(name: str) -> Callable:
    return lambda tmp_path: make_task(WorldDataBlock(world=name), None, tokenizer=TOKENIZER)


VERDICTS = [{**row, "answer": "AB"[n % 2]} for n, row in enumerate(ROWS)]
SUFFIXES = [{**row, "prefix": "Once", "suffix": "A", "original": "7", "good": n % 2 == 0} for n, row in enumerate(ROWS)]
CHATS = [{**row, "question": [{"role": "user", "content": "q" * (1 + n % 9)}]} for n, row in enumerate(ROWS)]

TASKS = {
    "python": of_file(own),
    "chats": of_file(of_chats, CHATS, None),
    "math": of_math(),
    "math with a third opinion": of_math(judge=lambda asked, golds, said: [len(one) > 4 for one in said]),
    "judge": of_file(JudgeReward(judge(), load_rubric("verifier"))),
    "verdict": of_file(VerdictReward(load_rubric("pairwise-quality"), unreadable=None), VERDICTS),
    "rewrite": of_file(
        RewriteReward(judge(), unreadable=None), SUFFIXES, columns=["prefix", "suffix", "original", "good"]
    ),
    "mixture": of_mixture,
    "prefixes": of_prefixes,
    "world of ids": of_world("addition"),
    "world of text": of_world("word-problems"),
}


@pytest.mark.parametrize("kind", TASKS)
def test_values_are_those_of_one_at_a_time(kind, tmp_path):
    task = TASKS[kind](tmp_path)
    rows = [row for row in task.eval_rows(10) for _ in SAID]
    texts = [*SAID] * (len(rows) // len(SAID))
    right = {"world of text": "12\n#### {answer}", "prefixes": "<think>x</think>{answer}"}.get(kind)
    if right is not None:
        texts[::3] = [right.format(answer=row["answer"]) for row in rows[::3]]
    ids = [TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in texts]
    if kind == "world of ids":
        ids = [[(n * k) % 12 for k in range(n % 6)] for n in range(len(rows))]
    together = task.measure(rows, ids, texts)
    alone = [task.measure([row], [one], [text])[0] for row, one, text in zip(rows, ids, texts, strict=True)]
    assert together == alone
    if kind != "world of ids":
        assert len({one["checked"] for one in together}) > 1, "it tells completions apart"


# ------------------------------------------------------------------------------------ a judge on a server


class Says:
    """One of `SAID` to each prompt, in their order."""

    policy_version = 0

    def generate(self, prompts, sampling, n=1, seeds=None):
        return [[self._rollout(tuple(p), SAID[at % len(SAID)])] * n for at, p in enumerate(prompts)]

    def _rollout(self, prompt, text):
        ids = (*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id)
        return Rollout(prompt, ids, (0.0,) * len(ids), "eos", 0)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A step of which has four samples."""
    changes = ["stages.rl.rollouts_per_step=4", "stages.rl.group_size=4", "stages.rl.reward_errors.deadline_s=60"]
    return stage_of(tmp_path, monkeypatch, "intro", [STYLE], changes)


def by_four() -> Callable[..., str]:
    """Answers four questions at once, or none."""
    four = threading.Barrier(PART)

    def respond(body, number):
        four.wait(30)
        return json.dumps({"reason": "", "verdict": "correct"})

    return respond


def test_a_server_is_asked_for_as_many_at_once_as_in_training(stage, tmp_path):
    with serve(by_four()) as served:
        backend = EndpointBackend(served.endpoint(retries=0, constrain=False, deadline=30))
        reward = JudgeReward(Judge(backend, SamplingParams(50, temperature=0.0)), load_rubric("verifier"))
        file = FileDataBlock(path=write(tmp_path / "eight.jsonl", ROWS), eval_rows=8)
        task = make_task(file, "math", measuring(stage, [reward], tmp_path / "failures.jsonl"))
        metrics, samples = evaluate(Says(), TOKENIZER, task, task.eval_rows(8), EvaluationPlan(9, keep_samples=5))
        backend.close()
    assert (len(served.bodies), served.most_under_way) == (3 * 8, PART)
    assert metrics["greedy/undecided"] == 0.0
    assert [sample["checked"] for sample in samples] == [True] * 5
    assert not (tmp_path / "failures.jsonl").exists()


def test_one_that_fails_leaves_the_values_of_the_others(stage, tmp_path):
    sizes = []

    def reward(prompts, completions, **columns):
        sizes.append(len(completions))
        if "COPY" in completions:
            raise ValueError("no copies")
        return [float(len(text)) for text in completions]

    file = FileDataBlock(path=write(tmp_path / "ten.jsonl", ROWS), eval_rows=10)
    task = make_task(file, "math", measuring(stage, [reward], tmp_path / "failures.jsonl"))
    metrics, samples = evaluate(Says(), TOKENIZER, task, task.eval_rows(10), EvaluationPlan(9, keep_samples=10))
    expected = [None if text == "COPY" else float(len(text)) for text in SAID]
    assert [sample["checked"] for sample in samples] == [bool(x) if x in (0.0, 1.0) else x for x in expected]
    decided = [value for value in expected if value is not None]
    assert metrics["greedy/checked"] == pytest.approx(sum(decided) / 9)
    assert (metrics["greedy/undecided"], metrics["greedy/checked_lower"]) == (0.1, pytest.approx(sum(decided) / 10))
    assert sizes == [4, 4, 1, 1, 1, 1, 2] * 3, "its own part alone is asked again"
    failed = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(row["completion"], row["message"]) for row in failed] == [("COPY", "no copies")] * 3


def test_rates_of_problems_are_asked_for_in_the_same_parts(stage, tmp_path):
    sizes = []

    def reward(prompts, completions, **columns):
        sizes.append(len(completions))
        return [float(text == "7") for text in completions]

    rows = of_file(reward)(tmp_path).eval_rows(5)
    groups = Says().generate([[1]] * len(rows), None, 3)
    found = _Judge(stage, Rewards([reward], [], None), tmp_path, TOKENIZER)(rows, groups, 0)
    assert [row["right"] for row in found] == [3, 0, 0, 0, 0]
    assert sizes == [4, 4, 4, 3]
