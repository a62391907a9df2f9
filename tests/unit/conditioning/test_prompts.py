"""Templates are data; a prompt becomes ids in one way."""

from __future__ import annotations

import pytest

from ixt_rl.conditioning import PromptTemplate, encode_prompt, load_template
from ixt_rl.conditioning.prompts import named_templates
from ixt_rl.data.models import byte_tokenizer
from ixt_rl.errors import DataError


@pytest.mark.parametrize("name", named_templates())
def test_named_templates_show_the_answer_only_when_told(name):
    plain, told = load_template(name, "math").render("QUESTION", "ANSWER")
    assert "ANSWER" not in str(plain)
    assert "QUESTION" in str(plain)
    assert "ANSWER" in str(told)
    assert "{" not in str(plain).replace("\\boxed{}", "").replace("{'role'", "").replace("}]", "").replace("[{", "")


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
