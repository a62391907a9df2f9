"""Stop strings in training and evaluation: ids as sampled, texts up to them, and who counts as cut off."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.evaluate import EvaluationPlan, evaluate
from ixt_rl.judging.engine import EngineBackend
from ixt_rl.judging.reward import _finishes
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.stops import shown
from ixt_rl.types import Rollout
from tests.unit.rollout.stop_tokenizers import byte_tokenizer_of
from tests.unit.trainers import sip_helpers
from tests.unit.trainers.helpers import WORLD, generation_batch, make_trainer, rows, tiny

STOP = ("3", "7 1")


def rewarded(seen):
    def reward(prompts, completions, completion_ids, finish_reason, **_):
        seen.append((completions, completion_ids, finish_reason))
        return [float(number % 2) for number in range(len(prompts))]

    return reward


def sampled(method, tmp_path, *, seen=None, **options):
    """(batch of a generation of the model itself, what the reward was given)."""
    seen = [] if seen is None else seen
    rollouts = EngineRollouts(parity_limit=math.inf, stop=STOP)
    trainer = make_trainer(method, tmp_path, reward=rewarded(seen), rollouts=rollouts, **options)
    return trainer, generation_batch(trainer, 8), seen[0]


@pytest.mark.parametrize("method", ["grpo", "intro"])
def test_rewards_read_up_to_the_stop_string_and_the_ids_keep_it(method, tmp_path):
    trainer, batch, (texts, ids, reasons) = sampled(method, tmp_path)
    tokenizer = trainer.processing_class
    assert {*reasons} == {"eos", "stop", "length"}
    for text, of_row, reason in zip(texts, ids, reasons, strict=True):
        whole = tokenizer.decode(of_row, skip_special_tokens=True)
        assert not any(one in text for one in STOP)
        assert whole.startswith(text)
        assert (whole != text) == (reason == "stop")
        assert (len(of_row) == 34) >= (reason == "length")
    assert trainer.completion_lists(batch) == [list(of_row) for of_row in ids]
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items() if "completions/" in name}
    whole_lengths = [len(of_row) for of_row, reason in zip(ids, reasons, strict=True) if reason != "length"]
    assert metrics["completions/clipped_ratio"] == pytest.approx(reasons.count("length") / len(reasons))
    assert metrics["completions/mean_terminated_length"] == pytest.approx(sum(whole_lengths) / len(whole_lengths))
    assert metrics["completions/min_terminated_length"] == min(whole_lengths)
    assert metrics["completions/max_terminated_length"] == max(whole_lengths)


@pytest.mark.parametrize("method", ["grpo", "intro"])
def test_what_a_stop_string_ended_is_not_masked_as_truncated(method, tmp_path):
    trainer, batch, (_, ids, reasons) = sampled(method, tmp_path, mask_truncated_completions=True)
    lengths = [0 if reason == "length" else len(of_row) for of_row, reason in zip(ids, reasons, strict=True)]
    assert batch["completion_mask"].sum(dim=1).tolist() == lengths
    assert int(batch["num_items_in_batch"]) == sum(lengths)
    assert trainer.mask_truncated_completions
    if method == "intro":
        expected = [bool(length) and number % 2 == 1 for number, length in enumerate(lengths)]
        assert batch["kept"].tolist() == expected


def test_an_update_without_a_hit_is_the_update_without_stop_strings(tmp_path):
    found = []
    for stop in ((), ("no such text",)):
        trainer = make_trainer("grpo", tmp_path, rollouts=EngineRollouts(parity_limit=math.inf, stop=stop))
        trainer.train()
        found.append(torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]))
    assert torch.equal(*found)


def test_messages_end_before_stop_strings_and_keep_what_was_parsed_out_of_them():
    tokenizer = byte_tokenizer_of(48)
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("c", "ab", "END"[:1], "ND")]
    assert tokenizer.decode(ids) == "cabEND"
    plain = [[{"role": "assistant", "content": "cabEND"}]]
    assert shown(tokenizer, plain, [ids], ("END",)) == [[{"role": "assistant", "content": "cab"}]]
    parsed = [[{"role": "assistant", "reasoning_content": "c", "content": "abEND"}], [{"role": "assistant"}]]
    assert shown(tokenizer, parsed[:1], [ids], ("END", "D")) == [[{**parsed[0][0], "content": "ab"}]]
    assert shown(tokenizer, [[{"role": "assistant", "content": None}]], [ids], ("END",))[0][0]["content"] is None


def test_stop_strings_of_rollouts_are_checked():
    with pytest.raises(ConfigError, match="are a list"):
        EngineRollouts(stop="END")


def test_an_evaluation_reads_up_to_the_stop_string():
    tokenizer, read = WORLD.tokenizer(), []

    def measure(rows, ids, texts):
        read.extend(zip(ids, texts, strict=True))
        return [{"checked": 1.0} for _ in rows]

    task = SimpleNamespace(measure=measure, extracted=None, sources=())
    engine = TransformersEngine(tiny(), (11,), 12, tokenizer=tokenizer)
    plan = EvaluationPlan(24, samples=8, keep_samples=100, stop=STOP)
    metrics, samples = evaluate(engine, tokenizer, task, rows(4), plan)
    stopped = 0
    for ids, text in read:
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        stopped += whole != text
        assert whole.startswith(text)
        assert not any(one in text for one in STOP)
    assert stopped > 10
    reasons = [sample["finish_reason"] for sample in samples]
    assert metrics["sampled/truncated"] == reasons.count("length") / len(reasons)
    assert reasons.count("stop") > 4


def test_a_candidate_of_sip_is_judged_up_to_the_stop_string_and_trained_with_it(tmp_path):
    trainer = sip_helpers.make_trainer(tmp_path, engine="model", config={"objective": "rf-nll"})
    trainer.rollouts.stop = STOP
    proposed = [one.candidate for of_item in trainer.propose(sip_helpers.prompts(8)) for one in of_item]
    rollouts = [one for one in proposed if one.source == "rollout"]
    stopped = [one for one in rollouts if trainer.text(one.ids) != one.text]
    assert len(stopped) > 4
    for one in stopped:
        assert trainer.text(one.ids).startswith(one.text)
        assert not any(stop in one.text for stop in STOP)
        assert any(stop in trainer.text(one.ids) for stop in STOP)
    (ended,) = (trainer.means.take(trainer.accelerator)["rollout/ended"],)
    cut = [len(one.ids) == 34 and one not in stopped and one.ids[-1] not in trainer.eos_token_ids for one in rollouts]
    assert ended == pytest.approx(1 - sum(cut) / len(rollouts))


def test_a_judges_reply_that_a_stop_string_ended_is_whole():
    tokenizer = byte_tokenizer_of(48)
    backend = EngineBackend(SimpleNamespace(policy_version=0), tokenizer, "judge", max_prompt_tokens=10)
    ids = tuple(tokenizer.convert_tokens_to_ids(token) for token in ("c", "ab", "EN", "D."))
    reply = backend._reply(Rollout((4,), ids, (0.0,) * 4, "stop", 0), 0.0, ("END",))
    assert (reply.text, reply.finish) == ("cab", "stop")
    assert _finishes([[1]] * 3, ["eos", "stop", "length"], None) == ["stop", "stop", "length"]
