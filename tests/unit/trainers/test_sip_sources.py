"""Candidates from sources of one's own, registered by name or proposed: merged, judged, trained and counted."""

from __future__ import annotations

from collections import Counter

import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers import SIPTrainer
from ixt_rl.trainers.sip import Proposed
from ixt_rl.types import Candidate
from ixt_rl.worlds.addition.problem import right_rationale
from tests.unit.trainers.sip_helpers import (
    candidate,
    judge_by,
    loss_and_gradient,
    make_trainer,
    problem,
    prompts,
    tiny,
    update,
)

WITH_TEACHER = ["original", "rollout", "teacher"]
NO_ROLLOUTS = {"num_generations": None}


def lesson(item) -> tuple[int, ...]:
    return tuple(right_rationale(problem(item.prefix_ids), "D", True))


def teacher(items):
    """One lesson in four is missing; of the others one in three comes with the item's own suffix as a second one."""
    out = []
    for item in items:
        kind = sum(item.prefix_ids) % 4
        one = candidate("whatever it says", lesson(item))
        out.append(None if kind == 3 else [one, candidate("x", item.suffix_ids)] if kind == 0 else one)
    return out


class Registered(SIPTrainer):
    sources = {"teacher": teacher, "parrot": lambda items: [candidate("", item.suffix_ids) for item in items]}


def examples(parts):
    return [example for part in parts for example in part["examples"]]


@pytest.mark.parametrize("objective", ["dpo", "rf-nll", "grpo"])
@pytest.mark.parametrize("how", ["given", "registered"])
def test_a_source_of_ones_own_is_judged_counted_and_trained(tmp_path, how, objective):
    options = {"sources": {"teacher": teacher}} if how == "given" else {"trainer_class": Registered}
    lessons = {item.prefix_ids: lesson(item) for item in prompts()}
    trainer = make_trainer(
        tmp_path,
        judge=judge_by(lambda prefix, text: float(text in best)),
        config={"objective": objective, "sources": WITH_TEACHER},
        **options,
    )
    best = {trainer.text(ids) for ids in lessons.values()}
    assert [*trainer.sources] == ["teacher"]
    parts = update(trainer)
    taught = [item for item in prompts(8) if sum(item.prefix_ids) % 4 != 3]
    trained = examples(parts)
    chosen = {example.prefix_ids: example.texts[0] for example in trained}
    for item in taught:
        if objective != "grpo":
            assert chosen[item.prefix_ids].ids == lessons[item.prefix_ids]
            assert "teacher" in chosen[item.prefix_ids].written
            assert chosen[item.prefix_ids].candidate.source in ("teacher", "rollout", "original")
    found = trainer.means.take(trainer.accelerator)
    assert found["teacher/missing"] == pytest.approx(1 - len(taught) / 8)
    second = sum(sum(item.prefix_ids) % 4 == 0 for item in taught)
    assert found["score/teacher"] == pytest.approx(len(taught) / (len(taught) + second))
    assert found["chosen/teacher"] > 0.2 and found["chosen_raw/teacher"] > 0.1
    assert found["chosen/original"] + found["chosen/rollout"] + found["chosen/teacher"] == pytest.approx(1)
    loss, gradient = loss_and_gradient(trainer, parts)
    assert loss == loss and gradient.abs().max() > 0


