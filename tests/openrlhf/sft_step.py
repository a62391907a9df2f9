"""Updates of OpenRLHF's own SFT trainer on DeepSpeed, in float32, on rows that are given.

Run by each rank in the Python of OpenRLHF's environment: sft_step.py JOB.json. The command line takes no float32, so
model and strategy are made here as `train_sft` makes them; dataset, loader and loop are those of a job.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace as Space
from typing import Any

import torch
from openrlhf.models import Actor
from openrlhf.utils.deepspeed import DeepspeedStrategy
from transformers import AutoModelForCausalLM, AutoTokenizer

from ixt_rl.integrations.openrlhf.recording import in_given_order
from ixt_rl.integrations.openrlhf.sft import ConditionedRows, GivenRows, RecordedSFTTrainer


def arguments(job: dict[str, Any]) -> Space:
    ds = Space(param_dtype="fp32", zero_stage=2, packing_samples=False, tensor_parallel_size=1)
    nobody = Space(key=None, org=None, group=None, project=None, run_name="run")
    return Space(
        ixt_rl=job, local_rank=-1, ds=ds, train=Space(batch_size=job["batch"], micro_batch_size=job["micro"]),
        model=Space(aux_loss_coef=0.0), logger=Space(wandb=nobody, tensorboard_dir=None, logging_steps=1),
        eval=Space(steps=-1), ckpt=Space(save_steps=-1, path=""),
    )  # fmt: skip


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    args = arguments(job)
    strategy = in_given_order(
        DeepspeedStrategy(
            seed=1, micro_train_batch_size=job["micro"], train_batch_size=job["batch"], zero_stage=2, args=args
        )
    )
    strategy.setup_distributed()
    model = Actor(AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32))
    model.packing_samples = False
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows = GivenRows(Path(job["rows"]))
    dataset = ConditionedRows(rows.select(range(len(rows))), tokenizer, job["length"], strategy)
    loader = strategy.setup_dataloader(dataset, job["micro"], True, True, dataset.collate_fn)
    adam = {"lr": job["lr"], "betas": (0.9, 0.95), "eps": job["eps"], "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant_with_warmup",
                "lr_warmup_ratio": 0.0, "min_lr_ratio": 0.0, "max_norm": 1.0, "scheduler_steps": 9}  # fmt: skip
    model, optimizer, scheduler = strategy.prepare((model, settings))
    trainer = RecordedSFTTrainer(
        model=model, strategy=strategy, optim=optimizer, train_dataloader=loader, eval_dataloader=None,
        scheduler=scheduler, batch_size=job["batch"], max_epochs=1, tokenizer=tokenizer,
    )  # fmt: skip
    trainer.fit(args)
    strategy.save_model(model, tokenizer, job["out"])


if __name__ == "__main__":
    main(*sys.argv[1:])
