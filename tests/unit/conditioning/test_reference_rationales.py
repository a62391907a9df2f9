"""SFT on reference rationales reads the very prompts that the RL stages show."""

from __future__ import annotations

import json

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, encode_prompt, load_template
from ixt_rl.data.document_source import DocumentSource, SourceReader
from ixt_rl.models import byte_tokenizer


@pytest.mark.parametrize("name", ["math", "math-boxed", "plain"])
def test_the_prompt_of_a_reply_is_that_of_a_rollout(tmp_path, name):
    question, rationale = "What is 3 + 4?", "3 + 4 is 7. The answer is 7."
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": question, "text": rationale}) + "\n")
    tokenizer, template = byte_tokenizer(), load_template(name, name)
    document = SourceReader(DocumentSource((str(file),), prompt="question", feedback=None, template=template)).next()
    (sequence,) = Conditioner(tokenizer, Conditioning())([document], 0)
    start = sequence.loss_mask.index(True)
    prompt, told = template.render(question, "7")
    assert list(sequence.input_ids[:start]) == encode_prompt(tokenizer, prompt)
    assert list(sequence.input_ids[:start]) != encode_prompt(tokenizer, told)
    assert tokenizer.decode(sequence.input_ids[start:], skip_special_tokens=True) == rationale
    assert all(sequence.loss_mask[start:])
