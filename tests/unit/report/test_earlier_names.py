"""Run folders made under earlier names of metrics and keys are read as those of now."""

import json

import yaml

from ixt_rl.blocks import earlier_names
from ixt_rl.report.run_folder import read_run

NOW_TO_EARLIER = {now: earlier for earlier, now in earlier_names.METRICS.items()}


def earlier(metrics):
    """A row of metrics as it was written before."""
    return {NOW_TO_EARLIER.get(name, name): value for name, value in metrics.items()}


def test_a_folder_of_before_reads_as_one_of_now(make_run):
    folder = make_run(seeds=(1, 2))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["engine"] = {"type": "ray-vllm"}
    for stage in config["stages"]:
        stage["sampling"] = {"max_new_tokens": 34}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    now = read_run(folder)
    assert any("rollout/kept" in row for row in now.rows) and any("factor/kl" in row for row in now.rows)

    config["rollout"] = {"engine": config.pop("engine")["type"]}
    for stage in config["stages"]:
        stage["rollout"] = stage.pop("sampling")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(earlier(row)) + "\n" for row in rows))
    summary = json.loads((folder / "summary.json").read_text())
    for stage in summary["stages"]:
        stage |= {key: earlier(stage[key]) for key in ("mean", "spread", "start") if stage.get(key)}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "kept_share" in (folder / "metrics.jsonl").read_text()

    before = read_run(folder)
    assert (before.rows, before.summary, before.config) == (now.rows, now.summary, now.config)
    assert before.stages == now.stages


def test_metrics_of_evaluations_keep_their_mark():
    assert earlier_names.metric_of_now("eval_kept_share") == "eval_rollout/kept"
    assert earlier_names.metric_of_now("eval_reward") == "eval_reward"
    assert earlier_names.metric_of_now("rows/undecided_share") == "rows/undecided_share"
