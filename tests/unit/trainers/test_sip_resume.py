"""A SIP run with judge and rewriter behind caches: stopped anywhere, its counts are those of the straight run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ixt_rl.judging import CandidateJudge, FunctionBackend, Judge, JudgeCache
from ixt_rl.rewriting import Rewriter, load_rewrite
from ixt_rl.trainers.sip.scoring import counts_of, tallies
from ixt_rl.types import SamplingParams
from tests.unit.trainers.sip_helpers import TOKENIZER, make_trainer, prompts, tiny
from tests.unit.trainers.test_resume import STEPS, assert_same

SAMPLING = SamplingParams(64, seed=0)
ALL = ["original", "rewrite", "rollout"]


class Costly(FunctionBackend):
    """A function whose replies cost tokens, as a model's do; counts what it is asked."""

    asked = 0

    def _call(self, request):
        self.asked += 1
        length = sum(map(len, request.fields.values()))
        return replace(super()._call(request), prompt_tokens=length, completion_tokens=1 + length % 5)


def better(fields) -> str:
    a, b = (sum(map(ord, fields[name])) % 7 for name in "ab")
    return "A" if a > b else "B" if b > a else "tie"


def rewritten(fields) -> str | None:
    return "COPY" if sum(map(ord, fields["suffix"])) % 2 else fields["suffix"][::-1]


def trainer(folder: Path, cached: Path, steps: int = 4):
    judge = Judge(Costly(better, "judge"), SAMPLING, cache=JudgeCache(cached / "judge.sqlite"))
    rewriter = Rewriter(
        Costly(rewritten, "rewriter"), SAMPLING, TOKENIZER, load_rewrite("quality"), suffix_tokens=12,
        cache=JudgeCache(cached / "rewriter.sqlite"),
    )  # fmt: skip
    config = {
        "max_steps": steps, "sources": ALL, "per_device_train_batch_size": 4, "judge_parts": 2, "num_generations": 2,
        "logging_steps": 2, **STEPS,
    }  # fmt: skip
    # 6 prompts: from the second update on, originals and rewrites are asked for again
    return make_trainer(
        folder, tiny(), data=prompts(6), config=config, judge=CandidateJudge(judge, {"quality": 1.0}), rewriter=rewriter
    )


def counts(one) -> list[dict]:
    timeless = [counts_of(tally) for who in (one.judge, one.rewriter) for tally in tallies(who)]
    for tally in timeless:
        for part in (tally, tally.get("work", {})):
            part.pop("seconds", None)
    return timeless


def backends(one) -> Sequence[Costly]:
    return one.judge.judge.backend, one.rewriter.backend


@pytest.mark.parametrize("step", [1, 3])
def test_what_a_killed_run_asked_is_not_asked_again_and_counts_as_asked(tmp_path, step):
    straight = trainer(tmp_path / "straight", tmp_path)
    straight.train()
    assert straight.judge.judge.tally.cached > 0  # true repeats are free
    assert straight.ledger.tokens["annotate"] > 0
    (tmp_path / "later").mkdir()
    for file in tmp_path.glob("*.sqlite*"):  # its log of writes too
        shutil.copy(file, tmp_path / "later")
    resumed = trainer(tmp_path / "resumed", tmp_path / "later")  # as if killed after the last update
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{step}"))
    assert_same(resumed, straight)
    assert counts(resumed) == counts(straight)
    assert [backend.asked for backend in backends(resumed)] == [0, 0]


def test_a_reply_counts_once_an_update_and_never_for_a_later_one(tmp_path):
    straight = trainer(tmp_path / "a", tmp_path, steps=1)
    cache: JudgeCache = straight.judge.judge.cache
    cache.at(3)
    request = next(iter(_requests()))
    key = cache.key("judge", request)
    from ixt_rl.judging.backend import Reply

    cache.put(key, Reply("A", "stop", 7, 1))
    assert not cache.counts(key)  # it was counted when it came
    again = JudgeCache(cache.file)
    assert not again.counts(key)  # outside of a training, a reply that is there is free
    again.at(2)
    assert again.counts(key)
    assert not again.counts(key)
    again.at(3)
    assert again.counts(key)
    again.at(4)
    assert not again.counts(key)


def _requests():
    from ixt_rl.judging.backend import Request
    from ixt_rl.judging.rubric import load_rubric

    rubric = load_rubric("pairwise-quality")
    yield Request(({"role": "user", "content": "?"},), rubric, {"a": "x"}, SAMPLING)
