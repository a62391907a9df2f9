"""Stages on preference pairs: SFT with levels, DPO, margins of pairs that are held out, and what is refused before."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ixt_rl.config.load import load_run, notes
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import DataError
from ixt_rl.files import read_json, read_rows
from ixt_rl.report.build import build_report
from ixt_rl.run import run_config
from tests.integration.run_helpers import rows

RUN = """
name: NAME
output_dir: FOLDER/runs
model: {new: {tokenizer: bytes, hidden_size: 16, heads: 2, intermediate_size: 32, layers: 1}}
stages:
  - &plain
    name: plain
    type: sft
    init: model
    template: {prompt: "Q: {question}\\nA: ", told: "Q: {question} ({answer})\\nA: "}
    data:
      pairs: &pairs {path: FOLDER/pairs.jsonl, holdout: 0.3, max_prompt_tokens: 40, max_reply_tokens: 8}
    packing: {capacity: 96}
    steps: 2
    batch_size: 2
    optim: {lr: 1e-2}
    evaluation: {every: 1, pairs: *pairs, wishes: &wishes {best: 5, none: null, worst: 1}}
  - <<: *plain
    name: levels
    feedback: {template: levels, dropout: 0.1}
  - <<: *plain
    name: filtered
    data: {pairs: *pairs, keep_levels: [5]}
  - <<: *plain
    name: shuffled
    feedback: {template: levels, shuffle: true}
  - name: dpo
    type: dpo
    init: model
    template: {prompt: "Q: {question}\\nA: "}
    data: {pairs: *pairs}
    epochs: 1
    batch_size: 4
    micro_batch_size: 2
    optim: {lr: 1e-2}
    checkpoint_every: 2
    evaluation: {every: 100, pairs: *pairs}
