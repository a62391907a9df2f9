"""Constrained decoding for real: a random model on vLLM, in this process and in a pool, answers in its rubric's JSON"""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer

from ixt_rl.backends import is_installed
from ixt_rl.judging import EngineBackend, Judge, Question, load_rubric, parse_answer, shipped_rubrics
from ixt_rl.judging.rubric import Rubric
from ixt_rl.types import SamplingParams
from tests.integration.judge_model import ENGINE, save_judge

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed("vllm"), reason="vllm is not installed"),
]

FRACTION = Rubric.model_validate(
    {
        "name": "fraction",
        "fields": ["text"],
        "prompt": "{text} {axes} {answer_format}",
        "comment": "why",
        "axes": {"overall": {"asks": "all", "low": 0, "high": 1}},
    }
)
RUBRICS = [*map(load_rubric, shipped_rubrics()), FRACTION]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def engine(folder, tokenizer):
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    engine = VLLMEngine(folder, eos_ids=[tokenizer.eos_token_id], tokenizer=folder, **ENGINE)
    yield engine
    engine.close()


def backend(engine, tokenizer, batch_size=64) -> EngineBackend:
    return EngineBackend(engine, tokenizer, "tiny", batch_size=batch_size, max_prompt_tokens=3500, constrain=True)


def questions(rubric: Rubric, count: int) -> list[Question]:
    return [Question(rubric, {name: f"{name} {number}" for name in rubric.fields}) for number in range(count)]


SHORT = ("web-text", "pairwise-answers", FRACTION.name)  # a level, two texts, a fraction
LONG = pytest.mark.long(
    "tests/integration/test_constrained_judge.py::test_every_answer_that_ends_is_json_of_the_rubrics_schema"
)


@pytest.mark.parametrize("rubric", [pytest.param(r, id=r.name, marks=() if r.name in SHORT else LONG) for r in RUBRICS])
def test_every_answer_that_ends_is_json_of_the_rubrics_schema(engine, tokenizer, rubric):
    judge = Judge(backend(engine, tokenizer), SamplingParams(500, 1.0, seed=1))
    replies = [reply for answer in judge.ask(questions(rubric, 12)) for reply in answer.replies]
    ended = [reply for reply in replies if reply.finish == "stop"]
    assert len(ended) > len(replies) / 2, "too few answers ended for this test to mean much"
    for reply in ended:
        answer = json.loads(reply.text)
        assert list(answer) == [rubric.comment_key, *rubric.axes]
        for name, axis in rubric.axes.items():
            assert answer[name] in axis.labels if axis.labels else axis.low <= answer[name] <= axis.high
        assert parse_answer(reply.text, rubric).undecided == 0
    assert all(reply.finish == "length" for reply in replies if reply not in ended)


def test_without_the_schema_the_same_model_writes_none_of_it(engine, tokenizer):
    judge = Judge(EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=3500), SamplingParams(200, 1.0, seed=1))
    assert all(answer.verdict.score is None for answer in judge.ask(questions(load_rubric("web-text"), 8)))


def test_a_constrained_answer_does_not_depend_on_its_batch(engine, tokenizer):
    web, safety = load_rubric("web-text"), load_rubric("safety")
    mixed = [question for pair in zip(questions(web, 6), questions(safety, 6), strict=True) for question in pair]

    def texts(asked, batch_size):
        judge = Judge(backend(engine, tokenizer, batch_size), SamplingParams(300, 1.0, seed=5))
        return [answer.votes[0].replies[0].text for answer in judge.ask(asked)]

    together = texts(mixed, 64)
    assert len(set(together)) == 12
    assert [texts([question], 1)[0] for question in mixed[:4]] == together[:4]
    assert texts(mixed[::-1], 3)[::-1] == together


def test_logprobs_are_those_under_the_grammar(engine, tokenizer):
    """Why such answers are not for training: what the grammar forces has probability 1, whatever the policy thinks."""
    schema = json.dumps(load_rubric("safety").answer_schema())
    prompt = tokenizer("hello")["input_ids"]
    ((free,),) = engine.generate([prompt], SamplingParams(4, 1.0, seed=0))
    ((kept,),) = engine.generate([prompt], SamplingParams(400, 1.0, seed=0, json_schema=schema))
    forced = '{"reason": "'
    assert tokenizer.decode(kept.completion_ids).startswith(forced)
    assert kept.logprobs[: len(forced)] == pytest.approx([0.0] * len(forced), abs=1e-6)
    assert min(free.logprobs) < -0.1


@pytest.mark.long(
    "tests/integration/test_constrained_judge.py::test_a_constrained_answer_does_not_depend_on_its_batch",
    "tests/integration/test_ray_pool.py::test_two_engines_sample_what_one_does",
)
@pytest.mark.skipif(not is_installed("ray"), reason="ray is not installed")
def test_a_pool_constrains_and_seeds_as_one_engine_does(engine, folder, tokenizer):
    from ixt_rl.rollout.pool.ray_pool import RayPool

    web = load_rubric("web-text")
    expected = Judge(backend(engine, tokenizer), SamplingParams(300, 1.0, seed=2)).ask(questions(web, 8))
    pool = RayPool(folder, engines=1, eos_ids=[tokenizer.eos_token_id], tokenizer=folder, **ENGINE)
    try:
        assert pool.constrains
        found = Judge(backend(pool, tokenizer), SamplingParams(300, 1.0, seed=2)).ask(questions(web, 8))
    finally:
        pool.close()
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.scores for answer in found] == [answer.scores for answer in expected]
    assert any(answer.level for answer in found)
