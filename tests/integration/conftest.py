"""What the tests of both kinds of weight transfer share: a model on disk, and what one undisturbed engine samples."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.integration.rollout_helpers import ENGINE, GROUP, LENGTH, PROMPTS, new_model, records, sampling, save


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> str:
    """A Llama with a tied head."""
    return save(new_model("tied llama"), tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder):
    """The trainer's copy of it, the test's to change."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def undisturbed(folder):
    """The records of `PROMPTS` that one engine in this process samples."""
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    engine = VLLMEngine(folder, **ENGINE)
    groups = engine.generate(PROMPTS, sampling(LENGTH), GROUP)
    engine.close()
    return records(groups)
