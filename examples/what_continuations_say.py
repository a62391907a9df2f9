"""Where a SIP run's continuations have their names and numbers from: the prefix, the true text, or nowhere.

    .venv/bin/python examples/what_continuations_say.py runs/real-sip

One line a stage and seed, of the continuations that the last evaluation kept (`continuations.jsonl`), and one of the
true text. `grounded` counts what prefix or true text have, so a policy that says its prefix again is well grounded:
`new, true` counts what the prefix does not have. All are shares: `repeated` of 3-grams of words, `of the prefix` of all
names and numbers, `new` of all words, `new, true` of the new ones; means over texts that have some.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

from ixt_rl.judging.programs import claims, repetition, words

COLUMNS = ("repeated", "grounded", "of the prefix", "new", "new, true")


def said(prefix: str, original: str, text: str) -> dict[str, float]:
    """The columns of one text; those that nothing can be said of are left out."""
    before, after, made = set(words(prefix)), set(words(original)), claims(text)
    new = [claim for claim in made if claim not in before]
    found = {"repeated": repetition(text), "new": len(new) / max(len(words(text)), 1)}
    if made:
        found["grounded"] = sum(claim in before | after for claim in made) / len(made)
        found["of the prefix"] = 1 - len(new) / len(made)
    if new:
        found["new, true"] = sum(claim in after for claim in new) / len(new)
    return found


def line(rows: list[dict[str, str]], of: str) -> list[str]:
    """The means of the columns over rows, of their `text` or `original`."""
    found = [said(row["prefix"], row["original"], row[of]) for row in rows]
    values = [[one[column] for one in found if column in one] for column in COLUMNS]
    return [f"{mean(some):.3f}" if some else "-" for some in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with stages of type sip")
    run = parser.parse_args().run
    files = sorted(run.glob("stages/*/seed*/continuations.jsonl"))
    if not files:
        parser.error(
            f"{run} has no stages/*/seed*/continuations.jsonl: it is no run of SIP's, or has no evaluation yet"
        )
    print(f"{'':24}" + "".join(f"{column:>15}" for column in COLUMNS))
    for file in files:
        rows = [json.loads(row) for row in file.read_text(encoding="utf-8").split("\n") if row]
        name = f"{file.parent.parent.name}, {file.parent.name}"
        print(f"{name:24}" + "".join(f"{value:>15}" for value in line(rows, "text")))
    print(f"{'the true text':24}" + "".join(f"{value:>15}" for value in line(rows, "original")))


if __name__ == "__main__":
    main()
