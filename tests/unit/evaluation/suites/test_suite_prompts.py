"""Prompts of the presets are the harness's texts, byte for byte, where the harness writes its chat out by hand."""

from __future__ import annotations

import pytest

from ixt_rl.evaluation.suites import plan_of, prompts_of
from ixt_rl.evaluation.suites.prompts import hint
from ixt_rl.suites import load_preset, load_suite
from ixt_rl.suites.suite import SuiteShot

ROW = {"question": "What is {x} in $\\{1\\}$?", "answer": "2"}
ASK = "Please reason step by step, and put your final answer within \\boxed{}."


def chatml(prompt) -> str:
    """Messages as ChatML, the template of Qwen2.5's models."""
    if isinstance(prompt, str):
        return prompt
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in prompt)
    return turns + "<|im_start|>assistant\n"


TEXTS = {
    "qwen25-math-cot": f"<|im_start|>system\n{ASK}<|im_end|>\n<|im_start|>user\n"
    f"{ROW['question']}<|im_end|>\n<|im_start|>assistant\n",
    "qwen-boxed": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    f"{ROW['question']}\n{ASK}<|im_end|>\n<|im_start|>assistant\n",
    "cot": f"Question: {ROW['question']}\nAnswer:",
    "paper": f"{ROW['question']}\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_of_a_prompt(name):
    (prompt,) = prompts_of(load_suite("math500"), load_preset(name), [ROW])
    assert chatml(prompt) == TEXTS[name]


SHOTS = [SuiteShot(question=f"q{n}", answer=f"a{n}") for n in range(7)]


def test_worked_examples_of_a_chat_stand_in_one_user_message():
    suite = load_suite("mmlu_stem")
    (prompt,) = prompts_of(suite, load_preset("qwen25-math-cot"), [ROW], SHOTS)
    shown = "".join(f"q{n}\na{n}\n\n" for n in range(5))
    assert prompt[1]["content"] == shown + ROW["question"] and len(prompt) == 2
    (prompt,) = prompts_of(suite, load_preset("cot"), [ROW], SHOTS)
    assert prompt == "".join(f"Question: q{n}\nAnswer: a{n}\n\n\n" for n in range(5)) + TEXTS["cot"]
    assert prompts_of(load_suite("gsm8k"), load_preset("cot"), [ROW], SHOTS) == [TEXTS["cot"]]


def test_examples_that_are_missing_are_said():
    plan = plan_of(load_suite("mmlu_stem"), load_preset("qwen25-math-cot"))
    assert any("shows 5 worked examples, and the suite has 0" in note for note in plan.notes([]))
    assert not any("the suite has" in note for note in plan.notes(SHOTS))


@pytest.mark.parametrize(
    ("gold", "text"),
    [("yes", " (Yes or No)"), ("False", " (True or False)"), (r"\text{No}", " (Yes or No)"), ("12", ""), (["yes"], "")],
)
def test_the_harness_hints_at_the_kind_of_gold(gold, text):
    assert hint(gold) == text
    row = {"question": "q", "answer": gold}
    assert prompts_of(load_suite("tabmwp"), load_preset("cot"), [row]) == [f"Question: q{text}\nAnswer:"]
    assert prompts_of(load_suite("tabmwp"), load_preset("paper"), [row]) == ["q\n"]


def test_sampling_is_the_presets_but_for_what_a_suite_has_of_its_own():
    plan = plan_of(load_suite("amc23"), load_preset("paper"))
    assert (plan.samples, plan.sampling.temperature, plan.sampling.top_p) == (32, 0.6, 0.95)
    plan = plan_of(load_suite("amc23"), load_preset("qwen25-math-cot"))
    assert (plan.samples, plan.sampling.temperature, plan.sampling.max_new_tokens) == (1, 0.0, 2048)
    assert plan_of(load_suite("amc23"), load_preset("cot")).sampling.stop == ("\n\nQuestion:",)
