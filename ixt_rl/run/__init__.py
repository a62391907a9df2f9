"""Runs: from a validated config to a run folder with models, rows, samples, a summary and a report."""

from __future__ import annotations

from ixt_rl.run.pipeline import run_config, stage_seeds

__all__ = ["run_config", "stage_seeds"]
