"""IXT on real text: feedback by a late-stage judge on early-stage text against that by a matched judge.

    .venv/bin/python benchmarks/late_judge.py --data articles.jsonl --out runs/late-judge

Every passage of the articles (column `text`) stands as it is, or is spoiled by code: its words in another order, its
numbers and names those of other passages, a sentence said three times. Both judges are rubrics by code. The late one
has read everything: it compares a passage with the text that it was made of. The matched one is about as far as the
model is: it sees words and repetitions, neither order nor facts. Small models are trained from scratch on the same
passages with either's levels, with the late one's moved to other passages, without any, and on what the late one calls
best.

Measured: nats a token of held-out passages as they are, asked for the best (level 5) and for nothing; feedback does
not count. Paired differences over passages to plain training, of the mean over seeds. Writes late_judge.json and
late_judge.md to --out.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import write
from stream import train_tokenizer

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.corpus.examples.spoiled_passages import SPOILS, names, passages, sentences
from ixt_rl.models import new_model
from ixt_rl.trainers import IXTConfig, IXTTrainer
from ixt_rl.types import Document, Feedback

BEST = Feedback(5)
ARMS = ("plain", "late", "matched", "shuffled", "best only")


def corpus(texts: list[str], clean: float, seed: int) -> list[tuple[str, str]]:
    """(as it stands in the corpus, the passage that it was made of); a share of `clean` is as it was."""
    rng = random.Random(seed)
    others = [name for text in texts for name in names(text)]
    makers = list(SPOILS.values())
    return [(text if rng.random() < clean else rng.choice(makers)(text, rng, others) or text, text) for text in texts]


def late(text: str, original: str) -> Feedback:
    """5: as it was. 3: words said too often. 2: other words. 1: another order."""
    if text == original:
        return BEST
    said, meant = Counter(text.split()), Counter(original.split())
    return Feedback(1 if said == meant else 2 if meant - said else 3)


def matched(text: str, original: str) -> Feedback:
    """5, or 3 where a sentence comes again; order and facts are beyond it, and so is `original`."""
    said = sentences(text)
    return Feedback(3 if len({*said}) < len(said) else 5)


def documents(arm: str, made: list[tuple[str, str]], seed: int) -> list[Document]:
    """What an arm trains on, with the feedback that it sees; several passes over the best alone."""
    if arm == "plain":
        return [Document(text) for text, _ in made]
    judge = matched if arm == "matched" else late
    found = [Document(text, feedback=judge(text, original)) for text, original in made]
    if arm == "best only":
        return [replace(one, feedback=None) for one in found if one.feedback == BEST]
    if arm == "shuffled":
        moved = random.Random(seed).sample([one.feedback for one in found], len(found))
        return [replace(one, feedback=said) for one, said in zip(found, moved, strict=True)]
    return found


def losses(trainer: IXTTrainer, texts: list[str], feedback: Feedback | None) -> list[float]:
    """Of each passage, the mean negative log-likelihood of its tokens and its end, in nats."""
    found = []
    for text in texts:
        prompt = trainer.conditioner.prompt("", feedback)
        (sequence,) = trainer.conditioner([Document(text, feedback=feedback)], first=0)
        ids = torch.tensor([sequence.input_ids])
        with torch.no_grad():
            logp = trainer.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        taken = logp.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
        found.append(-float(taken.mean()))
    return found


def trained(arm: str, made: list[tuple[str, str]], tokenizer: Any, args: argparse.Namespace, seed: int) -> IXTTrainer:
    size = {"hidden_size": 128, "layers": 3, "heads": 4, "intermediate_size": 384, "init_std": 0.08}
    torch.manual_seed(seed)
    model = new_model(NewModelBlock(architecture="qwen3", max_positions=1024, **size), tokenizer)
    template = None if arm in ("plain", "best only") else "levels"
    settings = IXTConfig(
        output_dir=tempfile.mkdtemp(), max_steps=args.steps, max_length=256, per_device_train_batch_size=8,
        learning_rate=2e-3, warmup_steps=args.steps // 20, lr_scheduler_type="linear", weight_decay=0.05, seed=seed,
        feedback_template=template, feedback_dropout=0.1, report_to="none", use_cpu=True, bf16=False,
        save_strategy="no", disable_tqdm=True, logging_steps=50,
    )  # fmt: skip
    trainer = IXTTrainer(model, settings, documents(arm, made, seed), tokenizer)
    trainer.train()
    trainer.model.eval()
    return trainer


def paired(one: list[float], other: list[float]) -> tuple[float, float]:
    """Mean difference over passages, and its standard error."""
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    return statistics.fmean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--clean", type=float, default=0.25, help="share of passages that stand as they are")
    parser.add_argument("--length", type=int, default=500, help="characters of a passage")
    parser.add_argument("--held-out", type=int, default=200)
    args = parser.parse_args()

    articles = [json.loads(line)["text"] for line in args.data.open(encoding="utf-8") if line.strip()]
    texts = [piece for article in articles for piece in passages(article, args.length)]
    random.Random(0).shuffle(texts)
    held, texts = texts[: args.held_out], texts[args.held_out :]
    tokenizer = train_tokenizer(texts, 2048)
    found: dict[str, list[list[float]]] = {}
    for seed in args.seeds:
        made = corpus(texts, args.clean, seed)
        for arm in ARMS:
            trainer = trained(arm, made, tokenizer, args, seed)
            shows = trainer.conditioner.conditioning.template is not None
            for asked, feedback in {"nothing": None, **({"best": BEST} if shows else {})}.items():
                found.setdefault(f"{arm}, asked for {asked}", []).append(losses(trainer, held, feedback))
    means = {name: [statistics.fmean(one) for one in zip(*seeds, strict=True)] for name, seeds in found.items()}
    plain = means["plain, asked for nothing"]
    rows = {name: (statistics.fmean(one), *paired(one, plain)) for name, one in means.items()}
    table = ["| arm | nats a token | beside plain, ± standard error over passages |", "|---|---|---|"]
    table += [f"| {name} | {loss:.3f} | {gap:+.4f} ± {error:.4f} |" for name, (loss, gap, error) in rows.items()]
    settings = {name: str(value) for name, value in vars(args).items()}
    write(args.out, "late_judge", {"settings": settings, "passages": len(texts), "losses": means}, "\n".join(table))


if __name__ == "__main__":
    main()
