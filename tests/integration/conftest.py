"""Reports without figures; a model on disk, and what one undisturbed engine samples, for tests of weight transfer."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from ixt_rl.pages.drawing import Drawing
from ixt_rl.report.figures.plotter import Plotter
from tests.integration.rollout_helpers import ENGINE, GROUP, LENGTH, PROMPTS, new_model, records, sampling, save


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes most of a small run's time. Runs of a module's fixtures have figures, as tests/unit/report has."""

    def named(plotter, fig, name, title, caption):
        return Drawing(name, title, caption, svg="")

    monkeypatch.setattr(Plotter, "save", named)


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
