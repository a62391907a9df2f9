"""study.md, study.json and figures from what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from plan import (
    BASE_STEPS,
    CHOSEN,
    EVERY,
    GAP_PROBLEMS,
    MAIN_WORLDS,
    OPPONENTS,
    PROBLEMS,
    RIVALS,
    SEEDS,
    SETTINGS,
    STEPS,
    Base,
    Cell,
)
from rates import source
from stats import corrected, difference, mean_error

from ixt_rl.files import write_json, write_text

Measured = Mapping[Cell, Mapping[str, Any]]

COLUMNS = (
    ("strict", "sampled/strict"),
    ("checked", "sampled/checked"),
    ("strict @20", "sampled/strict@20"),
    ("greedy strict", "greedy/strict"),
    ("with steps", "sampled/reasoned"),
    ("length", "sampled/length"),
    ("lucky of kept", "late/rollout/lucky_of_kept"),
    ("told strict", "told/strict"),
)
FULL = 15
"""Pairs of the whole design; with fewer it is a pilot."""
SIZES = {"steps": STEPS, "base_steps": BASE_STEPS}
"""Updates of a cell and of a base, as the design has them."""
WORDS = f"""Mean ± standard error over cells (a base and a seed each); {PROBLEMS} held-out problems after the last
update, sampled at T=1 where *greedy* is not said. *Strict*: every step is right; *checked*: what the view checks is;
*@20*: after 20 updates; *with steps*: the rationale has steps; *length*: its tokens; *lucky of kept*: of what is kept
in the second half of training, that which is right by wrong steps; *told*: asked with the answer shown; *Holm*: p,
corrected for all tests of its table."""


def values(measured: Measured, world: str, arm: str, name: str) -> dict[tuple[int, int], float]:
    """(base, seed) -> a value of an arm's finished cells."""
    return {
        (cell.base, cell.seed): row[name]
        for cell, row in measured.items()
        if (cell.world, cell.arm) == (world, arm) and row.get(name) is not None
    }


def shown(found: Mapping[Any, float], digits: int = 3) -> str:
    """`.813 ± .012`: mean and standard error over cells."""
    if not found:
        return ""
    mean, error = mean_error(list(found.values()))
    return f"{mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def base_table(bases: Mapping[Base, Mapping[str, Any]]) -> list[str]:
    head = "| base | strict | checked | told strict | told checked | with steps | told with steps | length, told |"
    lines = [head, "|---" * 8 + "|"]
    names = ("sampled/strict", "sampled/checked", "told/strict", "told/checked", "sampled/reasoned", "told/reasoned")
    for base, row in bases.items():
        lengths = f"{row['sampled/length']:.1f}, {row['told/length']:.1f}"
        lines.append(f"| {base.name} | " + " | ".join(f"{row[name]:.3f}" for name in names) + f" | {lengths} |")
    return lines


