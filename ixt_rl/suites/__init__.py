"""Benchmarks as data: a suite a file (fields, gold, grading, samples), a preset a file (prompt, sampling). No torch."""

from ixt_rl.suites.load import (
    load_preset,
    load_suite,
    preset_names,
    shipped_preset,
    shipped_suite,
    suite_names,
)
from ixt_rl.suites.preset import Preset
from ixt_rl.suites.suite import Suite, SuiteSetting

__all__ = [
    "Preset",
    "Suite",
    "SuiteSetting",
    "load_preset",
    "load_suite",
    "preset_names",
    "shipped_preset",
    "shipped_suite",
    "suite_names",
]
