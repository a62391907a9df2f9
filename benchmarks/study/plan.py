"""What the study runs: worlds, arms, bases and seeds as cells, each a run file; see DESIGN.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STEPS, BASE_STEPS = 100, 1900
EVERY = 20
RATES = (1e-4, 2e-4, 4e-4)
BEYOND = {min(RATES): 5e-5, max(RATES): 8e-4}
"""The rate that is tried where the best of `RATES` stands at that end."""
BASES, SEEDS = (1, 2, 3), (1, 2, 3, 4, 5)
TUNING = 9
"""Base and seed that rates are chosen on; not reported."""
PROBLEMS, GAP_PROBLEMS = 400, 1000


MODEL = {"architecture": "llama", "hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384}


@dataclass(frozen=True)
class World:
    """Where arms are compared.

    Args:
        world, view: of `data:`.
        documents: the world whose documents its bases are pretrained on.
    """

    world: str
    view: str
    documents: str


WORLDS = {
    "clean": World("addition", "parity", "addition"),
    "shortcut": World("addition-shortcut", "sum", "addition-shortcut"),
    "slips": World("addition-slips", "parity", "addition-slips"),
    "wrong-keys": World("addition-wrong-keys", "parity", "addition"),
    "elsewhere": World("addition-no-carry", "parity", "addition"),
    "told-1x": World("addition-told-1x", "parity", "addition-told-1x"),
    "told-2x": World("addition-told-2x", "parity", "addition-told-2x"),
    "told-5x": World("addition-told-5x", "parity", "addition-told-5x"),
}
MAIN_WORLDS = ("clean", "shortcut", "slips", "wrong-keys")


@dataclass(frozen=True)
class Arm:
    """A method with its settings.

    Args:
        keys: of its stage, beside what all arms share.
        main: in the study's tables by default; the others are the extended form's.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    main: bool = True


FROZEN = {"source": "frozen"}


def _intro(candidates: int | str = 1, posterior: Mapping[str, Any] = FROZEN, main: bool = False, **keys: Any) -> Arm:
    return Arm({"type": "intro", "intro": {"candidates": candidates, "posterior": dict(posterior), **keys}}, main)


def _own_intro(trainer: str, main: bool = True, **intro: Any) -> Arm:
    keys = {"type": "python", "trainer": f"{HERE / 'intro_arms.py'}:{trainer}", "like": "intro"}
    return Arm({**keys, "intro": {"candidates": 1, "posterior": FROZEN, **intro}}, main)


def _own_star(trainer: str) -> Arm:
    return Arm({"type": "python", "trainer": f"{HERE / 'told_arms.py'}:{trainer}", "like": "star"})


ARMS: dict[str, Arm] = {
    "told-nll": Arm({"type": "star"}),
    "grpo": Arm({"type": "grpo"}),
    "rloo": Arm({"type": "rloo"}),
    "raft": Arm({"type": "raft"}),
    "rlsd": Arm({"type": "rlsd"}),
    "intro": _intro(main=True),
    "intro-sign": _intro(main=True, sign="advantage"),
    "intro-tail": _own_intro("TailInTRO"),
    "intro-steps": _own_intro("StepsInTRO"),
    "intro-sign-tail": _own_intro("TailInTRO", sign="advantage"),
    "told-tail": _own_star("ToldTail"),
    "told-steps": _own_star("ToldSteps"),
    "told-overlap": _own_star("ToldOverlap"),
    "limit": _own_intro("VerifierInTRO"),
    "intro-untold": _own_intro("UntoldInTRO", main=False),
    "intro-n2": _intro(2),
    "intro-n5": _intro(5),
    "intro-n20": _intro(20),
    "intro-exact": _intro("exact"),
    "intro-live": _intro(posterior={"source": "live"}),
    "intro-lagged": _intro(posterior={"source": "lagged", "every": 10}),
    "intro-ema": _intro(posterior={"source": "ema", "decay": 0.99}),
    "rlcsd": Arm({"type": "rlcsd"}, main=False),
    "opsd": Arm({"type": "opsd"}, main=False),
    "latro": Arm({"type": "latro"}, main=False),
    "gpg": Arm({"type": "gpg"}, main=False),
    "dr-grpo": Arm({"type": "grpo", "grpo": {"preset": "dr_grpo"}}, main=False),
    "dapo": Arm({"type": "grpo", "grpo": {"preset": "dapo"}}, main=False),
    "gspo": Arm({"type": "grpo", "grpo": {"preset": "gspo"}}, main=False),
}
MAIN_ARMS = tuple(name for name, arm in ARMS.items() if arm.main)
RIVALS = ("told-nll", "grpo", "raft")
"""The best of these is what the candidate is held against (question 1)."""
CANDIDATES = ("intro", "intro-sign", "intro-tail", "intro-steps", "told-tail", "told-steps", "told-overlap")
CANDIDATES += ("intro-sign-tail",)
OPPONENTS = ("told-nll", "rlsd", "grpo", "raft")
"""Of InTRO in question 2."""
SETTINGS = ("intro", "intro-sign", "intro-tail", "intro-steps", "intro-sign-tail")
CHOSEN = ("slips", "wrong-keys")
"""Worlds named beforehand for question 2."""


