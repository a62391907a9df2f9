"""Checkers of mathematical answers side by side, on cases by kind and on generated wrong answers.

    .venv/bin/python benchmarks/answers.py                         # the table, printed
    .venv/bin/python benchmarks/answers.py --write docs/rewards.md --wrong 20000 --out runs/answers

- Cases: tests/unit/rewards/answers.yaml, (gold, answer) right or wrong, by kind. Each cell is right answers accepted /
  right answers, and wrong answers accepted (`+3!`) where there are any.
- Wrong answers: those of tests/unit/rewards/near_wrong.py; how many each checker accepts.
- ixt-rl: `verify`; undecided is not accepted. math-verify 0.9.0: `verify(parse(gold), parse(answer))`, both in `$`.
  mathruler 0.1.0: `grade_answer` (pip install mathruler pylatexenc; left out where it is missing). Qwen2.5-Math: its
  harness's rules (docs/harnesses.md), on the answer in a box.
- A checker that raises, or takes more than two seconds of CPU time, has not accepted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ixt_rl.evaluation.harnesses import HarnessCase  # noqa: E402
from ixt_rl.evaluation.harnesses.qwen_math import qwen_math  # noqa: E402
from ixt_rl.rewards import verify  # noqa: E402
from tests.unit.rewards.near_wrong import slips  # noqa: E402

CASES = ROOT / "tests" / "unit" / "rewards" / "answers.yaml"
BEGIN, END = "<!-- answers.py: begin -->", "<!-- answers.py: end -->"
LIMIT_S = 2.0
"""CPU time of one comparison, seconds."""
Checker = Callable[[str, str], bool]
"""(gold, answer) -> accepted."""


def ours(gold: str, answer: str) -> bool:
    return verify(answer, gold).score == 1.0


def math_verify(gold: str, answer: str) -> bool:
    from math_verify import parse
    from math_verify import verify as compare

    return bool(compare(parse(f"${gold.strip('$')}$"), parse(f"${answer.strip('$')}$")))


def by_mathruler(gold: str, answer: str) -> bool:
    from mathruler.grader import grade_answer

    return bool(grade_answer(answer, gold))


def qwen(gold: str, answer: str) -> bool:
    return qwen_math(HarnessCase("math500", f"\\boxed{{{answer}}}", gold)).right is True


def checkers() -> dict[str, Checker]:
    found: dict[str, Checker] = {"ixt-rl": ours, "math-verify 0.9.0": math_verify}
    if importlib.util.find_spec("mathruler") and importlib.util.find_spec("pylatexenc"):
        found["mathruler 0.1.0"] = by_mathruler
    else:
        print("mathruler and pylatexenc are not installed: left out", file=sys.stderr)
    found["Qwen2.5-Math's rules"] = qwen
    for name, checker in found.items():  # imports, outside of the limit
        assert checker(r"\frac{1}{2}", "0.5"), name
    return found


def accepts(checker: Checker, gold: str, answer: str) -> bool:
    if checker is ours:
        return checker(gold, answer)

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        return checker(gold, answer)
    except Exception:  # whatever a checker raises, it has not accepted
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page with the table's marks, whose table is replaced")
    parser.add_argument("--wrong", type=int, default=0, help="generated wrong answers")
    parser.add_argument("--out", type=Path, help="folder for answers.json: every verdict that is not as it should be")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    kinds: dict[str, dict[str, list[list[str]]]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    found = checkers()
    missed: dict[str, list[list[str]]] = {name: [] for name in found}
    lines = ["| kind | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    totals = {name: [0, 0, 0, 0] for name in found}
    for kind, cases in kinds.items():
        cells = []
        for name, checker in found.items():
            right, wrong = cases.get("right", []), cases.get("wrong", [])
            accepted = [accepts(checker, *case) for case in right]
            rewarded = [accepts(checker, *case) for case in wrong]
            missed[name] += [["refused", kind, *case] for case, ok in zip(right, accepted, strict=True) if not ok]
            missed[name] += [["accepted", kind, *case] for case, ok in zip(wrong, rewarded, strict=True) if ok]
            counts = sum(accepted), len(right), sum(rewarded), len(wrong)
            totals[name] = [a + b for a, b in zip(totals[name], counts, strict=True)]
            cells.append(_cell(*counts))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines.append("| **all** | " + " | ".join(f"**{_cell(*totals[name])}**" for name in found) + " |")
    if args.wrong:
        lines.append(_generated(found, args.wrong, missed))
    table = "\n".join(lines)
    print(table)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        args.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "answers.json").write_text(json.dumps(missed, ensure_ascii=False, indent=1), encoding="utf-8")


def _cell(accepted: int, right: int, rewarded: int, wrong: int) -> str:
    return f"{accepted} of {right}, {rewarded} of {wrong} wrong"


def _generated(found: dict[str, Checker], count: int, missed: dict[str, list[list[str]]]) -> str:
    cells = []
    for name, checker in found.items():
        start, accepted = time.perf_counter(), 0
        for kind, slip, gold, answer in slips(count):
            if accepts(checker, gold, answer):
                accepted += 1
                missed[name].append(["accepted", f"{kind}: {slip}", gold, answer])
        print(f"{name}: {accepted} of {count} accepted, {time.perf_counter() - start:.0f} s", file=sys.stderr)
        cells.append(f"{accepted} of {count:,} wrong")
    return "| generated wrong answers | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
