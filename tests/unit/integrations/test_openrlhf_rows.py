"""Rows of a stage that OpenRLHF trains, also where a run is killed after its last evaluation."""

from __future__ import annotations

import math
import time

from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.openrlhf_job import JobRows


class Bar:
    def step(self, step):
        self.at = step

    def evaluation(self, step, metrics):
        self.measured = metrics


def counted(step, row):
    return 8 * step, 100.0 * step, {"tokens": row.pop("counted", 0)}


def measured(folder: StageFolder, again: bool) -> JobRows:
    rows = JobRows(folder, Bar(), time.perf_counter(), counted)
    if not again:
        rows.evaluated(0, {"strict": 0.25}, [{"text": "start"}])
        for step in (1, 2):
            rows.trained({"step": step, "loss": 0.5, "counted": 7 * step})
    rows.evaluated(2, {"strict": 0.5, "never": math.nan}, [{"text": "end"}, {"text": "end"}])
    return rows


def test_an_evaluation_replaces_that_of_a_killed_run(tmp_path):
    folder = StageFolder(tmp_path / "stage", "rl", "intro", 1, "{}")
    folder.path.mkdir()
    for again in (False, True):
        rows = measured(folder, again)
        assert rows.step == 2 and rows.progress.measured["strict"] == 0.5
        found = folder.metrics()
        assert [(row["phase"], row["step"]) for row in found] == [("eval", 0), ("train", 1), ("train", 2), ("eval", 2)]
        assert [(row["rollouts"], row["flops"]) for row in found] == [(0, 0.0), (8, 100.0), (16, 200.0), (16, 200.0)]
        assert [row["tokens"] for row in found] == [0, 7, 14, 0] and "counted" not in found[1]
        assert found[-1]["never"] is None
        assert [row["text"] for row in folder.samples()] == ["start", "end", "end"]
