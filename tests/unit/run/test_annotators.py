"""N_judge of a document stage: as the stage says, else as `annotate` wrote beside its documents."""

from __future__ import annotations

import json

import pytest

from ixt_rl.methods.documents import DocumentStage
from ixt_rl.run.stages.sources import annotators


def stage(folders, **changes) -> DocumentStage:
    sources = [{"path": str(folder / "part-000000.jsonl")} for folder in folders]
    return DocumentStage(
        name="documents", type="pretrain", data={"sources": sources}, steps=1, optim={"lr": 1e-3}, **changes
    )


@pytest.mark.parametrize(
    ("written", "said", "found"),
    [
        ([{"parameters": 300}], {}, 300),
        ([{"parameters": 300}, {"parameters": 7000}], {}, 7000),
        ([{"parameters": None}], {}, 0),
        ([{"parameters": 300}], {"judge_parameters": 5}, 5),
        ([None], {}, None),
    ],
)
def test_the_size_of_the_judge_is_read_from_the_annotation(written, said, found, tmp_path):
    folders = []
    for number, judge in enumerate(written):
        folder = tmp_path / str(number)
        folder.mkdir()
        if judge is not None:
            (folder / "annotation.json").write_text(json.dumps({"judge": judge}))
        folders.append(folder)
    assert annotators(stage(folders, **said)) == found


@pytest.mark.parametrize(("feedback", "found"), [("feedback", 300), ("second", 7000), ("second_b", 7000), (None, 7000)])
def test_of_rows_that_stages_made_of_rows_it_is_who_wrote_the_feedback(feedback, found, tmp_path):
    """annotated --second judge--> again --rewriter--> rewritten: each stage says whose rows it read."""
    for name, reads, judge in (
        ("annotated", None, {"judge": {"parameters": 300}, "settings": {"prefix": "feedback"}}),
        ("again", "annotated", {"judge": {"parameters": 7000}, "settings": {"prefix": "second"}}),
        ("rewritten", "again", None),
    ):
        rows = tmp_path / name / "rows"
        rows.mkdir(parents=True)
        started = {"ingredients": {"settings": {"data": {"from": reads} if reads else {"path": "corpus.jsonl"}}}}
        (tmp_path / name / "started.json").write_text(json.dumps(started))
        if judge is not None:
            (rows / "annotation.json").write_text(json.dumps(judge))
    sources = [{"path": str(tmp_path / "rewritten" / "rows"), "feedback": feedback}]
    read = DocumentStage(name="documents", type="pretrain", data={"sources": sources}, steps=1, optim={"lr": 1e-3})
    assert annotators(read) == found
