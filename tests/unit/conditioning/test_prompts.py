"""Templates are data; a prompt becomes ids in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ixt_rl.conditioning import PromptTemplate, encode_prompt, load_template
from ixt_rl.conditioning.prompts import named_templates
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer
from tests.unit.conditioning.chats import CHATML, chat_tokenizer


@pytest.mark.parametrize("name", named_templates())
def test_named_templates_show_the_answer_only_when_told(name):
    plain, told = load_template(name, "math").render("QUESTION", "ANSWER")
    assert "ANSWER" not in str(plain)
    assert "QUESTION" in str(plain)
    assert "ANSWER" in str(told)
    assert "{" not in str(plain).replace("\\boxed{}", "").replace("{'role'", "").replace("}]", "").replace("[{", "")


def shipped_templates():
    """(name, prompt, told) of all in templates.yaml, and of those that stand in a run file of configs/."""
    for name in named_templates():
        template = load_template(name, "math")
        yield name, template.prompt, template.told
    for file in sorted((Path(__file__).parents[3] / "configs").rglob("*.yaml")):
        for stage in yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]:
            if isinstance(template := stage.get("template"), dict):
                yield file.stem, template["prompt"], template["told"]


@pytest.mark.parametrize(("name", "prompt", "told"), shipped_templates())
def test_plain_and_told_differ_only_by_what_tells_the_answer(name, prompt, told):
    """Text is put in at one place, and each sentence of it shows the answer."""
    start = next((i for i, (a, b) in enumerate(zip(prompt, told, strict=False)) if a != b), len(prompt))
    end = len(prompt) - start
    assert told.endswith(prompt[start:]) and len(told) > len(prompt)
    put_in = told[start : len(told) - end]
    sentences = [words for words in re.split(r"(?<=[.!?])\s+", put_in) if words.strip()]
    assert sentences and all("{answer}" in words for words in sentences)


def test_the_world_prompt_and_its_told_form(tokenizer):
    plain, told = load_template(None, "addition").render("1 2 3 4 5 6", "m2 1")
    assert tokenizer.decode(encode_prompt(tokenizer, plain)) == "<bos> 1 2 3 4 5 6 ="
    assert tokenizer.decode(encode_prompt(tokenizer, told)) == "<bos> 1 2 3 4 5 6 <told> m2 1 ="


def test_chat_prompts_go_through_the_chat_template():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.content }}>{% endfor %}{% if add_generation_prompt %}A{% endif %}"
    )
    plain, told = PromptTemplate("{question}?", "{question} ({answer})?", chat=True).render("2+2", "4")
    assert tokenizer.decode(encode_prompt(tokenizer, plain)) == "<2+2?>A"
    assert tokenizer.decode(encode_prompt(tokenizer, told)) == "<2+2 (4)?>A"


def test_unknown_template_names_are_refused():
    with pytest.raises(DataError, match="no template has that name"):
        load_template("maths", "math")


SHOTS = [{"question": "1+1", "answer": "2"}, {"question": "2+2", "answer": "4"}]


def test_a_chat_prompt_has_a_system_message_and_few_shot_turns():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    template = PromptTemplate("{question}?", "{question}? {answer}.", chat=True, system="Be brief.", examples=SHOTS)
    plain, told = template.render("3+3", "6")
    assert plain[-1] == {"role": "user", "content": "3+3?"} and told[-1]["content"] == "3+3? 6."
    assert plain[:-1] == told[:-1]
    assert tokenizer.decode(encode_prompt(tokenizer, plain)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_variables_of_the_chat_template_reach_it():
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    message = [{"role": "user", "content": "3+3?"}]
    thinking = encode_prompt(tokenizer, message)
    without = encode_prompt(tokenizer, message, None, {"enable_thinking": False})
    assert tokenizer.decode(without[len(thinking) :]) == "<think>\n\n</think>\n\n"
    assert encode_prompt(tokenizer, message, 3, {"enable_thinking": False}) == without[-3:]


def test_a_question_in_messages_keeps_what_was_said_before():
    said = [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    question = [*said, {"role": "user", "content": "c"}]
    plain, told = load_template("chat", "math").render(question, "4")
    assert plain == question
    assert told[:-1] == said and told[-1]["content"].startswith("c") and "4" in told[-1]["content"]
    other = PromptTemplate("{question}?", "{question} {answer}", system="T", examples=SHOTS[:1])
    shown, _ = other.render(question, ["4", "four"])
    assert [message["content"] for message in shown] == ["T", "1+1?", "2", "a", "b", "c?"]
    assert other.render(question, ["4", "four"])[1][-1]["content"] == "c 4"


def test_a_template_may_tell_any_column():
    template = PromptTemplate("{question} ({level})", "{question} ({level}) {critique}")
    row = {"question": "1+1?", "answer": "2", "level": 3, "critique": "Carry {nothing}.", "unused": None}
    assert template.render(row["question"], row["answer"], row) == ("1+1? (3)", "1+1? (3) Carry {nothing}.")


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}])
def test_a_column_that_is_no_text_does_not_become_one(value):
    with pytest.raises(DataError, match=r"hint=.*1\+1"):
        PromptTemplate("{question}", "{question} {hint}").render("1+1", "2", {"hint": value})
    with pytest.raises(DataError, match="hint=None"):
        PromptTemplate("{question}", "{question} {hint}").render("1+1", "2")


def test_the_plain_prompt_is_not_told_the_answer_by_the_row():
    with pytest.raises(DataError, match="not told the answer"):
        PromptTemplate("{question} {answer}", "{question} {answer}").render("1+1", "2", {"answer": "2"})
