"""Pairs of real text and the same text spoiled, for configs/real/ixt-text.yaml: the rubric is a program.

    .venv/bin/python examples/spoiled_pairs.py data/wiki.jsonl runs

Articles (column `text`) are cut into passages of whole sentences. The prompt of a pair asks to go on from a passage;
its better reply is the passage that follows, its worse one the same with its words in another order, or with names and
numbers of other passages (`spoiled` says which). Both differ in their first 60 characters, so that a pair whose replies
are cut is one still. Pairs of whole articles go into `spoiled_unseen.jsonl`, the others into `spoiled_train.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from ixt_rl.corpus.examples.spoiled_passages import SPOILS, names, passages

KINDS = ("order", "names")
EARLY = 60


def pairs_of(article: int, text: str, characters: int, rng: random.Random, others: list[str]) -> list[dict]:
    """One row for every two passages of an article, spoiled one way and the other in turn."""
    found = passages(text, characters)
    rows = []
    for prompt, chosen in zip(found[::2], found[1::2], strict=False):
        kind = KINDS[len(rows) % len(KINDS)]
        row: dict = {"article": article, "prompt": f"Go on with this text: {prompt}", "chosen": chosen, "spoiled": kind}
        row["rejected"] = SPOILS[kind](chosen, rng, others)
        if row["rejected"] and row["rejected"][:EARLY] != chosen[:EARLY]:
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="articles as JSON lines: text")
    parser.add_argument("out", type=Path, help="folder that the two files go into")
    parser.add_argument("--train", type=int, default=320, help="pairs to train on (default: 320)")
    parser.add_argument("--unseen", type=int, default=96, help="pairs to measure, of other articles (default: 96)")
    parser.add_argument("--characters", type=int, default=120, help="of a passage, at least (default: 120)")
    parser.add_argument("--seed", type=int, default=2)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    articles = [json.loads(line)["text"] for line in given.file.open(encoding="utf-8") if line.strip()]
    others = [name for text in articles for name in names(text)]
    held = set(rng.sample(range(len(articles)), max(1, round(0.3 * len(articles)))))
    rows = [row for k, text in enumerate(articles) for row in pairs_of(k, text, given.characters, rng, others)]
    given.out.mkdir(parents=True, exist_ok=True)
    for name, unseen, wanted in (("spoiled_train", False, given.train), ("spoiled_unseen", True, given.unseen)):
        part = [row for row in rows if (row["article"] in held) is unseen]
        part = rng.sample(part, min(wanted, len(part)))
        if not part:
            raise SystemExit(f"{given.file}: no pair for {name}.jsonl; give more articles, or a smaller --characters")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (given.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{given.out / name}.jsonl: {len(part)} pairs of {len({row['article'] for row in part})} articles")


if __name__ == "__main__":
    main()
