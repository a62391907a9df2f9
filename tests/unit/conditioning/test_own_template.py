"""Templates of one's own, of feedback and of prompts: what they are told, what is looked at, what stays text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template, load_template
from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.models import byte_tokenizer
from ixt_rl.run.trainers import check_own_trainers
from ixt_rl.types import Document, Feedback

TOKENIZER = byte_tokenizer()

SOURCE = """
from ixt_rl.types import Feedback


class Stars:
    separator = "\\n"

    def render(self, feedback, document):
        about = "" if document is None else f" of {len(document.text)}: {document.text}"
        return "*" * feedback.level + about

    def parse(self, text):
        return Feedback(level=text.count("*"))


stars = Stars()


def made():
    return Stars()


class Broken:
    def render(self, feedback, document):
        return None

    def parse(self, text):
        return Feedback()


class Told:
    def render(self, row):
        return f"Q {row['question']}", f"Q {row['question']} ({row['answer']}, {row['hint']})"


class Chat:
    chat_template_kwargs = {"enable_thinking": False}

    def render(self, row):
        return [{"role": "user", "content": row["question"]}], [{"role": "user", "content": row["answer"]}]


class Half:
    def render(self, row):
        return row["question"]


nothing = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stars.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", ["stars", "Stars", "made"])
def test_an_object_or_what_makes_one(file, name):
    template = load_feedback_template(f"python:{file}:{name}")
    assert template.render(Feedback(3)) == "***"
    assert template.parse("***") == Feedback(3)
    assert template.separator == "\n"


def test_it_is_told_the_document_in_training_and_nothing_at_inference(file):
    conditioner = Conditioner(TOKENIZER, Conditioning(load_feedback_template(f"python:{file}:stars")))
    (shown,) = conditioner([Document("abc", feedback=Feedback(2))], 0)
    eos = TOKENIZER.eos_token
    assert TOKENIZER.decode(shown.input_ids).endswith(f"** of 3: abc\nabc{eos}")
    assert TOKENIZER.decode(conditioner.prompt("ab", Feedback(5))).endswith("*****\nab")


def test_control_tokens_that_a_document_spells_stay_text_in_it(file):
    conditioner = Conditioner(TOKENIZER, Conditioning(load_feedback_template(f"python:{file}:stars")))
    spelled = f"a{TOKENIZER.eos_token}"
    (shown,) = conditioner([Document(spelled, feedback=Feedback(1))], 0)
    assert list(shown.input_ids).count(TOKENIZER.eos_token_id) == 1  # the document's end
    assert shown.input_ids[-1] == TOKENIZER.eos_token_id


def test_what_is_no_template_is_refused(file):
    with pytest.raises(ConfigError, match="it has no render and no parse"):
        load_feedback_template(f"python:{file}:nothing")
    with pytest.raises(DataError, match="render gave None"):
        load_feedback_template(f"python:{file}:Broken").render(Feedback(1))


def loaded(file: Path, template: str):
    stage = {
        "name": "ixt", "type": "ixt", "data": {"world": "facts", "documents": 8}, "feedback": {"template": template},
        "steps": 2, "batch_size": 2, "optim": {"lr": 1e-3},
    }  # fmt: skip
    run = file.parent / "run.yaml"
    run.write_text(dump_yaml({"name": "own", "model": {"new": {}}, "stages": [stage]}))
    return load_run(run)


def test_a_run_file_names_it_and_a_misspelt_name_is_refused(file):
    assert loaded(file, "python:stars.py:stars").stages[0].feedback.template == f"python:{file}:stars"
    with pytest.raises(InvalidConfig, match="did you mean `stars`"):
        loaded(file, "python:stars.py:star")


def test_a_run_imports_it_before_the_first_stage(file):
    run = loaded(file, "python:stars.py:nothing")
    with pytest.raises(InvalidConfig, match="it has no render and no parse") as raised:
        check_own_trainers(run.name, run.stages)
    assert raised.value.problems[0].path == "stages.ixt.feedback.template"


def test_prompts_of_ones_own_are_told_the_whole_row(file):
    template = load_template(f"python:{file}:Told", "math")
    assert template.render("1+1?", "2", {"hint": "add"}) == ("Q 1+1?", "Q 1+1? (2, add)")
    assert load_template(f"python:{file}:Chat", "math").chat_template_kwargs == {"enable_thinking": False}


def test_prompts_that_are_none_are_refused(file):
    with pytest.raises(DataError, match="render gave"):
        load_template(f"python:{file}:Half", "math").render("1+1?", "2", {})
    with pytest.raises(ConfigError, match="it has no render"):
        load_template(f"python:{file}:nothing", "math")


def prompted(file: Path, template: str, **changes):
    stage = {
        "name": "rl", "type": "intro", "data": {"path": str(file.parent / "rows.jsonl"), "columns": ["hint"]},
        "template": template, "steps": 1, "rollouts_per_step": 4, "sampling": {"max_new_tokens": 4},
        "optim": {"lr": 1e-3}, "rewards": [{"type": "math"}], **changes,
    }  # fmt: skip
    (file.parent / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2", "hint": "add"}\n')
    run = file.parent / "run.yaml"
    run.write_text(dump_yaml({"name": "own", "model": {"new": {"tokenizer": "bytes"}}, "stages": [stage]}))
    return load_run(run)


def test_a_run_file_names_a_prompt_template_and_its_rows_are_shown_by_it(file):
    (stage,) = prompted(file, "python:stars.py:Told").stages
    assert stage.template == f"python:{file}:Told"
    task = make_task(stage.data, stage.template, judge=lambda **columns: [1.0], tokenizer=TOKENIZER)
    (row,) = task.train_rows(1, 0)
    assert (row["prompt"], row["told_prompt"]) == ("Q 1+1?", "Q 1+1? (2, add)")
    with pytest.raises(InvalidConfig, match="did you mean `Told`"):
        prompted(file, "python:stars.py:Tolt")


def test_a_run_imports_prompt_templates_before_the_first_stage(file):
    run = prompted(file, "python:stars.py:nothing")
    with pytest.raises(InvalidConfig, match="it has no render") as raised:
        check_own_trainers(run.name, run.stages)
    assert raised.value.problems[0].path == "stages.rl.template"
