"""What other harnesses say of a completion, by their own rules.

completion, gold --RULES[name], in a child process with the harness's time limit--> HarnessVerdict
"""

from ixt_rl.evaluation.harnesses.table import HARNESSES, Harness, harness, verdict_as, verdicts_as
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict

__all__ = ["HARNESSES", "Harness", "HarnessCase", "HarnessVerdict", "harness", "verdict_as", "verdicts_as"]
