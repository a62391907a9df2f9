"""A synthetic run on documents: three arms over three seeds, with a known ratio of FLOPs."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

import yaml

PARAMETERS, JUDGE, STEPS, EVERY, PER_STEP = 400_000, 400_000, 600, 50, 1_000
WISHES = {"best": 5, "worst": 1, "none": None}


@dataclass(frozen=True)
class Arm:
    """How an arm learns: score = top (1 - exp(-trained tokens / pace)), and what its config says."""

    top: float
    pace: float
    judged: float = 0.0  # judged tokens for each trained one
    block: dict = field(default_factory=dict)


ARMS = {
    "plain": Arm(0.36, 150_000, block={"type": "pretrain"}),
    "levels": Arm(0.72, 170_000, 0.6, {"type": "ixt", "feedback": {"template": "levels", "dropout": 0.1}}),
    "critique": Arm(0.80, 260_000, 0.9, {"type": "ixt", "feedback": {"template": "critique"}}),
}

CLAIMS: list[dict] = [
    {"says": "up to 2.8 times fewer FLOPs for the same score", "text": "levels: efficiency@0.3/sampled/strict",
     "value": 1.7, "note": "", "bound": ">= 2.8", "holds": False},
    {"says": "GSM8K 35.8 -> 50.2", "text": "levels: sampled/strict, minus plain", "value": 0.34, "note": "",
     "bound": ">= 0.1", "holds": True},
    {"says": "critiques beat levels by 2.6", "text": "critique: math", "value": None, "note": "never measured",
     "bound": ">= 0.026", "holds": None},
]  # fmt: skip


class DocumentRun:
    """Writes the files of a finished run on documents."""

    def __init__(self, root: Path, noise: float = 0.008):
        self.root, self.noise = root, noise

    def __call__(
        self,
        name: str = "ixt-demo",
        arms: tuple[str, ...] = tuple(ARMS),
        seeds: tuple[int, ...] = (0, 1, 2),
        init: dict[str, str] | None = None,
        temperatures: tuple[float, ...] = (0.5,),
        claims: list[dict] | None = None,
    ) -> Path:
        """`init`: stage -> the stage it goes on from; else every arm starts from the run's model."""
        folder = self.root / name
        folder.mkdir(parents=True)
        self.random = random.Random(name)
        self.rows: list[dict] = []
        self.temperatures = temperatures
        blocks, summaries = [], []
        for arm in arms:
            before = (init or {}).get(arm)
            for seed in seeds:
                self._train(arm, seed, before)
            blocks.append(
                {"name": arm, **ARMS[arm].block, "init": before or "model", "data": {"world": "chain"}, "steps": STEPS}
                | {"optim": {"lr": 2e-3}, "evaluation": {"problems": 600, "curve_problems": 200, "wishes": WISHES}}
            )
            summaries.append(self._summary(arm, seeds, before))
        config = {"name": name, "seeds": list(seeds), "model": {"new": {"architecture": "qwen3"}}, "stages": blocks}
        summary = {"name": name, "status": "finished", "reason": None, "seconds": 300.0, "seeds": list(seeds)}
        held = {"text": "levels: sampled/strict", "value": 0.7, "note": "", "bound": ">= 0.5", "holds": True}
        summary |= {"stages": summaries, "expectations": [held], "claims": CLAIMS if claims is None else claims}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        samples = [sample for arm in arms for wish in ("", "@worst") for sample in self._samples(arm, seeds[0], wish)]
        (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        return folder

    def _train(self, arm: str, seed: int, before: str | None) -> None:
        """A seed is equally lucky in all arms; tokens and FLOPs of the stage before are included."""
        luck = math.exp(0.05 * (seed - 1))
        start = next((r for r in reversed(self.rows) if (r["stage"], r["seed"]) == (before, seed)), {})
        for step in range(EVERY, STEPS + 1, EVERY):
            tokens = step * PER_STEP
            judged = ARMS[arm].judged * tokens
            costs = {"flops/train": 6 * PARAMETERS * tokens, "flops/annotate": 2 * JUDGE * judged}
            costs |= {"tokens": tokens, "tokens/annotate": judged}
            costs = {key: value + start.get(key, 0) for key, value in costs.items()}
            row = {"stage": arm, "type": ARMS[arm].block["type"], "seed": seed, "step": step, "rollouts": 0}
            row |= {"flops": costs["flops/train"] + costs["flops/annotate"], **costs, "seconds": step * 0.08}
            loss = 1.2 + 2.6 * math.exp(-tokens / 9e4) + self.random.gauss(0, 0.02)
            accuracy, norm = 1 - loss / 4, 0.9 + self.random.gauss(0, 0.05)
            self.rows.append(
                {**row, "phase": "train", "loss": loss, "mean_token_accuracy": accuracy, "grad_norm": norm}
            )
            self.rows.append({**row, "phase": "eval", **self._scores(arm, costs["tokens"] * luck, step == STEPS)})

    def _scores(self, arm: str, tokens: float, last: bool) -> dict[str, float]:
        sampled = self._score(arm, tokens)
        scores = {"sampled/strict": sampled, "greedy/strict": min(1.0, sampled * 1.15)}
        if last:
            scores |= {f"sampled@t{t:g}/strict": min(1.0, sampled * (1.2 - 0.2 * t)) for t in self.temperatures}
        for wish, share in (("worst", 0.05), ("none", 0.4)) if last else ():
            share = 1.0 if arm == "plain" else share  # nothing stands before its problems, whatever is wished for
            scores |= {f"{mode}@{wish}/strict": share * scores[f"{mode}/strict"] for mode in ("sampled", "greedy")}
        return scores

    def _score(self, arm: str, tokens: float) -> float:
        score = ARMS[arm].top * (1 - math.exp(-tokens / ARMS[arm].pace))
        return max(0.0, score + self.random.gauss(0, self.noise))

    def _samples(self, arm: str, seed: int, wish: str) -> list[dict]:
        head = {"stage": arm, "seed": seed, "step": STEPS, "mode": f"sampled{wish}", "answer": "3", "length": 9}
        return [
            {**head, "question": f"Q {i} a + 2 ?", "completion": "a <b> 3", "strict": i < (1 if wish else 7)}
            for i in range(10)
        ]

    def _summary(self, arm: str, seeds: tuple[int, ...], before: str | None) -> dict:
        finals = {s: [r for r in self.rows if (r["stage"], r["seed"]) == (arm, s)][-1] for s in seeds}
        keys = [key for key in finals[seeds[0]] if key not in ("stage", "type", "seed", "phase", "step")]
        values = {key: [finals[seed][key] for seed in seeds] for key in keys}
        return {
            "name": arm,
            "type": ARMS[arm].block["type"],
            "label": arm,
            "view": "full",
            "init": before or "model",
            "seeds": {str(seed): {key: finals[seed][key] for key in keys} for seed in seeds},
            "mean": {key: fmean(found) for key, found in values.items()},
            "spread": {key: stdev(found) if len(found) > 1 else None for key, found in values.items()},
            "start": {},
            "notes": [],
        }


def flops_of(arm: str, score: float, annotation: bool = True) -> float:
    """FLOPs at which an arm without noise and of ordinary luck reaches a sampled score."""
    shape = ARMS[arm]
    tokens = -shape.pace * math.log(1 - score / shape.top)
    return tokens * (6 * PARAMETERS + (2 * JUDGE * shape.judged if annotation else 0))
