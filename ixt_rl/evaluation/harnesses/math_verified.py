"""math-verify itself, and lighteval's metrics, which are its older twin."""

from __future__ import annotations

from typing import Any

from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict


def verified(text: str, gold: str) -> HarnessVerdict:
    """`verify(parse(gold), parse(text))` with the package's defaults."""
    from math_verify import parse, verify

    return _compared(parse(gold), parse(text), verify)


def math_verify(case: HarnessCase) -> HarnessVerdict:
    """The package as its page shows it: the gold answer in `$`."""
    return verified(case.text, case.gold if "$" in case.gold else f"${case.gold}$")


def lighteval(case: HarnessCase) -> HarnessVerdict:
    """lighteval 0.13: `expr_gold_metric` of gsm8k, else `pass_at_k_math`, which reads the gold from the solution.

    Its own copy of the reader is math-verify's of early 2025; here the installed one reads, with lighteval's settings.
    """
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    if case.suite == "gsm8k":
        golds = parse(f" {case.solution or case.gold}", [ExprExtractionConfig()])
        answers = parse(case.text, [ExprExtractionConfig(), LatexExtractionConfig(boxed_match_priority=0)])
        return _compared(golds or [case.gold], answers, verify, float_rounding=5)
    targets = [ExprExtractionConfig(), LatexExtractionConfig()]
    solution = case.solution if case.suite in ("math500", "math") else ""
    wanted = f"ANSWER: {solution}" if solution else case.gold if case.gold.isdigit() else f"${case.gold}$"
    golds, answers = parse(wanted.strip(), targets), parse(case.text.strip(), targets)
    return _compared(golds or [wanted], answers, verify)


def _compared(golds: list[Any], answers: list[Any], verify: Any, **settings: Any) -> HarnessVerdict:
    extracted = str(answers[-1]) if answers else None
    if verify(golds, answers, **settings):
        return HarnessVerdict(True, extracted, "math-verify: equal")
    said = (
        "math-verify: not equal" if answers and golds else "math-verify found no answer" if golds else "no gold found"
    )
    return HarnessVerdict(False, extracted, said)
