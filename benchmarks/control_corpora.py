"""What a teacher and a judge make of a world's documents, before any model learns from them: SIP's control corpora.

    .venv/bin/python benchmarks/control_corpora.py --out runs/control-corpora

Passages of a world in four ways, one text for each: as they are, as the teacher rewrites them, original or rewrite
chosen at random, and the better one by the judge that trains. The world's verifier says what is right. No model, no
rollouts. Writes control_corpora.json and control_corpora.md to --out.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import write

from ixt_rl.data.suffixes import PrefixSuffix
from ixt_rl.judging import CandidateJudge, FunctionBackend, Judge
from ixt_rl.judging.random_judge import RandomJudge
from ixt_rl.trainers.sip.changes import changes
from ixt_rl.trainers.sip.groups import Group, Proposed, merge
from ixt_rl.trainers.sip.metrics import verified
from ixt_rl.trainers.sip.objectives import OBJECTIVES
from ixt_rl.types import SOURCES, Candidate, SamplingParams
from ixt_rl.worlds import WORLDS

CORPORA = {
    "as they are": ("nll", ["original"]),
    "rewritten": ("sft-rewrite", ["rewrite"]),
    "chosen at random": ("rf-nll", ["original", "rewrite"]),
    "judged": ("rf-nll", ["original", "rewrite"]),
}
COLUMNS = {
    "verified/chosen": "right",
    "corpus/changed": "changed",
    "corpus/length": "length",
    "corpus/vocabulary": "vocabulary",
    "corpus/new_tokens": "new tokens",
    "errors/teacher_kept": "teacher keeps",
    "errors/teacher_made": "teacher makes",
    "errors/judge": "judge passes on",
}


def judge_of(world: Any, seed: int, chance: bool) -> Any:
    """The judge that trains in a world, all of its axes with equal weights; or one that reads nothing."""

    def asked(fields: Mapping[str, str]) -> Any:
        axis = "quality" if "a" in fields else "factuality" if "original" in fields else "safety"
        return world.judge_functions[axis](fields)

    if chance:
        return RandomJudge(seed)
    return CandidateJudge(
        Judge(FunctionBackend(asked, name="world"), SamplingParams(8)), dict.fromkeys(world.judge_functions, 1.0)
    )


def corpus(world: Any, name: str, args: argparse.Namespace) -> dict[str, float]:
    """Means by metric, and the share of prompts that are left."""
    objective, sources = CORPORA[name]
    teacher, tokenizer = world.rewriter(args.error, args.seed), world.tokenizer()
    passages = world.passages("train", args.passages, args.seed)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    groups = []
    for one in passages:
        texts = {"original": one.suffix, "rewrite": teacher(one.prefix, one.suffix)}
        made = [Proposed(Candidate(source, ids(texts[source]), texts[source])) for source in sources]
        groups.append(Group(ids(one.prefix), merge(made)))
    prefixes, originals = [one.prefix for one in passages], [one.suffix for one in passages]
    if len(sources) > 1:
        judge = judge_of(world, args.seed, name == "chosen at random")
        answers = judge(prefixes, originals, [[text.candidate for text in group.texts] for group in groups])
        groups = [group.judged(answer, args.seed) for group, answer in zip(groups, answers, strict=True)]
    examples = [OBJECTIVES[objective].example(group) for group in groups]
    right = [
        world.measure(one.prefix, one.suffix, text.candidate.text)["right"]
        for one, group in zip(passages, groups, strict=True)
        for text in group.texts
    ]
    items = [PrefixSuffix(group.prefix_ids, ids(one), "") for group, one in zip(groups, originals, strict=True)]
    values = {**changes(items, examples), **verified(groups, examples, right, SOURCES)}
    known = {metric: [one for one in values[metric] if not math.isnan(one)] for metric in COLUMNS}
    means = {metric: statistics.fmean(found) for metric, found in known.items() if found}
    return {"trained": sum(example is not None for example in examples) / len(examples), **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", default=["chain", "almanac"], choices=["chain", "almanac"])
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--error", type=float, default=0.5, help="share of the teacher's rewrites that are wrong")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    found = {world: {name: corpus(WORLDS[world](), name, args) for name in CORPORA} for world in args.worlds}
    table = [f"| world | corpus | trained | {' | '.join(COLUMNS.values())} |", "|---" * (3 + len(COLUMNS)) + "|"]
    for world, corpora in found.items():
        for name, means in corpora.items():
            cells = [f"{means[key]:.2f}" if key in means else "" for key in ("trained", *COLUMNS)]
            table.append(f"| {world} | {name} | {' | '.join(cells)} |")
    settings = {name: str(value) for name, value in vars(args).items()}
    write(args.out, "control_corpora", {"settings": settings, "corpora": found}, "\n".join(table))


if __name__ == "__main__":
    main()