def arm_table(measured: Measured, world: str, arms: Iterable[str], rates: Mapping[str, dict[str, Any]]) -> list[str]:
    """Mean ± standard error over cells of every arm, with what it cost."""
    head = ["arm", "rate", "cells", *(title for title, _ in COLUMNS), "10^12 FLOPs", "s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for arm in arms:
        strict = values(measured, world, arm, "sampled/strict")
        if not strict:
            continue
        rate = next(cell.rate for cell in measured if (cell.world, cell.arm) == (world, arm))
        said = source(rates, world, arm)
        cells = [f"{rate:g}" + ("" if said == "the rule" else f" ({said})"), str(len(strict))]
        cells += [shown(values(measured, world, arm, name), 1 if title == "length" else 3) for title, name in COLUMNS]
        flops, seconds = (mean_error(list(values(measured, world, arm, n).values()))[0] for n in ("flops", "seconds"))
        lines.append(f"| {arm} | " + " | ".join([*cells, f"{flops / 1e12:.2f}", f"{seconds:.0f}"]) + " |")
    return lines


def question_1(measured: Measured, arm: str) -> list[dict[str, Any]]:
    """The candidate against the best rival of each world: strict, then checked; see DESIGN.md."""
    rows = []
    for name in ("sampled/strict", "sampled/checked"):
        for world in MAIN_WORLDS:
            own = values(measured, world, arm, name)
            rivals = {rival: values(measured, world, rival, name) for rival in RIVALS}
            if not own or not all(rivals.values()):
                continue
            best = max(rivals, key=lambda rival: mean_error(list(rivals[rival].values()))[0])
            found = difference(own, rivals[best])
            passes = None if found.error is None or found.mean is None else found.mean >= -found.error
            rows.append({"world": world, "measure": name, "arm": arm, "rival": best, **vars(found), "passes": passes})
    return rows


def question_2(measured: Measured, name: str) -> list[dict[str, Any]]:
    """The tests of family 2 (checked) or 3 (strict), those that have pairs, corrected together."""
    asked = [(world, own, rival) for world in CHOSEN for own in SETTINGS for rival in OPPONENTS]
    return _tests(measured, asked, name)


def exploratory(measured: Measured, world: str, arms: Iterable[str], name: str) -> list[dict[str, Any]]:
    """Every arm against every rival of question 1, corrected within the world."""
    return _tests(measured, [(world, arm, rival) for arm in arms for rival in RIVALS if arm != rival], name)


def _tests(measured: Measured, asked: Iterable[tuple[str, str, str]], name: str) -> list[dict[str, Any]]:
    keys, found = [], []
    for world, own, rival in asked:
        one = difference(values(measured, world, own, name), values(measured, world, rival, name))
        if one.pairs:
            keys.append((world, own, rival))
            found.append(one)
    return [
        {"world": world, "measure": name, "arm": own, "rival": rival, **vars(one)}
        for (world, own, rival), one in zip(keys, corrected(found), strict=True)
    ]


def gains(measured: Measured, bases: Mapping[Base, Mapping[str, Any]], world: str, arm: str) -> dict[int, float]:
    """Base seed -> checked share at the end above the base's own, mean over seeds."""
    found: dict[int, list[float]] = {}
    for cell, row in measured.items():
        if (cell.world, cell.arm) == (world, arm) and cell.of in bases:
            found.setdefault(cell.base, []).append(row["sampled/checked"] - bases[cell.of]["sampled/checked"])
    return {base: sum(one) / len(one) for base, one in found.items()}


def test_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    head = (
        "world",
        "measure",
        "arm - rival",
        "pairs",
        "difference (95 %)",
        "bases as clusters",
        "same sign",
        "p",
        "Holm",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        number: Callable[[Any], str] = lambda x: "" if x is None else f"{x:+.3f}"  # noqa: E731
        sure = "" if row["low"] is None else f" ({number(row['low'])} to {number(row['high'])})"
        clustered = "" if row["clustered"] is None else " to ".join(map(number, row["clustered"]))
        same = "" if len(row["bases"]) < 2 else "yes" if len({x > 0 for x in row["bases"].values()}) == 1 else "no"
        p, adjusted = ("" if row[name] is None else f"{row[name]:.2g}" for name in ("p", "adjusted"))
        lines.append(
            f"| {row['world']} | {row['measure'].partition('/')[2]} | {row['arm']} - {row['rival']} | {row['pairs']} "
            f"| {number(row['mean'])}{sure} | {clustered} | {same} | {p} | {adjusted} |"
        )
    return lines


def write_page(
    out: Path, measured: Measured, bases: Mapping[Base, Mapping[str, Any]], rates: Mapping[str, dict[str, Any]],
    chosen: tuple[str, dict] | None, arms: Iterable[str], machine: Mapping[str, str], sizes: Mapping[str, int] = SIZES,
) -> None:  # fmt: skip
    """Writes study.json, study.md and figures into `out`; `sizes` are those that cells and bases have."""
    arms, worlds = list(arms), list(dict.fromkeys(cell.world for cell in measured))
    pairs = max((len(values(measured, world, arm, "sampled/strict")) for world in worlds for arm in arms), default=0)
    lines = ["# The study, as far as it is", "", "Design, tests and what would count: `benchmarks/study/DESIGN.md`. "]
    if pairs < FULL:
        lines[-1] += f"**A pilot**: at most {pairs} of {FULL} cells an arm; its tests decide nothing."
    for what, size in (("Cells", "steps"), ("Bases", "base_steps")):
        if sizes[size] != SIZES[size]:
            lines[-1] += f" {what} have {sizes[size]} updates, not the design's {SIZES[size]}."
    lines += ["", "## Bases", "", f"{GAP_PROBLEMS} held-out problems, T=1; *told*: asked with the answer shown.", ""]
    lines += base_table(bases)
    lines += ["", "## Worlds", "", WORDS]
    tests: dict[str, Any] = {"exploratory": []}
    for world in worlds:
        lines += ["", f"### {world}", "", *arm_table(measured, world, arms, rates)]
        tests["exploratory"] += (found := exploratory(measured, world, arms, "sampled/strict"))
        lines += ["", "Exploratory, strict, corrected within the world:", "", *test_table(found)] if found else []
    tests["question 1"] = [] if chosen is None else question_1(measured, chosen[0])
    lines += ["", "## Question 1: is one setting nowhere worse than the best of told-NLL, GRPO and RAFT?", ""]
    lines += ["No candidate is chosen yet."] if chosen is None else _answer_1(chosen, tests["question 1"])
    lines += ["", "## Question 2: where is InTRO ahead of all its rivals?", ""]
    named = " or ".join(CHOSEN)
    for title, name in (("checked", "sampled/checked"), ("strict", "sampled/strict")):
        tests[f"question 2, {title}"] = found = question_2(measured, name)
        lines += [*test_table(found), ""] if found else [f"No cell of {named} has both arms yet ({title}).", ""]
    gained = {w: {a: of for a in arms if (of := gains(measured, bases, w, a))} for w in worlds}
    lines += ["Gain in checked over the base, by base:", ""]
    for world, of in gained.items():
        said = (
            f"{arm}: " + ", ".join(f"b{base} {v:+.3f}" for base, v in sorted(found.items()))
            for arm, found in of.items()
        )
        lines += [f"- {world}: " + "; ".join(said)]
    cells = [{**vars(cell), **row} for cell, row in measured.items()]
    whole = {"machine": dict(machine), **sizes, "seeds": SEEDS, "rates": rates, "candidate": chosen}
    whole |= {"bases": [{"name": base.name, **row} for base, row in bases.items()], "cells": cells}
    write_json(out / "study.json", {**whole, "tests": tests, "gains": gained}, indent=1)
    write_text(out / "study.md", "\n".join(lines) + "\n")
    for world in worlds:
        draw(out / f"{world}.png", measured, world, arms, sizes["steps"])


def _answer_1(chosen: tuple[str, dict], rows: list[dict[str, Any]]) -> list[str]:
    arm, margins = chosen
    said = ", ".join(f"{world} {margin:+.3f}" for world, margin in margins[arm].items())
    lines = [f"The candidate, chosen on the tuning base: **{arm}** (strict less the best rival's there: {said}).", ""]
    lines += ["| world | measure | best rival | pairs | difference | standard error | passes |", "|---" * 7 + "|"]
    for row in rows:
        mean, error = ("" if x is None else f"{x:{form}}" for x, form in ((row["mean"], "+.3f"), (row["error"], ".3f")))
        said = {None: "", True: "yes", False: "no"}[row["passes"]]
        measure = row["measure"].partition("/")[2]
        lines.append(f"| {row['world']} | {measure} | {row['rival']} | {row['pairs']} | {mean} | {error} | {said} |")
    return lines


def draw(file: Path, measured: Measured, world: str, arms: Iterable[str], end: int) -> None:
    """Curves of strict and checked over rollouts up to update `end`, mean over cells, with standard errors."""
    import matplotlib

    from ixt_rl.pages.drawing import RC, grid

    with matplotlib.rc_context(RC):
        fig, axes = grid(1, 2, width=3.6, sharey=True)
        for ax, name in zip(axes[0], ("sampled/strict", "sampled/checked"), strict=True):
            for index, arm in enumerate(arms):
                points = [(step, values(measured, world, arm, f"{name}@{step}")) for step in range(EVERY, end, EVERY)]
                points.append((end, values(measured, world, arm, name)))
                points = [(step, mean_error(list(found.values()))) for step, found in points if found]
                if points:
                    dash = ("-", "--", ":")[index // 10]
                    steps, sums = zip(*points, strict=True)
                    ax.errorbar(
                        [32 * step for step in steps], [mean for mean, _ in sums], [error or 0 for _, error in sums],
                        linestyle=dash, marker="o", markersize=3, capsize=2, label=arm,
                    )  # fmt: skip
            ax.set_title(f"{world}: {name.partition('/')[2]}, T=1")
            ax.set_xlabel("rollouts")
        axes[0][0].set_ylabel("share of problems")
        axes[0][1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=5)  # dashes show
        fig.savefig(file, dpi=130, facecolor="white")
