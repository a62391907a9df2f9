"""Runs whose stages train on documents: a world from scratch, annotated files, SFT, the ledger along a pipeline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.run import run_config
from tests.integration.run_helpers import config, rows, weights


def on_chain(name: str, /, **changes: Any) -> dict[str, Any]:
    stage = {
        "name": name,
        "type": "ixt",
        "init": "model",
        "data": {"world": "chain", "documents": 200},
        "feedback": {"template": "levels"},
        "packing": {"capacity": 128},
        "steps": 4,
        "batch_size": 2,
        "optim": {"lr": 1e-3},
        "evaluation": {
            "every": 2, "problems": 6, "curve_problems": 4, "max_new_tokens": 8,
            "wishes": {"best": 5, "worst": 1, "none": None}, "temperatures": [0.0, 0.5, 1.0],
            "guidance": {"against": "worst", "scale": 2.0},
        },
    }  # fmt: skip
    return {**stage, **changes}


def annotated(folder: Path) -> Path:
    """A file as `ixt-rl annotate` writes it: every third row undecided."""
    file = folder / "annotated.jsonl"
    lines = []
    for i in range(60):
        level = None if i % 3 == 0 else 1 + i % 5
        row = {"text": f"The sum of {i} and {i} is {2 * i}.", "question": f"{i} + {i}?"}
        row |= {"feedback_level": level, "feedback_scores": {"correctness": level and float(level)}}
        row |= {"feedback_critique": "short" if level else "", "feedback_judge": "me", "feedback_tokens": 40}
        lines.append(json.dumps(row))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def chain_run(tmp_path_factory) -> Path:
    plain = on_chain("plain", type="pretrain", feedback={})
    tail = on_chain("tail", init="plain")
    drawn = on_chain("averaged", feedback={"template": "critique", "dropout": 0.2}, ema=0.9)
    return run_config(config(tmp_path_factory.mktemp("chain"), [plain, tail, drawn]))


def evaluations(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [row for row in rows(folder) if row["stage"] == stage and row["phase"] == "eval"]


def test_evaluations_have_every_wish_and_temperature_at_the_end(chain_run):
    first, last = evaluations(chain_run, "averaged")
    assert "sampled/strict" in first
    assert "greedy@worst/strict" not in first
    modes = {key.partition("/")[0] for key in last if key.endswith("/strict")}
    assert modes == {
        "greedy", "sampled@t0.5", "sampled", "greedy@worst", "sampled@t0.5@worst", "sampled@worst",
        "greedy@none", "sampled@t0.5@none", "sampled@none",
        "greedy@guided", "sampled@t0.5@guided", "sampled@guided",
    }  # fmt: skip
    stages = json.loads((chain_run / "summary.json").read_text())["stages"]
    mean = next(stage["mean"] for stage in stages if stage["name"] == "averaged")
    for mode in modes:
        assert mean[f"{mode}/strict_low"] <= mean[f"{mode}/strict"] <= mean[f"{mode}/strict_high"]


def test_the_ledger_goes_on_along_the_pipeline(chain_run):
    plain, tail = (evaluations(chain_run, stage)[-1] for stage in ("plain", "tail"))
    assert plain["flops/annotate"] == 0
    assert plain["flops"] == plain["flops/train"]
    assert tail["tokens"] > plain["tokens"]
    assert tail["flops/train"] > plain["flops/train"]
    assert tail["flops"] == pytest.approx(tail["flops/train"] + tail["flops/annotate"])
    assert tail["flops/train"] / tail["tokens"] == pytest.approx(plain["flops/train"] / plain["tokens"])
    assert tail["tokens/annotate"] > 0


def test_the_report_has_the_arms(chain_run):
    page = (chain_run / "report.html").read_text(encoding="utf-8")
    for stage in ("plain", "tail", "averaged"):
        assert stage in page


def test_the_model_is_an_ordinary_folder(chain_run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(chain_run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert model.generate(**tokenizer("excellent Q 5 a + 0 ?", return_tensors="pt"), max_new_tokens=2).shape[0] == 1


def test_stopped_between_checkpoints_and_run_again_is_straight_through(tmp_path, monkeypatch):
    stages = [on_chain("levels", checkpoint_every=2, ema=0.5)]
    straight = run_config(config(tmp_path, stages, name="straight"))
    from ixt_rl.run.stages import documents as module

    class Killed(BaseException):
        pass

    class Stops(module.StageCallback):
        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == 3:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "StageCallback", Stops)
        with pytest.raises(Killed):
            run_config(config(tmp_path, stages, name="stopped"))
    resumed = run_config(config(tmp_path, stages, name="stopped"))
    expected, found = weights(straight), weights(resumed)
    assert all((found[name] == expected[name]).all() for name in expected)
    seconds = {"seconds", "rss_gib", "train_runtime"}
    strip = lambda folder: [{k: v for k, v in row.items() if k not in seconds} for row in rows(folder)]  # noqa: E731
    assert strip(resumed) == strip(straight)


def test_annotated_files_with_weights(tmp_path):
    file = str(annotated(tmp_path))
    source = {"path": file, "weight": 2.0}
    other = {"path": [file], "feedback": None}
    stage = on_chain(
        "files", data={"sources": [source, other]}, feedback={"template": "critique", "position": "after"},
        evaluation=None,
    )  # fmt: skip
    model = {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}}
    folder = run_config(config(tmp_path, [stage], model=model))
    counts = json.loads(next(folder.glob("stages/files/seed1/result.json")).read_text())["documents"]
    assert 0 < counts["conditioned"] < counts["documents"]
    assert counts["judged_tokens"] > 0
    assert counts["judged_tokens"] % 40 == 0


def test_tags_cost_nothing_and_are_wished_for_by_name(tmp_path):
    lines = [json.dumps({"text": f"{i} and {i}", "from": {"site": f"s{i % 3}" if i % 4 else None}}) for i in range(40)]
    (tmp_path / "sites.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "sums.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}\n' * 3, encoding="utf-8")
    asked = {"data": {"path": str(tmp_path / "sums.jsonl"), "eval_rows": 2}, "wishes": {"s1": "s1", "none": None}}
    sources = [{"path": str(tmp_path / "sites.jsonl"), "tag": "from.site"}]
    stage = on_chain(
        "tags", data={"sources": sources}, feedback={"template": "tag", "cooldown": 0.5},
        evaluation={"every": 4, "max_new_tokens": 4, **asked},
    )  # fmt: skip
    folder = run_config(config(tmp_path, [stage], model=BYTES))
    result = json.loads(next(folder.glob("stages/tags/seed1/result.json")).read_text())
    assert 0 < result["documents"]["conditioned"] < result["documents"]["documents"]
    assert result["documents"]["judged_tokens"] == 0
    assert "cooldown: the last 2 of 4 updates showed no feedback" in result["notes"]
    assert any("greedy@none/checked" in row for row in rows(folder))
    levels = {**stage, "evaluation": {**stage["evaluation"], "wishes": {"best": 5}}}
    with pytest.raises(InvalidConfig, match="that has no level"):
        config(tmp_path, [levels], model=BYTES)


def test_filtered_files_and_sft(tmp_path):
    file = str(annotated(tmp_path))
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import byte_tokenizer, new_model

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    base = tmp_path / "base"
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, tokenizer="bytes")
    new_model(spec, tokenizer).save_pretrained(base)
    tokenizer.save_pretrained(base)
    data = {"sources": [{"path": file, "prompt": "question"}], "keep_levels": [4, 5]}
    stage = on_chain("sft", type="sft", data=data, evaluation=None)
    folder = run_config(config(tmp_path, [stage], model={"path": str(base)}))
    counts = json.loads(next(folder.glob("stages/sft/seed1/result.json")).read_text())["documents"]
    assert counts["conditioned"] == counts["documents"]


BYTES = {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}}


def on_files(folder: Path, name: str = "files", **changes: Any) -> dict[str, Any]:
    """A stage on two sources that hold documents out, and nothing else to measure."""
    other = folder / "other.jsonl"
    other.write_text("".join(json.dumps({"text": f"Number {i} is {i * i} squared."}) + "\n" for i in range(30)))
    sources = [{"path": str(annotated(folder)), "weight": 2.0}, {"path": str(other), "feedback": None}]
    stage = on_chain(name, data={"sources": sources}, evaluation={"every": 2, "holdout": 6}, checkpoint_every=2)
    return {**stage, **changes}


def mean_nll(model, tokenizer, texts: list[str]) -> float:
    total, count = 0.0, 0
    for text in texts:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= float(logps[:-1].gather(1, torch.tensor(ids[1:])[:, None]).sum())
        count += len(ids) - 1
    return total / count


def test_held_out_loss_of_files_by_source_in_rows_summary_and_report(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run_config(config(tmp_path, [on_files(tmp_path)], model=BYTES))
    found = evaluations(folder, "files")
    assert [row["step"] for row in found] == [0, 2, 4]
    assert all(row["heldout/perplexity"] == pytest.approx(math.exp(row["heldout/loss"])) for row in found)
    assert found[-1]["heldout/loss"] < found[0]["heldout/loss"]
    first, other = ([f"The sum of {i} and {i} is {2 * i}." for i in range(6)],
                    [f"Number {i} is {i * i} squared." for i in range(6)])  # fmt: skip
    model, tokenizer = (kind.from_pretrained(folder / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for name, texts in (("annotated/", first), ("other/", other), ("", first + other)):
        assert found[-1][f"heldout/{name}loss"] == pytest.approx(mean_nll(model, tokenizer, texts), rel=1e-4)
    (stage,) = json.loads((folder / "summary.json").read_text())["stages"]
    mean = stage["mean"]
    assert mean["heldout/other/loss"] == found[-1]["heldout/other/loss"]
    for name in ("heldout/perplexity", "heldout/other/perplexity"):
        assert mean[f"{name}_low"] < mean[name] < mean[f"{name}_high"]
    result = json.loads(next(folder.glob("stages/files/seed1/result.json")).read_text())
    assert {name: counts["documents"] for name, counts in result["heldout"].items()} == {"annotated": 6, "other": 6}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "held-out documents" in page
    assert "Held-out loss" in page


def test_held_out_documents_are_measured_and_not_trained(tmp_path, monkeypatch):
    """The same weights whether they are measured or not, as long as they are held out; none is read to train."""
    from ixt_rl.run.stages import documents as module

    given: list[str] = []
    trainer_class = module.trainer_class

    def spying(stage):
        class Spying(trainer_class(stage)):
            def __init__(self, model, args, documents, *rest, **kwargs):
                class Spied(type(documents)):
                    def __iter__(self):
                        for document in super().__iter__():
                            given.append(document.text)
                            yield document

                documents.__class__ = Spied
                super().__init__(model, args, documents, *rest, **kwargs)

        return Spying

    monkeypatch.setattr(module, "trainer_class", spying)
    measured = run_config(config(tmp_path, [on_files(tmp_path)], name="measured", model=BYTES))
    assert len(set(given)) > 20
    assert not set(given) & {f"The sum of {i} and {i} is {2 * i}." for i in range(6)}
    assert not set(given) & {f"Number {i} is {i * i} squared." for i in range(6)}
    monkeypatch.setattr(module, "HeldOutLoss", lambda *args: None)
    quiet = run_config(config(tmp_path, [on_files(tmp_path)], name="quiet", model=BYTES))
    assert not any("heldout/loss" in row for row in rows(quiet))
    assert all((weights(quiet)[name] == value).all() for name, value in weights(measured).items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"evaluation": {"holdout": 5}}, "a world's are written anew"),
        ({"evaluation": {"holdout": 0}}, "above 0"),
        ({"evaluation": {"holdout": 1.5}}, "below 1"),
        ({"data": {"sources": [{"path": "owner/data"}]}, "evaluation": {}}, "evaluation.holdout"),
        ({"type": "pretrain"}, "plain pretraining shows no feedback"),
        ({"feedback": {}}, "it would be plain next-token prediction"),
        ({"type": "sft"}, "nothing they reply to"),
        ({"batch_size": 3, "micro_batch_size": 2}, "multiple of 2"),
        ({"name": "model"}, "rename the stage"),
        ({"data": {"world": "chain", "keep_levels": [6]}}, "at most 5"),
        ({"feedback": {"template": "levels", "dropout": 1.5}}, "at most 1"),
        ({"feedback": {"template": "levels", "cooldown": 1.0}}, "below 1"),
        ({"type": "pretrain", "feedback": {"cooldown": 0.1}}, "no feedback is shown anyway"),
        ({"steps": None, "epochs": 1, "feedback": {"template": "levels", "cooldown": 0.1}}, "give steps"),
        ({"evaluation": {"wishes": {"best": 9}}}, "1 (worst) to 5 (best)"),
        ({"evaluation": {"guidance": {"against": "worst"}}}, "add a second wish"),
        ({"data": {"world": "chian"}}, "did you mean"),
        ({"feedback": {"templat": "levels"}}, "did you mean `template`"),
    ],
)
def test_bad_stages_are_refused_before_anything_loads(tmp_path, change, says):
    with pytest.raises(InvalidConfig) as error:
        config(tmp_path, [on_chain("levels", **change)])
    assert says in str(error.value)


def test_the_shipped_files_are_valid():
    root = Path(__file__).resolve().parents[2]
    for file in sorted((root / "configs" / "ixt").glob("*.yaml")):
        load_run(file)
