"""The child process that does the open-ended part of the math reward. Imports no torch.

    task (JSON) --> exact: the rules of compare.py with 120-digit arithmetic --> sent at once
                --> second: math-verify, unless the answer stays open anyway   --> sent when done

The parent kills the process when a task exceeds its deadline; nothing in here has to be trusted to stop.
Run by `math_pool.py` as `python -m ixt_rl.rewards.math_worker TASKS_FD RESULTS_FD MEMORY_MB`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from ixt_rl.rewards import numeric
from ixt_rl.rewards.answers import clean
from ixt_rl.rewards.compare import compare
from ixt_rl.rewards.golds import parse_gold

SECOND_LIMIT_S = 1
"""math-verify's own time limit for each of its two parses and its comparison: a slow one then ends by
itself, and the worker lives."""


def exact_check(gold: str, answer: str) -> dict[str, Any]:
    """The rules with high-precision arithmetic: {"right": bool or None, "reason", "settled"}."""
    decision = compare(parse_gold(gold), answer, numeric.equal, numeric.proportional)
    return {"right": decision.right, "reason": decision.reason, "settled": decision.settled}


def second_check(gold: str, answer: str) -> dict[str, Any]:
    """math-verify's verdict, and whether a right one was confirmed without its float tolerance.

    It is given nothing but the answer between `$` fences, so that it cannot pick another part of the text.
    """
    from math_verify import verify

    gold_parsed, answer_parsed = (_parse(text) for text in (gold, answer))
    if not gold_parsed or not answer_parsed:
        return {"right": None, "confirmed": False}
    right = verify(gold_parsed, answer_parsed, timeout_seconds=SECOND_LIMIT_S)
    read_all = _reads_all_numbers(answer, answer_parsed[0]) and _reads_all_numbers(gold, gold_parsed[0])
    return {"right": right, "confirmed": right and read_all and _identical(gold_parsed[0], answer_parsed[0])}


def _parse(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    fenced = f"${clean(text).replace('⟦', '').replace('⟧', '')}$"
    return parse(fenced, [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=SECOND_LIMIT_S)


def _reads_all_numbers(text: str, parsed: Any) -> bool:
    """Whether every number of the text is in what was parsed: a partial parse proves nothing."""
    return set(re.findall(r"\d+", text)) <= set(re.findall(r"\d+", str(parsed)))


def _identical(a: Any, b: Any) -> bool:
    """Exact equality of two sympy objects; False when it cannot be shown."""
    import sympy

    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        difference = (a - b).doit()
        if difference.free_symbols:
            return bool(sympy.simplify(difference) == 0)
        coarse, fine = (abs(sympy.N(difference, digits, maxn=1000)) for digits in (60, 120))
        return bool(fine == 0 or fine <= coarse * sympy.Float(10) ** -40)
    if isinstance(a, sympy.FiniteSet | sympy.Tuple) and isinstance(b, sympy.FiniteSet | sympy.Tuple):
        return len(a.args) == len(b.args) and all(map(_identical, a.args, b.args))
    return bool(a == b)


def serve(tasks: Connection, results: Connection) -> None:
    """Answer tasks until the parent closes the pipe or sends null."""
    results.send_bytes(b'{"ready": true}')
    while True:
        try:
            task = json.loads(tasks.recv_bytes())
        except EOFError:
            return
        if task is None:
            return
        # The parent's deadline is the limit; this one, kept by the kernel even while a big-integer
        # power holds the interpreter, ends an orphan whose parent was killed.
        signal.setitimer(signal.ITIMER_PROF, 2 * task["deadline_s"] + 1)
        exact = _guarded(exact_check, task)
        results.send_bytes(json.dumps({"stage": "exact", **exact}).encode())
        open_for_good = exact["right"] is None and exact.get("settled", False)
        second = {"right": None} if open_for_good else _guarded(second_check, task)
        results.send_bytes(json.dumps({"stage": "second", **second}).encode())
        signal.setitimer(signal.ITIMER_PROF, 0)


def _guarded(check: Any, task: dict[str, Any]) -> dict[str, Any]:
    try:
        return check(task["gold"], task["answer"])
    except MemoryError:
        return {"right": None, "error": "out of memory"}
    except RecursionError:
        return {"right": None, "error": "nested too deeply"}
    except Exception as error:  # whatever sympy raises on odd input is this task's result, not our end
        return {"right": None, "error": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    """Limit memory, import everything once, then serve."""
    tasks_fd, results_fd, memory_mb = (int(arg) for arg in sys.argv[1:4])
    limit = memory_mb * 2**20
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ValueError, OSError):  # macOS refuses; the deadline still holds
        print(f"no memory limit of {memory_mb} MB on this system", file=sys.stderr)
    logging.disable(logging.CRITICAL)
    import math_verify  # noqa: F401  # slow to import: before "ready", outside every deadline

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parent reads errors of the start only
    tasks, results = Connection(tasks_fd, writable=False), Connection(results_fd, readable=False)
    serve(tasks, results)


if __name__ == "__main__":
    main()
