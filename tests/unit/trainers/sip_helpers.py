"""A SIP trainer on a tiny model of the addition world, with scripted rollouts, a scripted rewriter and judges."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import SIPConfig, SIPTrainer
from ixt_rl.types import Candidate, Document, Verdict
from ixt_rl.worlds.addition.problem import AdditionProblem, right_rationale
from tests.unit.trainers.helpers import WORLD, ScriptedEngine, tiny

TOKENIZER = WORLD.tokenizer()


def prompts(count: int = 24) -> list[PrefixSuffix]:
    """Problems, and right rationales of one style as their suffixes."""
    out = []
    for number, row in enumerate(WORLD.rows("train", count, seed=0)):
        prefix = tuple(TOKENIZER(f"{row['question']} =")["input_ids"])
        out.append(PrefixSuffix(prefix, tuple(right_rationale(problem(prefix), "C", False)), f"p{number}"))
    return out


def suffix_stream() -> SuffixStream:
    """The same problems and suffixes, as documents that a stream cuts."""
    documents = [
        Document(TOKENIZER.decode(item.prefix_ids + item.suffix_ids, skip_special_tokens=True), key=item.key)
        for item in prompts()
    ]
    return SuffixStream(MemoryCorpus(documents, seed=0), TOKENIZER, suffix_tokens=len(prompts(1)[0].suffix_ids))


def problem(prefix: tuple[int, ...]) -> AdditionProblem:
    return AdditionProblem.parse(" ".join(map(str, prefix[1:7])))


def rewriter(items) -> list[Candidate | None]:
    """Copies one suffix in four, rewrites two, gives up on one."""
    out: list[Candidate | None] = []
    for item in items:
        kind = sum(item.prefix_ids) % 4
        ids = item.suffix_ids if kind == 0 else tuple(right_rationale(problem(item.prefix_ids), "V", False))
        out.append(None if kind == 3 else candidate("rewrite", ids))
    return out


def candidate(source: str, ids, score: float | None = None, judged: bool = False) -> Candidate:
    verdict = Verdict(score, "test") if judged or score is not None else None
    return Candidate(source, tuple(ids), TOKENIZER.decode(ids, skip_special_tokens=True), verdict)


def letters(prefix: str, text: str) -> float | None:
    """A score by text alone: some ties, some undecided."""
    value = sum(map(ord, text)) + len(prefix)
    return None if value % 11 == 0 else value % 5 / 4


def judge_by(score=letters):
    """A judge with a scoring function of (prefix, text)."""

    def judge(prefixes, originals, groups):
        assert len(prefixes) == len(originals) == len(groups)
        return [
            [replace(one, verdict=Verdict(score(prefix, one.text), "scripted")) for one in group]
            for prefix, group in zip(prefixes, groups, strict=True)
        ]

    return judge


def negated(prefix: str, text: str) -> float | None:
    score = letters(prefix, text)
    return None if score is None else 1 - score


def make_trainer(folder, model=None, *, data=None, trainer_class=SIPTrainer, engine=None, config=None, **parts):
    """`config`: options of `SIPConfig`; `parts`: arguments of the trainer. The engine is scripted, or None."""
    settings: dict[str, Any] = {
        "max_steps": 1, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "num_generations": 4,
        "max_completion_length": 34, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no",
        "logging_steps": 1, "disable_tqdm": True, "lr_scheduler_type": "constant", "gradient_checkpointing": False,
        "max_grad_norm": 0.0, "adam_epsilon": 1e-3, "seed": 1, "output_dir": str(folder),
    }  # fmt: skip
    args = SIPConfig(**{**settings, **(config or {})})
    engine = ScriptedEngine() if engine is None else engine
    rollouts = None if engine == "model" else EngineRollouts(engine, parity_limit=math.inf)
    if args.judged:
        parts.setdefault("judge", judge_by())
    if "rewrite" in args.sources:
        parts.setdefault("rewriter", rewriter)
    return trainer_class(model or tiny(), args, data or prompts(), TOKENIZER, rollouts=rollouts, **parts)


def update(trainer, count: int = 8) -> list[dict[str, Any]]:
    """The micro-batches of an update on the first `count` prompts."""
    size = trainer.args.per_device_train_batch_size
    items = prompts(count)
    batches = [items[i : i + size] for i in range(0, count, size)]
    return trainer.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))[0]


def loss_and_gradient(trainer, parts) -> tuple[float, torch.Tensor]:
    """Sum of the micro-batches' losses, and the flat gradient they accumulate."""
    trainer.model.zero_grad()
    total = 0.0
    for part in parts:
        loss = trainer.compute_loss(trainer.model, part)
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten().clone() for p in trainer.model.parameters() if p.grad is not None])


def logps(model, prefix, ids) -> torch.Tensor:
    """(T,) log-probs of a completion: one forward pass, full log-softmax."""
    logits = model(torch.tensor([[*prefix, *ids]])).logits[0, len(prefix) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
