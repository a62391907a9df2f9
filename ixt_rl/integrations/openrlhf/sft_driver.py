"""The main process of a job on documents, and its ranks, in OpenRLHF's environment: `python -m ... JOB.json`.

The main process starts as many ranks as the job has, by torch's launcher. Each puts our rows and our trainer in the
place of OpenRLHF's, and runs its `train_sft` as it is. When the process that started it ends, each ends.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from ixt_rl.integrations.openrlhf.driver import end_with_parent

_GRACE_S = 10  # of ranks, after one has ended: less than the run gives this process


def main(path: str, rank: str = "") -> None:
    """Runs the job in a file, or as a rank of it its part; raises what OpenRLHF, or torch's launcher, raises."""
    end_with_parent()
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    if rank:
        _train(job)
    else:
        _start_ranks(path, job["ranks"])


def _start_ranks(path: str, ranks: int) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="ixt-rl-openrlhf-") as logs:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=uuid.uuid4().hex, max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", shutdown_timeout=_GRACE_S,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        elastic_launch(config, sys.executable)("-m", "ixt_rl.integrations.openrlhf.sft_driver", path, "rank")


def _train(job: dict[str, Any]) -> None:
    import openrlhf.datasets
    import openrlhf.datasets.utils
    import openrlhf.trainer.sft_trainer
    import openrlhf.utils

    from ixt_rl.integrations.openrlhf import sft
    from ixt_rl.integrations.openrlhf.recording import in_given_order

    strategy_of = openrlhf.utils.get_strategy

    def with_job(args: Any) -> Any:
        args.ixt_rl = job
        return in_given_order(strategy_of(args))

    openrlhf.utils.get_strategy = with_job
    openrlhf.datasets.utils.blending_datasets = lambda folder, *args, **kwargs: sft.GivenRows(Path(folder))
    openrlhf.datasets.SFTDataset = sft.ConditionedRows
    openrlhf.trainer.sft_trainer.SFTTrainer = sft.RecordedSFTTrainer
    sys.argv = ["train_sft", *job["command"]]
    runpy.run_module("openrlhf.cli.train_sft", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
