"""Synthetic run folders: the files a run writes, with figures that tests can recompute."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from statistics import fmean, stdev

import yaml

METHODS: dict[str, tuple] = {
    "intro-n1": ("intro", {"intro": {"candidates": 1, "posterior": {"source": "frozen"}}}, 2e-4, 0.33),
    "intro-n5": ("intro", {"intro": {"candidates": 5, "posterior": {"source": "frozen"}}}, 2e-4, 0.28),
    "grpo": ("grpo", {}, 1e-4, 0.27),
    "raft": ("raft", {}, 1e-4, 0.12),
}
VIEWS = ("parity", "sum")
STEPS, EVERY, PER_STEP = 20, 5, 32
BASE = {"greedy": 0.53, "sampled": 0.38, "told": 0.63}
COMPLETION = "<bos> 1 2 <script>alert(1)</script> & # 4 <eos>"


EXPECTATIONS: list[dict] = [
    {"text": "intro-n1: sampled/strict", "value": 0.71, "bound": ">= 0.65", "holds": True},
    {"text": "intro-n1 minus raft", "value": 0.081, "bound": ">= 0.12", "holds": False},
    {"text": "grpo at step 20", "value": None, "bound": ">= 0.05", "holds": None},
]


class RunMaker:
    """Writes a run folder below `root`."""

    def __init__(self, root: Path):
        self.root = root

    def __call__(
        self,
        name: str = "demo",
        seeds: tuple[int, ...] = (1,),
        expectations: list[dict] | None = None,
        views: tuple[str, ...] = ("parity",),
        methods: tuple[str, ...] = ("intro-n1", "raft"),
    ) -> Path:
        """A finished run: pretraining, and in each view a base evaluation and the methods."""
        folder = self.root / name
        folder.mkdir()
        self.random = random.Random(name)
        self.rows: list[dict] = []
        self.samples: list[dict] = []
        self._pretrain()
        config = [self._pretrain_config()]
        summaries = [self._summary("pretrain", "pretrain", "sum", [0])]
        for view in views:
            base = f"base-{view}"
            self._rows_of("evaluate", base, 0, "eval", 0, self._evaluation(0.0))
            config.append({"name": base, "type": "evaluate", "data": {"world": "addition", "view": view}})
            summaries.append(self._summary(base, "evaluate", view, [0]))
            for method in methods:
                kind, section, lr, gain = METHODS[method]
                stage = f"{method}-{view}"
                for seed in seeds:
                    self._online(stage, kind, seed, gain)
                data = {"world": "addition", "view": view}
                block = {"name": stage, "type": kind, "init": "pretrain", "data": data, "steps": STEPS, **section}
                block |= {"rollouts_per_step": PER_STEP, "optim": {"lr": lr}, "evaluation": {"problems": 400}}
                config.append(block)
                summaries.append(self._summary(stage, kind, view, list(seeds)))
        new = {"architecture": "llama", "hidden_size": 128}
        self.write(folder, "config.yaml", {"name": name, "seeds": list(seeds), "model": {"new": new}, "stages": config})
        summary: dict = {"name": name, "status": "finished", "reason": None, "seconds": 312.4, "seeds": list(seeds)}
        summary |= {"stages": summaries, "expectations": expectations or []}
        self.write(folder, "summary.json", summary)
        self.write(folder, "metrics.jsonl", self.rows)
        self.write(folder, "samples.jsonl", self.samples)
        return folder

    @staticmethod
    def write(folder: Path, name: str, value) -> None:
        """Writes one of a run's files; lists of rows as JSON lines."""
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(row) + "\n" for row in value)
        else:
            text = yaml.safe_dump(value, sort_keys=False) if name.endswith(".yaml") else json.dumps(value)
        (folder / name).write_text(text, encoding="utf-8")

    def _noise(self, size: float) -> float:
        return self.random.gauss(0, size)

    def _rows_of(self, kind: str, stage: str, seed: int, phase: str, step: int, metrics: dict) -> None:
        row = {"stage": stage, "type": kind, "seed": seed, "phase": phase, "step": step}
        row |= {"rollouts": step * PER_STEP, "flops": step * 3.1e9, "seconds": step * 0.11}
        self.rows.append(row | metrics)

    def _pretrain_config(self) -> dict:
        data = {"world": "addition", "view": "sum"}
        return {"name": "pretrain", "type": "pretrain", "data": data, "steps": 400, "optim": {"lr": 4e-3}}

    def _pretrain(self) -> None:
        for step in range(10, 401, 10):
            loss = 0.3 + 2.5 * math.exp(-step / 90) + self._noise(0.01)
            metrics = {"loss": loss, "mean_token_accuracy": 1 - loss / 3, "flops": step * 3e9}
            self._rows_of("pretrain", "pretrain", 0, "train", step, metrics)

    def _evaluation(self, gained: float) -> dict:
        metrics: dict[str, float] = {}
        for mode, start in BASE.items():
            strict = start + gained * (mode != "told") + self._noise(0.01)
            lucky = max(0.02, 0.4 - gained)
            metrics |= {f"{mode}/strict": strict, f"{mode}/checked": strict / (1 - lucky), f"{mode}/sum": strict + 0.02}
            metrics |= {f"{mode}/lucky_of_checked": lucky, f"{mode}/reasoned": 0.9, f"{mode}/truncated": 0.0}
            metrics |= {f"{mode}/length": 18.4 - 10 * gained}
        return metrics

    def _online(self, stage: str, kind: str, seed: int, gain: float) -> None:
        for step in range(STEPS + 1):
            gained = gain * (1 - math.exp(-3 * step / STEPS))
            if step:
                metrics = {
                    "loss": 0.2,
                    "grad_norm": 0.6,
                    "rollout/kept": 0.65 + gained / 2,
                    "entropy": 0.2 - gained / 3,
                }
                metrics |= {"rollout/lucky_of_kept": 0.4 - gained, "rollout/reasoned": 0.9, "learning_rate": 1e-4}
                metrics |= {"completions/mean_length": 18 - 9 * gained + self._noise(0.4)}
                metrics |= {f"flops/{phase}": step * 1e9 for phase in ("rollout", "train")}
                if kind == "intro":
                    metrics |= {"factor/taken": 0.995 + self._noise(0.01), "factor/sampled": 1 + self._noise(0.01)}
                    metrics |= {"factor/taken_right": 1.02, "factor/taken_wrong": 0.4, "factor/clipped": 0.0}
                    metrics |= {"factor/kl": 0.11, "flops/posterior": step * 1.1e9}
                self._rows_of(kind, stage, seed, "train", step, metrics)
            if step % EVERY == 0:
                self._rows_of(kind, stage, seed, "eval", step, self._evaluation(gained))
            if step in (0, STEPS):
                self._ten_samples(stage, seed, step)

    def _ten_samples(self, stage: str, seed: int, step: int) -> None:
        for i in range(10):
            checked, strict = i < 6 + 3 * bool(step), i < 3 + 5 * bool(step)
            sample = {
                "stage": stage,
                "seed": seed,
                "step": step,
                "mode": "sampled",
                "question": f"1 2 {i}",
                "answer": "0",
            }
            sample |= {"completion": COMPLETION, "length": 13, "checked": checked, "strict": strict}
            sample |= {"lucky": checked and not strict, "reasoned": i != 5, "finish_reason": "stop"}
            self.samples.append(sample)

    def _summary(self, stage: str, kind: str, view: str, seeds: list[int]) -> dict:
        rows = [row for row in self.rows if row["stage"] == stage]
        phase = "train" if kind == "pretrain" else "eval"
        finals = {seed: [r for r in rows if r["seed"] == seed and r["phase"] == phase][-1] for seed in seeds}
        keys = [key for key, value in finals[seeds[0]].items() if isinstance(value, float)]
        values = {key: [finals[seed][key] for seed in seeds] for key in keys}
        lengths = {"count": 640, "median": 8, "p95": 8, "max": 9, "dropped": 0, "histogram": [[8, 600], [9, 40]]}
        return {
            "name": stage,
            "type": kind,
            "label": stage,
            "view": view,
            "init": None if kind == "pretrain" else "pretrain",
            "seconds": 3.3,
            "seeds": {str(seed): finals[seed] for seed in seeds},
            "mean": {key: fmean(found) for key, found in values.items()},
            "spread": {key: stdev(found) if len(found) > 1 else None for key, found in values.items()},
            "start": next((r for r in rows if r["step"] == 0), {}),
            "reward_errors": 0,
            "notes": [],
            "prompt_lengths": lengths if kind in ("intro", "raft") else None,
        }
