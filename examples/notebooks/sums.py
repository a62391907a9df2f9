"""What the notebooks share: sums of three digits in two steps, `2+4+3=6+3 #### 9`, learned by a tiny model in seconds.

Their author is careless: a third of the steps are off by one, within a document in one direction. Where a document
begins with its answer, `9|2+4+3=6+3 #### 9`, every step is right. So a model of these documents is better when it is
told the answer, which is what InTRO needs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path("runs/notebooks")
CARELESS = 1 / 3
QUESTIONS = [f"{a}+{b}+{c}" for a in range(5) for b in range(5) for c in range(5)]


def answer(question: str) -> str:
    """The sum."""
    return str(sum(map(int, question.split("+"))))


def solution(question: str, rng: random.Random, careless: float) -> str:
    """Both steps, each off by one with probability `careless`; two errors never cancel."""
    a, b, c = map(int, question.split("+"))
    off = rng.choice((-1, 1))
    first = a + b + off * (rng.random() < careless)
    last = first + c + off * (rng.random() < careless)
    return f"{first}+{c} #### {last}"


def right_steps(question: str, written: str) -> int | None:
    """How many of the two steps are right; None where `written` has another form."""
    try:
        a, b, c = map(int, question.split("+"))
        step, last = written.split(" #### ")
        first, second = map(int, step.split("+"))
        return (first == a + b and second == c) + (int(last) == first + second)
    except ValueError:
        return None


def careless_document(rng: random.Random) -> str:
    """One that nobody told the answer."""
    question = rng.choice(QUESTIONS)
    return f"{question}={solution(question, rng, CARELESS)}"


def careful_document(rng: random.Random) -> str:
    """One that begins with its answer."""
    question = rng.choice(QUESTIONS)
    return f"{answer(question)}|{question}={solution(question, rng, 0)}"


def write_files(folder: Path = FOLDER) -> None:
    """`documents.jsonl`, half of them careful, and `problems.jsonl`."""
    rng = random.Random(0)
    makers = (careless_document, careful_document)
    write_rows(folder / "documents.jsonl", ({"text": rng.choice(makers)(rng)} for _ in range(6000)))
    write_rows(folder / "problems.jsonl", ({"question": q, "answer": answer(q)} for q in QUESTIONS))


def base_model() -> Path:
    """The model that was trained on the documents, of `first_run`."""
    return first_run() / "stages" / "base" / "seed1" / "model"


def first_run() -> Path:
    """Folder of the first notebook's run, which is made if it is not there."""
    folder = FOLDER / "sums"
    if not (folder / "report.html").exists():
        from ixt_rl.config.load import load_run
        from ixt_rl.run import run_config

        write_files()
        run_config(load_run(Path(__file__).with_name("sums.yaml")))
    return folder


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines; a file that says the same already is left as it is."""
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
