"""A judge on a rollout engine: ids in, text out once; garbage ends as undecided."""

from __future__ import annotations

import json

import pytest

from ixt_rl.config.schema import NewModel
from ixt_rl.data.models import byte_tokenizer, new_model
from ixt_rl.judging import EngineBackend, Judge, Question, load_rubric
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

    def generate(self, prompts, sampling, n=1):
        self.calls.append(sampling)
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
    assert len({call.seed for call in engine.calls}) == len(engine.calls)  # other batches, other noise


def test_prompts_that_are_too_long_are_refused_and_do_not_stop_the_others():
    tokenizer = byte_tokenizer()
    engine = WritingEngine(tokenizer, lambda prompt: "Verdict: yes")
    judge = Judge(EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=2000), SamplingParams(50), patience=2)
    answers = judge.ask([question("x" * 3000), question(), *[question("y" * 4000)] * 3])
    assert [answer.verdict.score for answer in answers] == [None, 1, None, None, None]
    assert answers[0].verdict.evidence.startswith("refused: prompt too long:")
    assert (judge.tally.refused, judge.tally.repairs, len(engine.prompts)) == (4, 0, 1)


def test_a_model_that_writes_noise_decides_nothing():
    tokenizer = byte_tokenizer()
    model = new_model(NewModel(hidden_size=32, heads=2, intermediate_size=64, max_positions=4096), tokenizer).eval()
    engine = TransformersEngine(model, [tokenizer.eos_token_id], tokenizer.pad_token_id)
    judge = Judge(EngineBackend(engine, tokenizer, "noise", max_prompt_tokens=4000), SamplingParams(40, seed=0))
    web = load_rubric("web-text")
    answers = judge.ask([question("a"), Question(web, {"text": "b"})])
    assert all(answer.verdict.score is None and not answer.scores for answer in answers)
    assert judge.tally.repairs == 2
    assert sum(judge.tally.undecided.values()) == 1 + len(web.axes)
    assert json.dumps(judge.tally.undecided)
