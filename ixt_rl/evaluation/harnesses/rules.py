"""The harnesses by name, with the rule of each."""

from __future__ import annotations

from collections.abc import Callable

from ixt_rl.evaluation.harnesses import lm_eval
from ixt_rl.evaluation.harnesses.math_verified import lighteval, math_verify
from ixt_rl.evaluation.harnesses.qwen_math import qwen_math
from ixt_rl.evaluation.harnesses.ruled import mathruler
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict

RULES: dict[str, Callable[[HarnessCase], HarnessVerdict]] = {
    "qwen25-math": qwen_math,
    "lm-eval": lm_eval.first_metric,
    "lm-eval-flexible": lm_eval.flexible,
    "lm-eval-math-verify": lm_eval.by_math_verify,
    "lighteval": lighteval,
    "math-verify": math_verify,
    "mathruler": mathruler,
}