claims:
  - {says: DPO is ahead, metric: pairs/accuracy, stage: dpo, minus: plain, at_least: 0.0}
  - {says: levels cost nothing, metric: pairs@none/perplexity, stage: levels, over: plain, at_most: 1.01}
  - {says: levels steer, metric: pairs@worst/drop, stage: levels, at_least: 0.0}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("preferences")
    pairs = [{"prompt": f"what is {n}", "chosen": f"it is {n}, sir", "rejected": "no idea, go away"} for n in range(30)]
    pairs += [{"prompt": "long " * 20, "chosen": "a", "rejected": "b"}]
    pairs += [{"prompt": f"what is {n}", "chosen": "twice", "rejected": "twice"} for n in range(3)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (folder / "run.yaml").write_text(RUN.replace("FOLDER", str(folder)))
    return folder / "run.yaml"


@pytest.fixture(scope="module")
def run(file) -> Path:
    return run_config(load_run(file, ["name=all"]))


def folder_of(run: Path, stage: str) -> Path:
    (found,) = (run / "stages" / stage).iterdir()
    return found


def last(run: Path, stage: str) -> dict:
    return [row for row in rows(run) if row["stage"] == stage and row["phase"] == "eval"][-1]


def test_every_arm_is_measured_on_the_same_unseen_pairs(run):
    begun = {}
    for stage in ("plain", "levels", "filtered", "shuffled", "dpo"):
        measured = read_rows(folder_of(run, stage) / "pairs.jsonl")
        begun[stage] = [row["begins"] for row in measured]
        assert all(row["tokens"] == 8 for row in measured)
        found = last(run, stage)
        margins = [row["logp"]["best" if stage != "dpo" else "none"] for row in measured]
        assert found["pairs/margin"] == pytest.approx(sum(a - b for a, b in margins) / len(margins))
        assert found["pairs/margin_low"] < found["pairs/margin"] < found["pairs/margin_high"]
    assert len({tuple(names) for names in begun.values()}) == 1
    assert 3 <= len(begun["plain"]) <= 16
    assert last(run, "plain")["pairs@worst/margin"] == last(run, "plain")["pairs/margin"]  # no prefix
    assert last(run, "levels")["pairs@worst/margin"] != last(run, "levels")["pairs/margin"]


def test_the_model_before_training_is_measured_too(run, file):
    """All arms start from one; a stage may leave it out."""
    begun = {
        stage: next(row for row in rows(run) if (row["stage"], row["phase"], row["step"]) == (stage, "eval", 0))
        for stage in ("plain", "levels", "dpo")
    }
    margins = [begun["plain"]["pairs/margin"], begun["levels"]["pairs@none/margin"], begun["dpo"]["pairs/margin"]]
    assert margins == pytest.approx([margins[0]] * 3)
    assert margins[0] != pytest.approx(last(run, "plain")["pairs/margin"])
    without = [f"stages.{name}.evaluation.at_start=false" for name in ("plain", "dpo")]
    config = load_run(file, ["name=begun", "claims=[]", *without])
    later = run_config(config.model_copy(update={"stages": [config.named[name] for name in ("plain", "dpo")]}))
    assert not [row for row in rows(later) if row["phase"] == "eval" and row["step"] == 0]


def test_what_is_left_out_is_said(run):
    summary = read_json(run / "summary.json")
    for stage in summary["stages"]:
        assert len({*stage["notes"]}) == len(stage["notes"])
        said = " ".join(stage["notes"])
        assert "1 of 34 pairs have a prompt of more than 40 tokens" in said
        assert "3 of 34 pairs have two equal replies and are left out" in said
        held = len(read_rows(folder_of(run, stage["name"]) / "pairs.jsonl"))
        assert f"measured on {held} preference pairs" in said
        assert f"{30 - held} preference pairs to train on" in said


def test_dpo_starts_at_log_2_and_moves_away(run):
    """Its reference is the model that it starts from; and the margin grows on what it learns."""
    trained = [row for row in rows(run) if row["stage"] == "dpo" and row["phase"] == "train"]
    assert trained[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert trained[-1]["loss"] < 0.6
    assert trained[-1]["rewards/margins"] > 0
    assert last(run, "dpo")["pairs/margin"] > last(run, "plain")["pairs/margin"]
    assert read_json(folder_of(run, "dpo") / "ledger.json")["tokens"]["score"] > 0
    begun = load_file(run / "initial" / "model.safetensors")
    moved = load_file(folder_of(run, "dpo") / "model" / "model.safetensors")
    assert any(not torch.equal(begun[name], moved[name]) for name in begun)


def test_differences_of_arms_are_paired(run):
    (own,), (other,) = (read_json(folder_of(run, stage) / "answered.json")["sets"] for stage in ("dpo", "plain"))
    assert own["questions"] == other["questions"]
    claim, *_ = read_json(run / "summary.json")["claims"]
    d = [a - b for a, b in zip(*(kept["values"]["pairs/accuracy"] for kept in (own, other)), strict=True)]
    assert claim["value"] == pytest.approx(sum(d) / len(d))
    assert claim["low"] <= claim["value"] <= claim["high"]


def test_a_drop_comes_with_its_interval_and_its_p_value(run):
    *_, claim = read_json(run / "summary.json")["claims"]
    found = last(run, "levels")
    own = {name: found[f"pairs@worst/drop_{name}"] for name in ("low", "high", "p")}
    assert {name: claim[name] for name in own} == pytest.approx(own) and claim["value"] == found["pairs@worst/drop"]
    (measured,) = read_json(folder_of(run, "levels") / "answered.json")["sets"]
    kept = measured["values"]["pairs@worst/drop"]
    assert sum(kept) / len(kept) == pytest.approx(claim["value"])


def test_a_ratio_of_perplexities_comes_with_its_interval(run):
    _, claim, _ = read_json(run / "summary.json")["claims"]
    losses = []
    for stage, wish in (("levels", "none"), ("plain", "none")):
        measured = read_rows(folder_of(run, stage) / "pairs.jsonl")
        losses.append(-sum(row["logp"][wish][0] for row in measured) / sum(row["tokens"] for row in measured))
    assert claim["value"] == pytest.approx(math.exp(losses[0] - losses[1]))
    assert claim["low"] * claim["high"] == pytest.approx(claim["value"] ** 2) and claim["low"] < claim["high"]
    found = read_json(run / "summary.json")["stages"][0]["mean"]
    assert found["pairs/perplexity_low"] < found["pairs/perplexity"] < found["pairs/perplexity_high"]


def test_the_page_has_the_pairs(run):
    page = build_report(run).read_text()
    assert "preference pairs" in page
    assert "DPO" in page
    assert "pairs/accuracy" in page
    for figure in ("Preference pairs", "DPO on pairs"):
        assert f"<h3>{figure}</h3>" in page
    assert "how held-out problems are answered" not in page  # there are none


def test_they_are_measured_in_half_precision_too(file, run):
    """Training has put autocast around the model by then; margins are those of float32 but for rounding."""
    config = load_run(file, ["name=half", "model.dtype=bfloat16", "claims=[]"])
    half = run_config(config.model_copy(update={"stages": [config.named[name] for name in ("levels", "dpo")]}))
    for stage in ("levels", "dpo"):
        for name in ("pairs/margin", "pairs/perplexity"):
            assert last(half, stage)[name] == pytest.approx(last(run, stage)[name], rel=0.1, abs=0.2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["stages.plain.evaluation.pairs.holdout=null"], "what is trained would be measured"),
        (["stages.plain.evaluation.pairs.holdout=0.4"], "set the same holdout in both"),
        (["stages.plain.evaluation.pairs={path: FOLDER/pa*rs.jsonl}"], "what is trained would be measured"),
        (
            ["stages.dpo.init=plain", "stages.plain.evaluation=null", "stages.plain.data.pairs.holdout=null"],
            "stage 'plain' trains on those rows (data.pairs.holdout=None)",
        ),
        (
            [
                "stages.dpo.init=plain",
                "stages.plain.evaluation=null",
                "stages.plain.data={sources: [{path: FOLDER/./pairs.jsonl, prompt: prompt, text: chosen}]}",
            ],
            "stage 'plain' trains on those rows",
        ),
        (["stages.dpo.evaluation.pairs.holdout=null"], "what is trained would be measured"),
        (
            ["stages.plain.data={sources: [{path: FOLDER/pairs.jsonl, prompt: prompt, text: chosen}]}"],
            "train it with data.pairs",
        ),
        (["stages.plain.type=pretrain", "stages.plain.template=null"], "pairs are replies to prompts"),
        (["stages.plain.packing.capacity=48"], "raise packing.capacity"),
        (["stages.plain.evaluation.holdout=2"], "set data.pairs.holdout"),
        (["stages.levels.feedback.template=critique"], "a level alone is a prefix"),
        (["stages.levels.feedback.template=tag"], "pairs have no tags"),
        (
            ["stages.levels.feedback.position=after", "stages.levels.template=null"],
            "the system message, which comes first",
        ),
        (["stages.levels.feedback.train=true", "stages.levels.template=null"], "only replies are trained"),
        (["stages.dpo.data.pairs.chosn=x"], "did you mean `chosen`"),
        (["stages.dpo.micro_batch_size=3"], "make batch_size a multiple of 3"),
        (["stages.dpo.dpo.beta=0"], "above 0"),
        (["stages.dpo.data.pairs.path=nowhere.jsonl"], "no such file"),
    ],
)
def test_what_cannot_be_right_is_refused_before_a_model_loads(file, changes, says):
    with pytest.raises(InvalidConfig) as error:
        load_run(file, [change.replace("FOLDER", str(file.parent)) for change in changes])
    assert says in str(error.value)


