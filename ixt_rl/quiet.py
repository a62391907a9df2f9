"""What other libraries say on their own, where nobody who runs a job can do anything about it."""

from __future__ import annotations

import logging


def quiet_imports() -> None:
    """Silences what is logged by a mere import, before it happens.

    DeepSpeed says on machines without an accelerator that there is none; bitsandbytes, on CPUs, that it has not found a
    kernel of the hub, which runs would not use (docs/adapters.md). Both are imported wherever they are installed.
    """
    logging.getLogger("DeepSpeed").addFilter(_about_more_than_the_cpu)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def quiet_transformers() -> None:
    """transformers warns of nothing and draws no bars: progress is the run's own to show."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def quiet_undecided() -> None:
    """TRL shows the whole row of a completion that no reward decides, every generation, as if that were a fault. Here
    it is a verdict, excluded and counted (`rollout/undecided`)."""
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(_about_more_than_undecided)


def _about_more_than_the_cpu(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Setting accelerator to CPU")


def _about_more_than_undecided(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("All reward functions returned None")
