"""The rules of lm-evaluation-harness 0.4.13, by task, written from what they do; it need not be installed.

    gsm8k           exact_match, strict-match      the number after `####`, the first one
                    exact_match, flexible-extract  the last number of the text
    minerva_math    exact_match                    after "Final Answer: The final answer is", spelled as Minerva's
                                                   authors do; the same text, or to sympy their difference is 0
                    math_verify                    math-verify finds and compares
    aime24, aime25  exact_match                    the box, or what stands between the first and the last `$`

Its minerva_math is MATH with Minerva's prompt; the 272 questions that others call minerva_math it does not have.
"""

from __future__ import annotations

import re

from ixt_rl.evaluation.harnesses.hendrycks_spelling import equal_spelling
from ixt_rl.evaluation.harnesses.math_verified import verified
from ixt_rl.evaluation.harnesses.minerva_spelling import normalized
from ixt_rl.evaluation.harnesses.sympy_latex import parse_latex
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict

GSM8K = ("gsm8k",)
MINERVA = ("math500", "math")
AIME = ("aime24", "aime25")
TASKS = (*GSM8K, *MINERVA, *AIME)

_STOPS = {
    **dict.fromkeys(GSM8K, ("Question:", "</s>", "<|im_end|>")),
    **dict.fromkeys(MINERVA, ("Problem:",)),
    **dict.fromkeys(AIME, ("Question:", "</s>", "<|im_end|>", "<|eot_id|>")),
}
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = (r",", r"\$", r"(?s).*#### ", r"\.$")
_PHRASE = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct.")
NOT_FOUND = "[invalid]"


def first_metric(case: HarnessCase) -> HarnessVerdict:
    """By the metric that a task's table has first: strict-match, or exact_match."""
    if case.suite in GSM8K:
        return _exact(_STRICT.findall(_cut(case))[:1], case.gold, "strict-match")
    if case.suite in MINERVA:
        return _minerva(_cut(case), case.gold)
    if case.suite in AIME:
        return _aime(_cut(case), case.gold)
    return _no_task(case)


def flexible(case: HarnessCase) -> HarnessVerdict:
    """gsm8k by flexible-extract."""
    if case.suite not in GSM8K:
        return _no_task(case)
    found = [first or second for first, second in _FLEXIBLE.findall(_cut(case))]
    return _exact(found[-1:], case.gold, "flexible-extract")


def by_math_verify(case: HarnessCase) -> HarnessVerdict:
    """minerva_math by its metric math_verify, which reads the gold from the solution."""
    if case.suite not in MINERVA:
        return _no_task(case)
    return verified(_cut(case), case.solution or f"$\\boxed{{{case.gold}}}$")


def _cut(case: HarnessCase) -> str:
    """The completion as far as the harness would have sampled it."""
    text = case.text
    for stop in _STOPS[case.suite]:
        text = text.partition(stop)[0]
    return text


def _no_task(case: HarnessCase) -> HarnessVerdict:
    return HarnessVerdict(None, None, f"no such metric of a task for {case.suite}")


def _exact(found: list[str], gold: str, metric: str) -> HarnessVerdict:
    answer, wanted = found[0].strip() if found else NOT_FOUND, gold
    for ignored in _IGNORED:
        answer, wanted = re.sub(ignored, "", answer), re.sub(ignored, "", wanted)
    why = f"{metric}: nothing found" if not found else f"{metric}: the same text" if answer == wanted else metric
    return HarnessVerdict(answer.lower() == wanted.lower(), found[0] if found else None, why)


def _minerva(text: str, gold: str) -> HarnessVerdict:
    found = _PHRASE.search(f"{text}I hope it is correct.")
    if found is None:
        return HarnessVerdict(False, None, "no `Final Answer: The final answer is ... I hope it is correct.`")
    answer, wanted = normalized(found[1].strip()), normalized(gold)
    if answer and answer == wanted:
        return HarnessVerdict(True, answer, "the same text")
    right, why = _simplifies(answer, wanted)
    return HarnessVerdict(right, answer, why)


def _simplifies(answer: str, gold: str) -> tuple[bool, str]:
    import sympy

    try:
        ours, theirs = parse_latex(answer), parse_latex(gold)
    except Exception as error:  # that harness counts whatever sympy raises as wrong
        return False, f"sympy cannot read both ({type(error).__name__})"
    try:
        return bool(sympy.simplify(ours - theirs) == 0), "sympy's difference"
    except Exception as error:  # likewise
        return False, f"sympy cannot subtract them ({type(error).__name__})"


def _aime(text: str, gold: str) -> HarnessVerdict:
    answer = text
    if text.count("$") > 1:
        answer = text[text.index("$") + 1 : text.rindex("$")]
    boxed = last_box(text)
    answer = answer if boxed is None else boxed
    return HarnessVerdict(
        equal_spelling(answer, gold), answer, "the same spelling" if boxed is None else "the last box"
    )


def last_box(text: str) -> str | None:
    """What the last box holds, as the authors of MATH look for it; None where there is none, or one in `\\fbox`."""
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if text[at] == "}" and depth == 0:
            inside = text[start : at + 1]
            return inside[7:-1] if inside.startswith("\\boxed{") else None
    return None