def test_a_run_logs_a_source_under_its_name_and_resumes(tmp_path):
    config = {"sources": WITH_TEACHER, "max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    runs = []
    for name, resume in (("a", None), ("b", str(tmp_path / "a" / "checkpoint-2"))):
        trainer = make_trainer(tmp_path / name, tiny(), sources={"teacher": teacher}, config=config)
        trainer.train(resume_from_checkpoint=resume)
        runs.append(trainer)
    rows = [run.state.log_history[2] for run in runs]
    assert "score/teacher" in rows[0] and "chosen_alone/teacher" in rows[0] and "teacher/missing" in rows[0]
    assert {name: rows[1][name] for name in rows[0] if "teacher" in name} == {
        name: value for name, value in rows[0].items() if "teacher" in name
    }
    assert rows[1]["loss"] == rows[0]["loss"]


def test_a_source_alone_is_enough_where_it_gives_several(tmp_path):
    def several(items):
        return [[candidate("", lesson(item)), candidate("", item.suffix_ids)] for item in items]

    config = {"sources": ["teacher"], **NO_ROLLOUTS}
    lessons = {candidate("", lesson(item)).text for item in prompts()}
    judge = judge_by(lambda prefix, text: float(text in lessons))
    trained = examples(update(make_trainer(tmp_path, sources={"teacher": several}, config=config, judge=judge)))
    assert len(trained) == 8
    for example in trained:
        assert [dict(text.written) for text in example.texts] == [{"teacher": 1}] * 2
        assert [text.score for text in example.texts] == [1, 0]


def test_candidates_are_proposed_unmerged_and_a_subclass_adds_to_them(tmp_path):
    class Adds(SIPTrainer):
        def propose(self, items, part=0):
            found = super().propose(items, part)
            for of_item, item in zip(found, items, strict=True):
                of_item.append(Proposed(self.candidate("hint", item.suffix_ids)))
            return found

    trainer = make_trainer(tmp_path, trainer_class=Adds, config={"sources": ["original", "rollout", "hint"]})
    for item, proposed in zip(prompts(8), trainer.propose(prompts(8)), strict=True):
        written = Counter(one.candidate.source for one in proposed)
        assert written == {"original": 1, "rollout": 4, "hint": 1}
        assert all((one.logprobs is None) == (one.candidate.source != "rollout") for one in proposed)
        assert [one.candidate.ids for one in proposed].count(item.suffix_ids) >= 2
    for group in trainer.judged(prompts(8)):
        (text,) = [text for text in group.texts if text.written["hint"]]
        assert text.written["original"] == 1 and text.candidate.source == "original"


def test_sources_in_another_order_give_the_same_update(tmp_path):
    made = []
    for names in (["original", "rewrite", "teacher", "rollout"], ["rollout", "teacher", "rewrite", "original"]):
        trainer = make_trainer(tmp_path, config={"sources": names}, sources={"teacher": teacher})
        made.append([example.texts for example in examples(update(trainer))])
    assert made[0] == made[1] != []


# ---------------------------------------------------------------- what does not go together


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"config": {"sources": WITH_TEACHER}}, "no source 'teacher'"),
        ({"config": {"sources": ["original", "rollouts"], **NO_ROLLOUTS}}, "did you mean `rollout`"),
        ({"config": {"sources": ["rollout", "techer"]}, "trainer_class": Registered}, "did you mean `teacher`"),
        ({"sources": {"teacher": teacher}}, "would not be used"),
        ({"sources": {"rollout": teacher}}, "has that name"),
        ({"sources": {"rewrite": teacher}, "config": {"sources": ["rollout", "rewrite"]}}, "has that name"),
        ({"sources": {"teacher": teacher}, "config": {"objective": "nll", **NO_ROLLOUTS}}, "not be used"),
    ],
    ids=["missing", "misspelt", "misspelt-own", "unused", "own-name", "rewriters-name", "baseline"],
)
def test_sources_that_do_not_go_with_the_config_are_refused(tmp_path, options, says):
    with pytest.raises(ConfigError) as error:
        make_trainer(tmp_path, **options)
    assert says in str(error.value)


@pytest.mark.parametrize("answer", ["a text", [7, 8], Proposed(Candidate("teacher", (7,), "7"))])
def test_a_source_that_gives_no_candidates_is_told_so(tmp_path, answer):
    def wrong(items):
        return [answer if isinstance(answer, str | list) else [answer] for _ in items]

    trainer = make_trainer(tmp_path, sources={"teacher": wrong}, config={"sources": WITH_TEACHER})
    with pytest.raises(DataError, match="source 'teacher' gave"):
        update(trainer)


def test_what_propose_must_not_give_is_said(tmp_path):
    class Merged(SIPTrainer):
        def propose(self, items, part=0):
            return [[one.candidate for one in of_item] for of_item in super().propose(items, part)]

    class Unnamed(SIPTrainer):
        def propose(self, items, part=0):
            return [[*one, Proposed(self.candidate("hint", (7,)))] for one in super().propose(items, part)]

    with pytest.raises(DataError, match="not merged"):
        update(make_trainer(tmp_path, trainer_class=Merged))
    with pytest.raises(DataError, match="source 'hint'"):
        update(make_trainer(tmp_path, trainer_class=Unnamed))


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        ("propose", lambda self, items: [], "propose(items, part)"),
        ("ask", lambda self, groups: None, "ask(items, groups)"),
        ("example", lambda self, group, seed: None, "example(group)"),
        ("count", lambda self, example: 0, "count(group, example)"),
    ],
    ids=["propose", "ask", "example", "count"],
)
def test_hooks_with_another_signature_are_refused(tmp_path, name, method, says):
    with pytest.raises(ConfigError) as error:
        make_trainer(tmp_path, trainer_class=type("Mine", (SIPTrainer,), {name: method}))
    assert f"Mine.{name}(" in error.value.what and says in error.value.reason
