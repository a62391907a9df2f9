"""The study's folder: run files, what is done, what was measured.

    OUT/bases/<name>.yaml <name>.log <name>/      a base and its told gap
    OUT/cells/<world>/b<k>/<arm>-<rate>-s<seed>.yaml .log and folder
    OUT/rates.json study.json study.md measured.csv *.png

A cell is done when its run is, by the run file that would be written now, and its base's by that which would be; the
library's code may have moved on since (its hash stands with the result). A run file that is written anew takes what the
one before it measured with it. Delete a cell's folder to have it run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from plan import BASE_STEPS, STEPS, Base, Cell, base_file, cell_file, cell_named

from ixt_rl.files import read_json, read_rows, write_text

LATE = ("rollout/lucky_of_kept", "rollout/kept", "factor/taken_right", "factor/taken_wrong", "entropy")
"""Of the training rows: means over the second half of the run."""


def _portable(text: str) -> str:
    """A run file without the folder in which this checkout lies: the study's own trainers are named by their paths."""
    return re.sub(r"\S*/benchmarks/study/", "", text)


class Store:
    """The study's folder, with the sizes that its run files have.

    Args:
        known: name -> what was measured elsewhere (`measured.py`). Such a cell counts as done; a base does not, for the
            cells that are left start from its weights.
    """

    def __init__(
        self,
        out: Path,
        steps: int = STEPS,
        base_steps: int = BASE_STEPS,
        known: Mapping[str, dict[str, Any]] | None = None,
    ):
        self.out, self.steps, self.base_steps = out.resolve(), steps, base_steps
        self.known = known or {}

    # ---------------------------------------------------------------- run files

    def file_of(self, what: Base | Cell) -> Path:
        """The run file of a base or a cell; its log has the same name."""
        return self.out / ("bases" if isinstance(what, Base) else "cells") / f"{what.name}.yaml"

    def text_of(self, what: Base | Cell) -> str:
        """What its run file says now."""
        if isinstance(what, Base):
            return yaml.safe_dump(base_file(what, str(self.out / "bases"), self.base_steps), sort_keys=False)
        model = str(self.out / "bases" / what.of.name / "model")
        return yaml.safe_dump(cell_file(what, str(self.out / "cells"), model, self.steps), sort_keys=False)

    def write(self, what: Base | Cell) -> Path:
        """Writes its run file. Where it was another, what a run of that one measured is forgotten, and with a base what
        started from it."""
        file = self.file_of(what)
        if file.is_file() and not self._is_current(what):
            self._forget(what)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.text_of(what))
        return file

    def is_done(self, what: Base | Cell) -> bool:
        """Whether a run of this very file has ended; of a cell, from a base that is made like this, or is gone."""
        if not self._is_current(what) or not self._done_file(what).is_file():
            return False
        return isinstance(what, Base) or self._is_current(what.of) or not self.file_of(what.of).is_file()

    def _is_current(self, what: Base | Cell) -> bool:
        """Whether its run file is there and says what it would say now."""
        file = self.file_of(what)
        return file.is_file() and _portable(file.read_text(encoding="utf-8")) == _portable(self.text_of(what))

    def _done_file(self, what: Base | Cell) -> Path:
        return self.stage(what) / "done.json"

    def _forget(self, what: Base | Cell) -> None:
        started = [cell for cell in self._cells_run() if cell.of == what] if isinstance(what, Base) else []
        for one in (*started, what):
            self._done_file(one).unlink(missing_ok=True)

    def _cells_run(self) -> list[Cell]:
        """All that have a run file, in order of their names."""
        folder = self.out / "cells"
        names = sorted(str(file.relative_to(folder))[: -len(".yaml")] for file in folder.glob("*/b*/*.yaml"))
        return [cell for name in names if (cell := cell_named(name)) is not None]

    def stage(self, what: Base | Cell) -> Path:
        """The folder of the stage whose rows count: the told gap of a base, the arm of a cell."""
        run = self.file_of(what).with_suffix("") if isinstance(what, Base) else self.out / "cells" / what.name
        return run / "stages" / ("told-gap" if isinstance(what, Base) else f"{what.arm}/seed{what.seed}")

    def missing(self, whats: Iterable[Any]) -> list[Any]:
        """Those that are neither done nor known, each once, in order."""
        return [one for one in dict.fromkeys(whats) if not (self.is_done(one) or self._is_known(one))]

    def of_other_sizes(self) -> list[str]:
        """Names of what is known and has other updates than here; rows of before sizes were kept do not say."""
        here = {"steps": self.steps, "base_steps": self.base_steps}
        return [
            name for name, row in self.known.items() if any(row.get(size, here[size]) != here[size] for size in here)
        ]

    def other_bases(self) -> list[str]:
        """Names of bases that were made here and measure otherwise than those of the same name that are known: other
        models, as another machine makes them, from which cells of both kinds have started."""
        found = []
        for base in dict.fromkeys(cell.of for cell in self.cells_there()):
            own, known = (self.measured(base) if self.is_done(base) else None), self.known.get(base.name)
            if own is not None and known is not None:
                shared = {name for name in own.keys() & known.keys() if "/" in name}
                if any(f"{own[name]:.6g}" != f"{known[name]:.6g}" for name in shared):
                    found.append(base.name)
        return found

    def _is_known(self, what: Base | Cell) -> bool:
        return isinstance(what, Cell) and what.name in self.known

    def sizes_there(self) -> str:
        """Sizes that this folder's run files have in place of those asked for, in words; "" where they have none."""
        found = []
        for kind, wanted, words in (
            ("bases/*.yaml", self.base_steps, "bases of {} updates, and --base-steps"),
            ("cells/*/*/*.yaml", self.steps, "cells of {} updates, and --steps"),
        ):
            file = next(self.out.glob(kind), None)  # all have one size: others are refused by this
            steps = wanted if file is None else yaml.safe_load(file.read_text(encoding="utf-8"))["stages"][0]["steps"]
            if steps != wanted:
                found.append(f"{words.format(steps)} is {wanted}")
        return "; ".join(found)

    # ---------------------------------------------------------------- what was measured

    def measured(self, what: Base | Cell) -> dict[str, Any] | None:
        """A flat row of what a base or cell measured, here or else as it is known; None where it is neither."""
        if not self.is_done(what):
            return self.known.get(what.name)
        rows = read_rows(self.stage(what) / "metrics.jsonl", ("phase", "step"))
        last = self.steps if isinstance(what, Cell) else 0
        done = read_json(self.stage(what) / "done.json") or {}
        found: dict[str, Any] = {"code": (done.get("ingredients") or {}).get("code"), **self._sizes(what)}
        for row in rows:
            if row["phase"] != "eval":
                continue
            at = "" if row["step"] == last else f"@{row['step']}"
            found |= {f"{name}{at}": value for name, value in row.items() if isinstance(value, float) and "/" in name}
            if not at:
                found |= {name: row[name] for name in ("rollouts", "flops", "seconds")}
        late = [row for row in rows if row["phase"] == "train" and row["step"] > last // 2]
        for name in LATE:
            values = [row[name] for row in late if isinstance(row.get(name), float) and row[name] == row[name]]
            if values:
                found[f"late/{name}"] = fmean(values)
        return found

    def _sizes(self, what: Base | Cell) -> dict[str, float]:
        """Updates, so that a row says whose it is."""
        return {"base_steps": self.base_steps, **({"steps": self.steps} if isinstance(what, Cell) else {})}

    def strict_at_end(self, cell: Cell) -> float | None:
        """What rates are chosen by; None where the cell is not done."""
        found = self.measured(cell)
        return None if found is None else found.get("sampled/strict")

    def cells_there(self) -> list[Cell]:
        """All that have a run file here, or are known, whatever a call asks for."""
        known = [cell for name in self.known if (cell := cell_named(name)) is not None]
        return list(dict.fromkeys([*self._cells_run(), *known]))

    def done_cells(self, cells: Iterable[Cell]) -> dict[Cell, dict[str, Any]]:
        """The finished ones with what they measured."""
        found = ((cell, self.measured(cell)) for cell in cells)
        return {cell: row for cell, row in found if row is not None}