def test_pairs_of_which_none_fits_are_refused_with_their_number(file):
    short = [f"stages.dpo.data.pairs.max_prompt_tokens={n}" for n in (3,)]
    config = load_run(file, ["name=short", *short, "stages.dpo.evaluation=null"])
    only = config.model_copy(update={"stages": [config.named["dpo"]]})
    with pytest.raises(DataError, match="of 34 pairs 0 have a prompt of at most 3 tokens"):
        run_config(only)


def test_rows_that_are_too_short_for_feedback_and_reply_are_refused(file):
    """The reply's end would be a piece of its own, trained without its prompt."""
    asked = {"prompt": "Question: {question}\nAnswer: "}
    changes = ["name=narrow", "stages.levels.packing.capacity=49", f"stages.levels.template={json.dumps(asked)}"]
    config = load_run(file, changes)
    only = config.model_copy(update={"stages": [config.named["levels"]]})
    with pytest.raises(DataError, match=r"packing.capacity=49 with a reply that ends \d+ tokens after"):
        run_config(only)


def test_wishes_are_read_where_pairs_are_measured(file):
    assert not [note for note in notes(load_run(file)) if "wishes" in note]
    assert [note for note in notes(load_run(file, ["stages.plain.evaluation.problems=5"])) if "problems" in note]


def test_a_smaller_part_of_what_is_held_out_may_be_measured(file):
    """Both are shares by one hash."""
    load_run(file, ["stages.plain.evaluation.pairs.holdout=0.2", "stages.dpo.init=plain"])
