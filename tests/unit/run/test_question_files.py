"""Rubrics and prompts that are none are said before the first stage runs, whichever stage asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.errors import ConfigError
from ixt_rl.run.plan import plan

OPTIM = {"lr": 1e-3}
FIRST = {"name": "first", "type": "pretrain", "data": {"world": "chain", "documents": 8}, "steps": 1, "optim": OPTIM}
SIP = {
    "name": "late", "type": "sip", "data": {"world": "chain"}, "steps": 1, "sampling": {"max_new_tokens": 8},
    "optim": OPTIM, "evaluation": None,
}  # fmt: skip
ANNOTATE = {"name": "late", "type": "annotate", "data": {"path": "rows.jsonl"}, "judge": {"model": "openai:m"}}
REWRITE = {
    "name": "late", "type": "rewrite", "data": {"path": "rows.jsonl"}, "rewriter": {"model": "openai:m"},
    "suffix_tokens": 4,
}  # fmt: skip
JUDGED: dict[str, Any] = {"model": "world", "axes": {"mine.yaml": 1.0}}
BROKEN = """\
name: mine
comment: why
fields: [text]
prompt: '{text} {answer_format}'
axes: {overall: {asks: how good, low: 1, high: 5}}
"""


@pytest.mark.parametrize(
    ("stage", "text", "says"),
    [
        (ANNOTATE | {"rubric": "mine.yaml"}, BROKEN, "the prompt uses"),
        (ANNOTATE | {"rubric": "mine.yaml"}, "name: [", "UTF-8 YAML"),
        (SIP | {"judge": JUDGED}, BROKEN.replace("} {", "} {axes} {"), "has no text"),
        (REWRITE | {"prompt": "mine.yaml"}, "name: mine\nprompt: '{prefix} {answer_format}'\n", "has to use"),
        (
            SIP | {"judge": {"model": "world"}, "sources": ["original", "rewrite"], "objective": "rf-nll",
                   "rewriter": {"model": "world", "prompt": "mine.yaml"}},
            BROKEN,
            "a `name` and a `prompt`",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_before_the_first_stage(tmp_path, monkeypatch, stage, text, says):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "a"}\n')
    Path("mine.yaml").write_text(text)
    Path("run.yaml").write_text(dump_yaml({"name": "trial", "model": {"new": {}}, "stages": [FIRST, stage]}))
    config = load_run("run.yaml")
    with pytest.raises(ConfigError, match=r"stages\.late: ") as caught:
        plan(config)
    assert says in str(caught.value)


def test_those_that_ship_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "a"}\n')
    stages = [
        FIRST,
        ANNOTATE | {"rubric": "web-text"},
        REWRITE | {"name": "two", "prompt": "thoughts", "suffix_tokens": None},
    ]
    stages += [SIP | {"name": "three", "judge": {"model": "world", "axes": {"quality": 1.0, "safety": 1.0}}}]
    Path("run.yaml").write_text(dump_yaml({"name": "trial", "model": {"new": {}}, "stages": stages}))
    assert len(plan(load_run("run.yaml"))) == 4
