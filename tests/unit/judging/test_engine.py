"""A judge on a rollout engine: ids in, text out once; garbage ends as undecided."""

from __future__ import annotations

import json

import pytest

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.errors import ConfigError
from ixt_rl.judging import EngineBackend, Judge, Question, load_rubric
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rollout import TransformersEngine
from ixt_rl.types import Rollout, SamplingParams

SAFETY = load_rubric("safety")
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>%s{% endif %}"
)


class WritingEngine:
    """An engine that writes what `write(prompt)` says, EOS at the end unless cut at the limit."""

    policy_version = 3

    def __init__(self, tokenizer, write):
        self.tokenizer, self.write = tokenizer, write
        self.prompts: list[str] = []
        self.calls: list[SamplingParams] = []
        self.seeds: list[int] = []

    def generate(self, prompts, sampling, n=1, seeds=None):
        self.calls.append(sampling)
        self.seeds += seeds or []
        return [[self._rollout(tuple(prompt), sampling)] for prompt in prompts]

    def _rollout(self, prompt, sampling):
        text = self.tokenizer.decode(prompt)
        self.prompts.append(text)
        ids = (*self.tokenizer(self.write(text), add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id)
        cut = len(ids) > sampling.max_new_tokens
        ids = ids[: sampling.max_new_tokens]
        return Rollout(prompt, ids, (0.0,) * len(ids), "length" if cut else "eos", 3)

    def update_weights(self, named_tensors, version):
        self.policy_version = version

    def close(self):
        raise AssertionError("the engine stays its owner's")


def question(words: str = "c") -> Question:
    return Question(SAFETY, {"prefix": "p", "continuation": words})


@pytest.mark.parametrize("opened", ["", "<think>\n"])
def test_chat_and_thinking(opened):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT.replace("%s", opened)
    draft = "Verdict: no\n</think>" if opened else "<think>Verdict: no</think>"
    engine = WritingEngine(tokenizer, lambda prompt: draft + "It is ü.\nVerdict: yes")
    judge = Judge(EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=10_000), SamplingParams(200))
    (answer,) = judge.ask([question()])
    judge.close()
    assert engine.prompts[0] == f"<user>{SAFETY.messages(question().fields)[0]['content']}<assistant>{opened}"
    assert answer.verdict.label == "yes"
    assert answer.judge == "tiny, weights 3"
    assert answer.text == ("<think>" if opened else "") + draft + "It is ü.\nVerdict: yes"
    written = len(tokenizer(draft + "It is ü.\nVerdict: yes", add_special_tokens=False)["input_ids"]) + 1
    assert answer.completion_tokens == written
    assert answer.prompt_tokens == len(tokenizer(engine.prompts[0], add_special_tokens=False)["input_ids"])
    assert answer.replies[0].finish == "stop" and answer.replies[0].seconds > 0


def test_variables_of_the_chat_template_reach_the_prompt_and_the_name():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT.replace("%s", "{% if enable_thinking is false %}<no>{% endif %}")
    engine = WritingEngine(tokenizer, lambda prompt: "Verdict: yes")
    options = {"enable_thinking": False}
    backend = EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=10_000, chat_template_kwargs=options)
    Judge(backend, SamplingParams(200)).ask([question()])
    assert engine.prompts[0].endswith("<assistant><no>")
    assert backend.name == "tiny, weights 3, enable_thinking=False"  # cached answers are those of this name


def test_thinking_that_the_prompt_opened_and_the_limit_cut():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT.replace("%s", "<think>")
    engine = WritingEngine(tokenizer, lambda prompt: "Verdict: no\n" * 50)
    (answer,) = Judge(EngineBackend(engine, tokenizer, "t", max_prompt_tokens=9999), SamplingParams(100)).ask(
        [question()]
    )
    assert answer.verdict.score is None
    assert answer.text.startswith("<think>Verdict: no")


def test_plain_text_repair_and_batches():
    tokenizer = byte_tokenizer()
    engine = WritingEngine(tokenizer, lambda prompt: "Verdict: no" if "could not be used" in prompt else "Well.")
    backend = EngineBackend(engine, tokenizer, "tiny", batch_size=4, max_prompt_tokens=10_000)
    judge = Judge(backend, SamplingParams(50, seed=1))
    answers = judge.ask(question(str(number)) for number in range(10))
    assert [answer.verdict.score for answer in answers] == [0] * 10
    assert judge.tally.repairs == judge.tally.repaired == 10
    assert len(engine.prompts) == 20
    assert engine.prompts[0].endswith("Verdict: <yes or no>\n")
    assert len(set(engine.seeds)) == 20  # other questions, other noise


