"""The card of a run's model, and what the hub is asked for; the hub itself is a stand-in that writes down its calls."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

import ixt_rl
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import BackendFailed
from ixt_rl.run import saving
from ixt_rl.run.folder import RunFolder
from tests.integration.run_helpers import base, config, gap, online

PUSH = {"push_to_hub": "me/sums"}


@pytest.fixture
def run(tmp_path):
    """A run that was finished: two stages, the second with an evaluation at step 2 that was kept, and one at 4."""

    def made(**changes):
        stages = [base(), online("rl", type="grpo"), gap()]
        found = config(tmp_path, stages, save={"model_card": True}, **changes)
        folder = RunFolder(Path(found.output_dir), found.name)
        for stage, seed in ((found.stages[0], None), (found.stages[1], 1)):
            one = folder.stage(found, stage, seed, str(tmp_path))
            one.model.mkdir(parents=True)
        one.add_metrics("eval", 2, 16, 1e6, 0.5, {"greedy/checked": 0.75, "flops/train": 3.0, "told/checked": None})
        one.add_metrics("eval", 4, 32, 2e6, 0.9, {"greedy/checked": 0.5})
        one.write_result({"notes": [], "best": {"metric": "greedy/checked", "step": 2, "value": 0.75, "updates": 4}})
        folder.link_model(str(one.model))
        return found, folder, one

    return made


def parts(card: Path) -> tuple[dict, str]:
    _, header, text = card.read_text().split("---\n", 2)
    return yaml.safe_load(header), text


def test_a_card_says_what_the_model_is_and_what_its_evaluation_found(run, tmp_path):
    found, folder, stage = run()
    saving.write_card(found, folder)
    header, text = parts(stage.model / "README.md")
    assert header == {"library_name": "transformers", "tags": ["ixt-rl", "pretrain", "grpo"]}
    assert f"Made from a new model by the run `run` of ixt-rl {ixt_rl.__version__} (torch " in text
    assert "| base | pretrain | world: addition | 20 | 0.004 |" in text
    assert "| rl | grpo | world: addition | 4 | 0.001 |" in text
    assert "| gap |" not in text
    assert "Of stage rl, seed 1, at step 2." in text
    assert text.count("| greedy/checked | 0.75 |") == 1
    assert "told/checked" not in text and "flops" not in text
    assert str(tmp_path) not in text


def test_a_card_names_models_and_data_of_the_hub_and_no_folder_of_this_machine(run, tmp_path):
    problems = tmp_path / "secret-place" / "problems.jsonl"
    problems.parent.mkdir()
    problems.write_text('{"question": "1+1", "answer": "2"}\n')
    *_, stage = run()
    math = {"rewards": [{"type": "math"}], "evaluation": None, "init": None}
    of_hub = {"path": "openai/gsm8k", "name": "main"}
    files = [online("of-file", data={"path": str(problems)}, **math), online("of-hub", data=of_hub, **math)]
    other = config(tmp_path, files, name="other", model={"path": "org/base"})
    stage.stage = "of-hub"
    text = saving.card(other, stage)
    header = yaml.safe_load(text.split("---\n")[1])
    assert (header["base_model"], header["datasets"]) == ("org/base", ["openai/gsm8k"])
    assert "Made from `org/base`" in text
    assert "| problems.jsonl |" in text
    assert "secret-place" not in text


def test_a_card_changes_no_fingerprint(run):
    from ixt_rl.run.folder import model_fingerprint

    found, folder, stage = run()
    (stage.model / "config.json").write_text("{}")
    before = model_fingerprint(found, str(stage.model))
    saving.write_card(found, folder)
    assert model_fingerprint(found, str(stage.model)) == before


class Hub:
    endpoint = "https://hub"
    calls: list = []

    def __init__(self, **kwargs):
        self.calls.clear()

    def create_repo(self, repository, **options):
        self.calls.append(("create_repo", repository, options))

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options))


def test_the_hub_is_asked_for_a_private_repository_and_given_the_models_folder(run, monkeypatch):
    monkeypatch.setattr(saving, "HfApi", Hub)
    found, folder, stage = run()
    assert saving.pushed(found, folder, "me/sums") == "https://hub/me/sums"
    given = {"repo_id": "me/sums", "folder_path": stage.model, "commit_message": "Run run"}
    assert Hub.calls == [
        ("create_repo", "me/sums", {"private": True, "exist_ok": True}),
        ("upload_folder", {**given, "ignore_patterns": ["training_args.bin"]}),
    ]


def test_a_push_that_fails_says_where_the_model_is(run, monkeypatch):
    class Down(Hub):
        def create_repo(self, repository, **options):
            raise ConnectionError("no route")

    monkeypatch.setattr(saving, "HfApi", Down)
    found, folder, stage = run()
    with pytest.raises(BackendFailed) as error:
        saving.pushed(found, folder, "me/sums")
    assert "ConnectionError: no route" in str(error.value)
    assert str(stage.model) in error.value.remedy


@pytest.mark.parametrize(
    ("token", "off", "repository", "said"),
    [
        (None, False, "me/sums", "needs a token"),
        ("hf_x", True, "me/sums", "HF_HUB_OFFLINE is set"),
        ("hf_x", False, "sums", "owner/name"),
        ("hf_x", False, "me/sums", None),
    ],
    ids=["no token", "offline", "no owner", "fine"],
)
def test_a_push_is_refused_before_anything_runs(token, off, repository, said, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", off)
    if said is None:
        assert config(tmp_path, [base()], save={"push_to_hub": repository}).save.push_to_hub == repository
        return
    with pytest.raises(InvalidConfig) as error:
        config(tmp_path, [base()], save={"push_to_hub": repository})
    assert said in str(error.value)


def test_a_run_without_a_model_has_nothing_to_save(tmp_path):
    with pytest.raises(InvalidConfig, match="save without a stage that trains"):
        config(tmp_path, [gap()], save={"model_card": True})
