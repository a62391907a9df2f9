"""What an import logs on its own stays off the screen, and nothing else does."""

from __future__ import annotations

import logging

import pytest

from ixt_rl.quiet import quiet_imports


@pytest.fixture
def loggers():
    found = [logging.getLogger("DeepSpeed"), logging.getLogger("bitsandbytes.backends.cpu.ops")]
    before = [(one.level, one.filters[:]) for one in found]
    yield found
    for one, (level, filters) in zip(found, before, strict=True):
        one.setLevel(level)
        one.filters[:] = filters


def test_notes_of_an_import_are_dropped_and_other_warnings_are_not(loggers):
    deepspeed, bitsandbytes = loggers
    heard: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    handler = Handler()
    for one in loggers:
        one.addHandler(handler)
    quiet_imports()
    quiet_imports()
    deepspeed.warning("Setting accelerator to CPU. If you have GPU or other accelerator, we were unable to detect it.")
    deepspeed.warning("loss scale is 0")
    bitsandbytes.warning("Failed to load a kernel: %s", "no module")
    bitsandbytes.error("wrong")
    for one in loggers:
        one.removeHandler(handler)
    assert heard == ["loss scale is 0", "wrong"]


def test_an_undecided_completion_is_none_of_trls_warnings(caplog):
    from ixt_rl.trainers.grpo import GRPOTrainer  # whose module has it

    assert GRPOTrainer
    logger = logging.getLogger("trl.trainer.grpo_trainer")
    with caplog.at_level(logging.WARNING):
        logger.warning(
            "All reward functions returned None for the following kwargs:\n{'prompt': 'a'}\nPlease ensure that"
        )
        logger.warning("something else")
    heard = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert heard == ["something else"]