def test_prompts_that_are_too_long_are_refused_and_do_not_stop_the_others():
    tokenizer = byte_tokenizer()
    engine = WritingEngine(tokenizer, lambda prompt: "Verdict: yes")
    judge = Judge(EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=2000), SamplingParams(50), patience=2)
    answers = judge.ask([question("x" * 3000), question(), *[question("y" * 4000)] * 3])
    assert [answer.verdict.score for answer in answers] == [None, 1, None, None, None]
    assert answers[0].verdict.evidence.startswith("refused: prompt too long:")
    assert (judge.tally.refused, judge.tally.repairs, len(engine.prompts)) == (4, 0, 1)


@pytest.fixture
def noise():
    """(engine on an untrained model, its tokenizer)."""
    tokenizer = byte_tokenizer()
    model = new_model(
        NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, max_positions=4096), tokenizer
    ).eval()
    return TransformersEngine(model, [tokenizer.eos_token_id], tokenizer.pad_token_id), tokenizer


def test_a_model_that_writes_noise_decides_nothing(noise):
    engine, tokenizer = noise
    judge = Judge(EngineBackend(engine, tokenizer, "noise", max_prompt_tokens=4000), SamplingParams(40, seed=0))
    web = load_rubric("web-text")
    answers = judge.ask([question("a"), Question(web, {"text": "b"})])
    assert all(answer.verdict.score is None and not answer.scores for answer in answers)
    assert judge.tally.repairs == 2
    assert sum(judge.tally.undecided.values()) == 1 + len(web.axes)
    assert json.dumps(judge.tally.undecided)


def test_a_sampled_answer_does_not_depend_on_its_batch(noise):
    """At temperature 1 the texts are noise, so that nothing but the seed can make two of them equal. In fp32 a
    token would change only where its number falls within about 1e-6 of a boundary."""
    engine, tokenizer = noise

    def texts(questions, batch_size, repeats=1, seed=0):
        backend = EngineBackend(engine, tokenizer, "noise", batch_size=batch_size, max_prompt_tokens=4000)
        judge = Judge(backend, SamplingParams(40, seed=seed), repeats=repeats)
        return [[vote.replies[0].text for vote in answer.votes] for answer in judge.ask(questions)]

    questions = [question("word " * number) for number in (3, 0, 11, 3, 7, 1)]
    ((alone,),) = texts(questions[:1], batch_size=1)
    whole = texts(questions, batch_size=16)
    assert whole[0] == whole[3] == [alone]  # equal questions too
    assert len({text for (text,) in whole}) == 5
    assert texts(questions, batch_size=2) == texts(questions[::-1], batch_size=16)[::-1] == whole
    assert texts(questions, batch_size=16, seed=1)[0] != whole[0]
    (votes,) = texts(questions[:1], batch_size=16, repeats=3)
    assert votes[0] == alone and len(set(votes)) == 3  # repeats are other samples


def test_constrained_answers_are_asked_for_as_json_under_the_rubrics_schema():
    tokenizer = byte_tokenizer()
    web = load_rubric("web-text")

    def write(prompt):
        safe = '{"reason": "fine", "verdict": "yes"}'
        return safe if '"verdict"' in prompt else json.dumps(dict.fromkeys(web.axes, 4))

    engine = WritingEngine(tokenizer, write)
    with pytest.raises(ConfigError, match="constrained judge tiny on WritingEngine"):
        EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=9999, constrain=True)
    engine.constrains = True
    backend = EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=9999, constrain=True)
    assert backend.constrained and not EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=9).constrained
    answers = Judge(backend, SamplingParams(200)).ask([question(), Question(web, {"text": "b"}), question("d")])
    assert [answer.level for answer in answers] == [5, 4, 5]
    assert answers[0].judge == "tiny, weights 3, constrained"
    # one call a rubric, each under its own schema
    assert [json.loads(call.json_schema) for call in engine.calls] == [SAFETY.answer_schema(), web.answer_schema()]
    assert all(SAFETY.answer_format(as_json=True) in prompt for prompt in engine.prompts[:2])
