"""Suites at work: rows of the public layouts, prompts of a preset, verdicts by the suite's rule.

suite + folder --find_rows--> rows --prompts_of--> prompts --engine--> texts --SuiteGrader--> verdicts
"""

from ixt_rl.evaluation.suites.grading import Graded, SuiteGrader
from ixt_rl.evaluation.suites.prompts import SuitePlan, plan_of, prompts_of
from ixt_rl.evaluation.suites.rows import SuiteRows, find_rows

__all__ = ["Graded", "SuiteGrader", "SuitePlan", "SuiteRows", "find_rows", "plan_of", "prompts_of"]