@dataclass(frozen=True)
class Base:
    """A pretrained model: the world of its documents, the view that its told gap is measured in, its seed."""

    documents: str
    view: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.documents}-{self.view}-b{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One arm at one rate, from one base, with one seed."""

    world: str
    arm: str
    rate: float
    base: int
    seed: int

    @property
    def of(self) -> Base:
        world = WORLDS[self.world]
        return Base(world.documents, world.view, self.base)

    @property
    def name(self) -> str:
        """Its run's folder below the cells'; the run's name is the last part."""
        return f"{self.world}/b{self.base}/{self.arm}-{self.rate:g}-s{self.seed}"


def ordered(
    worlds: Iterable[str],
    arms: Iterable[str],
    bases: Iterable[int],
    seeds: Iterable[int],
    rates: Callable[[str, str], float | None],
) -> list[Cell]:
    """The reported cells: a first seed of everything, then a second one.

    Args:
        rates: (world, arm) -> the chosen rate, None where there is none yet.
    """
    return [
        Cell(world, arm, rate, base, seed)
        for seed in seeds
        for base in bases
        for world in worlds
        for arm in arms
        if (rate := rates(world, arm)) is not None
    ]


_CELL = re.compile(
    rf"(?P<world>[^/]+)/b(?P<base>\d+)/(?P<arm>{'|'.join(map(re.escape, ARMS))})-(?P<rate>[-.e\d]+)-s(?P<seed>\d+)"
)


def cell_named(name: str) -> Cell | None:
    """The cell of that name; None where it is no cell's."""
    found = _CELL.fullmatch(name)
    if found is None or found["world"] not in WORLDS:
        return None
    return Cell(found["world"], found["arm"], float(found["rate"]), int(found["base"]), int(found["seed"]))


def base_file(base: Base, out: str, steps: int = BASE_STEPS) -> dict[str, Any]:
    """The run file that pretrains a base, as the demo does, and measures its told gap."""
    optim = {"lr": 4e-3, "betas": [0.9, 0.98], "weight_decay": 0.01, "warmup_steps": 50}
    return {
        "name": base.name,
        "output_dir": out,
        "model": {"new": {**MODEL, "seed": base.seed}},
        "stages": [
            {
                "name": "base",
                "type": "pretrain",
                "data": {"world": base.documents},
                "steps": steps,
                "seed": base.seed,
                "optim": {**optim, "schedule": "cosine", "min_lr_ratio": 0.05},
            },
            {
                "name": "told-gap",
                "type": "evaluate",
                "data": {"world": base.documents, "view": base.view},
                "sampling": {"max_new_tokens": 34},
                "problems": GAP_PROBLEMS,
            },
        ],
    }


def cell_file(cell: Cell, out: str, model: str, steps: int = STEPS) -> dict[str, Any]:
    """The run file of a cell."""
    world = WORLDS[cell.world]
    folder, _, name = cell.name.rpartition("/")
    return {
        "name": name,
        "output_dir": f"{out}/{folder}",
        "seeds": [cell.seed],
        "model": {"path": model},
        "stages": [
            {
                "name": cell.arm,
                **ARMS[cell.arm].keys,
                "data": {"world": world.world, "view": world.view},
                "steps": steps,
                "rollouts_per_step": 32,
                "sampling": {"max_new_tokens": 34},
                "optim": {"lr": cell.rate, "warmup_steps": 5},
                "rewards": [{"type": "world"}],
                "evaluation": {"every": EVERY, "problems": PROBLEMS, "at_start": False},
            }
        ],
    }
