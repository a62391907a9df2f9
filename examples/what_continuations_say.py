"""Where a SIP run's continuations have their names and numbers from: the prefix, the true text, or nowhere.

    .venv/bin/python examples/what_continuations_say.py runs/real-sip

One line a stage and seed, of the continuations that the last evaluation kept (`continuations.jsonl`), and one of the
true text. `grounded` counts what prefix or true text have, so a policy that says its prefix again is well grounded:
`new, true` counts what the prefix does not have. All are shares: `repeated` of 3-grams of words, `of the prefix` of all
names and numbers, `new` of all words, `new, true` of the new ones; means over texts that have some.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

from ixt_rl.files import read_rows
from ixt_rl.judging.programs import claims, repetition, support, words

COLUMNS = ("repeated", "grounded", "of the prefix", "new", "new, true")


def said(prefix: str, original: str, text: str) -> dict[str, float]:
    """The columns of one text; those that nothing can be said of are left out."""
    before, after = set(words(prefix)), set(words(original))
    new = [claim for claim in claims(text) if claim not in before]
    found = {
        "repeated": repetition(text),
        "grounded": support(text, prefix, original),
        "of the prefix": support(text, prefix),
        "new": len(new) / max(len(words(text)), 1),
        "new, true": sum(claim in after for claim in new) / len(new) if new else None,
    }
    return {column: value for column, value in found.items() if value is not None}


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
        rows = read_rows(file)
        name = f"{file.parent.parent.name}, {file.parent.name}"
        print(f"{name:24}" + "".join(f"{value:>15}" for value in line(rows, "text")))
    print(f"{'the true text':24}" + "".join(f"{value:>15}" for value in line(rows, "original")))


if __name__ == "__main__":
    main()
